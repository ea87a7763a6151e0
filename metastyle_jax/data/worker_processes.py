"""Reads batches ahead, in threads of this process or in worker processes that Grain starts.

Ctrl-C and SIGTERM may reach all processes of a group. Workers ignore both signals, because the
parent process may need more batches before it stops. A worker ends when its parent ends.
"""

import concurrent.futures
import multiprocessing
import multiprocessing.connection
import multiprocessing.resource_tracker
import os
import signal
import threading
from typing import TYPE_CHECKING, Any

from absl import flags

if TYPE_CHECKING:
    import grain  # slow to import, and needed only where reading starts

_PARENTS = (signal.SIGINT, signal.SIGTERM)  # signals that only the parent process handles


def start(dataset: 'grain.MapDataset', count: int) -> 'grain.DatasetIterator':
    """Starts to iterate over a dataset and to read ahead.

    Args:
        dataset: the dataset; if there are workers, it must be picklable.
        count: number of worker processes; 0 to read ahead in threads of this process.

    Returns:
        Grain's iterator; its method `close` ends the workers. Nothing is read before the first
        element is requested.
    """
    import grain

    _admit_grain_flags()
    threads = 0 if count else min(os.cpu_count() or 1, 8)
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads)
    ahead = grain.MultiprocessingOptions(num_workers=count, per_worker_buffer_size=1)
    return iter(dataset.to_iter_dataset(options).mp_prefetch(ahead, worker_init_fn=_start_worker))


def first(iterator: 'grain.DatasetIterator') -> Any:
    """Starts the workers and returns the first element.

    The signals of `_PARENTS` are blocked in the workers, so that these ignore them from the start.
    """
    outcome: concurrent.futures.Future = concurrent.futures.Future()

    def run() -> None:
        # A process inherits the signals that are blocked in the thread that starts it. Blocking
        # them in a new thread leaves the main thread of this process as it is.
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
    """Returns an explanation if an error says that a worker ended; None for other errors.

    Args:
        error: the error.
        count: number of workers.
    """
    if 'Worker process was terminated' not in str(error):
        return None
    return (
        f'One of the {count} data workers ended unexpectedly; what it printed is above. '
        'If memory or /dev/shm was full, free some or use fewer workers. If your own script '
        "started the workers, put its code under `if __name__ == '__main__':`. "
        'With workers=0 no processes are started.'
    )


def _start_worker(index: int, count: int) -> None:
    """Prepares a worker process: it ignores signals, and ends when its parent has ended."""
    del index, count
    _admit_grain_flags()
    for number in _PARENTS:
        signal.signal(number, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_parent(sentinel: int = parent.sentinel) -> None:
        # Without this, Grain's workers would wait for ever for a parent that was killed.
        multiprocessing.connection.wait([sentinel])
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def _admit_grain_flags() -> None:
    """Lets Grain read its own absl flags in a program that has not parsed absl's flags."""
    for name in flags.FLAGS:
        if name.startswith('grain_'):
            flags.FLAGS[name].present = True
