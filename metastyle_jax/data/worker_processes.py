"""Reading ahead, in threads of this process or in worker processes that Grain starts.

Workers leave Ctrl-C and SIGTERM, which may reach the whole group of processes, to their parent,
which may want to save first; they end with it, however it ends.
"""

import concurrent.futures
import multiprocessing
import multiprocessing.connection
import multiprocessing.resource_tracker
import os
import signal
import threading
from typing import Any

import grain
from absl import flags

_PARENTS = (signal.SIGINT, signal.SIGTERM)  # signals that are the parent's business


def start(dataset: grain.MapDataset, count: int) -> grain.DatasetIterator:
    """Iterates over a dataset, reading ahead; nothing is read before the first element.

    Args:
        dataset: picklable where there are workers.
        count: worker processes; 0 reads ahead in threads of this process.

    Returns:
        Grain's iterator; its `close` ends the workers.
    """
    _admit_grain_flags()
    threads = 0 if count else min(os.cpu_count() or 1, 8)
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads)
    ahead = grain.MultiprocessingOptions(num_workers=count, per_worker_buffer_size=1)
    return iter(dataset.to_iter_dataset(options).mp_prefetch(ahead, worker_init_fn=_start_worker))


def first(iterator: grain.DatasetIterator) -> Any:
    """Waits for the first element, which starts the workers, with `_PARENTS` blocked in them."""
    outcome: concurrent.futures.Future = concurrent.futures.Future()

    def run() -> None:
        # Workers inherit the signals that are blocked where they start.
        if hasattr(signal, 'pthread_sigmask'):
            multiprocessing.resource_tracker.ensure_running()  # its start unblocks them again
            signal.pthread_sigmask(signal.SIG_BLOCK, _PARENTS)
        try:
            outcome.set_result(next(iterator))
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return outcome.result()


def explain(error: BaseException, count: int) -> str | None:
    """Says what may have ended one of `count` workers, or None where the error is another."""
    if 'Worker process was terminated' not in str(error):
        return None
    return (
        f'One of the {count} data workers ended unexpectedly; what it printed is above. '
        'If memory or /dev/shm was full, give them more or lower workers. If a script of your own '
        "started them, guard its code by `if __name__ == '__main__':`. "
        'workers=0 does without them.'
    )


def _start_worker(index: int, count: int) -> None:
    """Leaves signals to the parent, and ends the worker when the parent has died."""
    del index, count
    _admit_grain_flags()
    for number in _PARENTS:
        signal.signal(number, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_parent(sentinel: int = parent.sentinel) -> None:
        # Grain's workers would wait for ever for a parent that was killed.
        multiprocessing.connection.wait([sentinel])
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def _admit_grain_flags() -> None:
    """Lets Grain read its own absl flags where the program has not parsed absl's flags."""
    for name in flags.FLAGS:
        if name.startswith('grain_'):
            flags.FLAGS[name].present = True
