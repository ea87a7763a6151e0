"""An endless iterator of batches that can be resumed from the number of its step."""

import atexit
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from absl import logging

from metastyle_jax.core import checks
from metastyle_jax.data import image_source, worker_processes

if TYPE_CHECKING:
    import grain  # slow to import, and needed only when the first batch is made

BatchT = TypeVar('BatchT')


class BatchIterator(Iterator[BatchT], Generic[BatchT]):
    """An endless iterator of batches that can resume exactly from a saved state.

    The state does not depend on the number of workers. The workers end when the iterator is closed,
    when a `with` statement with the iterator ends, or with the process. Nothing is read before the
    first batch is requested.

    Args:
        streams: datasets of whole batches, all of the same length.
        build: makes a batch from one element of each stream.
        workers: number of processes that read ahead; 0 to read ahead in threads of this process.
        facts: name -> JSON value of properties of the data that change the sequence of batches.
            They are saved with the state, so that changes can be reported when a run is resumed.
    """

    def __init__(
        self,
        streams: Sequence['grain.MapDataset'],
        build: Callable[..., BatchT],
        *,
        workers: int,
        facts: dict[str, Any] | None = None,
    ):
        import grain

        checks.whole_number('workers', workers, 0, error=image_source.DataError)
        self._dataset = grain.experimental.ZipMapDataset(streams)
        self._build = build
        self._workers = int(workers)
        self._step = 0
        self._facts = facts or {}
        self._iterator: grain.DatasetIterator | None = None

    def __next__(self) -> BatchT:
        try:
            element = self._first() if self._iterator is None else next(self._iterator)
        except BaseException as error:
            self.close()
            if isinstance(error, image_source.DataError):
                # Grain adds notes and a reconstructed traceback, which do not help the user.
                raise image_source.DataError(str(error)) from None
            if explanation := worker_processes.explain(error, self._workers):
                raise image_source.DataError(explanation) from error
            raise
        self._step += 1
        return self._build(*element)

    def _first(self) -> tuple:
        """Starts to read ahead, and returns the first element."""
        self._iterator = worker_processes.start(self._dataset[self._step :], self._workers)
        if not self._workers:
            return next(self._iterator)
        atexit.register(_close_at_exit, weakref.ref(self))
        return worker_processes.first(self._iterator)

    def get_state(self) -> dict[str, Any]:
        """Returns the state after the most recent batch, as JSON types, for `set_state`."""
        return {'step': self._step, **self._facts}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continues after the batch at which `get_state` returned the given state.

        The state may come from another process. If the data have changed since then, a warning
        lists the changes.

        Args:
            state: result of `get_state`.

        Raises:
            DataError: `state` is not such a result.
        """
        if not isinstance(state, dict) or 'step' not in state:
            raise image_source.DataError(
                f'{state!r} is not a state of the data. Give the result of get_state.'
            )
        checks.whole_number('step', state['step'], 0, error=image_source.DataError)
        changed = [
            f'{key} was {state[key]}, is {value}'
            for key, value in self._facts.items()
            if state.get(key, value) != value
        ]
        if changed:
            logging.warning(
                'The data changed since the state was saved, so the batches will differ: %s.',
                '; '.join(changed),
            )
        self.close()
        self._step = int(state['step'])

    def close(self) -> None:
        """Ends the workers; new workers are started if another batch is requested."""
        iterator, self._iterator = self._iterator, None
        if iterator is not None:
            iterator.close()

    def __enter__(self) -> 'BatchIterator[BatchT]':
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _close_at_exit(reference: weakref.ref[BatchIterator]) -> None:
    """Ends the workers of an iterator before multiprocessing's own exit function runs.

    That function closes the queues first and then sends SIGTERM to the workers, which they ignore,
    so it would wait for them for ever.
    """
    batches = reference()
    if batches is not None:
        batches.close()
