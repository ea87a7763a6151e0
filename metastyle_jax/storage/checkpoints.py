"""Saves and restores the checkpoints of a training run with Orbax."""

import contextlib
import functools
import itertools
import json
import logging
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping
from concurrent import futures
from typing import Any

import numpy as np
from orbax import checkpoint as ocp

from metastyle_jax.core import errors, files, types
from metastyle_jax.storage import (
    checkpoint_contents,
    checkpoint_reading,
    run_folder,
    tensor_files,
)

# Seconds to wait for a save. Tensorstore schedules its threads by the calendar clock: if the clock
# is set back, a save waits until the clock has caught up. Orbax's own limit uses that clock too.
_LIMIT = 600
_log = logging.getLogger(__name__)
_abandoned: list[pathlib.Path] = []  # folders of saves that did not end


class Manager:
    """Saves checkpoints in the background, and restores them.

    A checkpoint appears completely or not at all; incomplete files of a killed run are removed at
    the next start. The latest checkpoints and the one with the lowest metric are kept. Arrays are
    copied to the host before `save` returns, so their buffers may be donated at once. A checkpoint
    can be opened on a machine with any number of devices.

    Args:
        folder: the folder of the checkpoints, with one sub-folder for each step; it is created if
            it does not exist.
        keep: number of latest checkpoints to keep, at least 1.
        every: number of steps between checkpoints; `save` does nothing at other steps unless
            `force` is True.

    Raises:
        CheckpointError: the folder cannot be written or read; every method may raise it. An error
            of a save in the background is raised by the next `save`, `wait` or `close`.
    """

    def __init__(self, folder: str | os.PathLike[str], *, keep: int = 3, every: int = 1):
        if keep < 1 or every < 1:
            raise tensor_files.CheckpointError(
                f'keep={keep} and every={every} must both be at least 1.'
            )
        self.folder = run_folder.absolute(run_folder.to_path(folder))
        self._every = every
        # Orbax reports the error of a save to the thread that started it, so all calls that wait
        # for a save are made in one thread.
        self._caller = futures.ThreadPoolExecutor(1, 'checkpoint')
        with self._errors('open'):
            damaged = checkpoint_reading.steps_without_metric(self.folder)
            if damaged and len(damaged) == sum(x.name.isdecimal() for x in self.folder.iterdir()):
                raise _none_whole(self.folder, damaged)
            self._rename(damaged)
            self._manager = checkpoint_reading.open_manager(self.folder, keep=keep)

    def __enter__(self) -> 'Manager':
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def save(
        self,
        step: int,
        state: types.PyTree,
        *,
        data_state: Mapping[str, Any],
        metric: float | None = None,
        force: bool = False,
    ) -> bool:
        """Starts to save a checkpoint; first waits until the one before it is written.

        Args:
            step: number of finished steps.
            state: a pytree of arrays, numbers and typed keys; its entry ``params`` is θ.
            data_state: state of the data iterator: JSON types and NumPy scalars.
            metric: the checkpoint with the lowest metric is the best one. A checkpoint without a
                metric (None or NaN) cannot be the best.
            force: whether to save even if `every` does not divide the step.

        Returns:
            Whether a save was started: False if `every` does not divide the step, or if the step
            is already saved.

        Raises:
            CheckpointError: this save or the one before it failed.
        """
        if not (force or step % self._every == 0) or step in self._manager.all_steps():
            return False
        flat = tensor_files.flatten(state)
        usable = metric is not None and np.isfinite(metric)
        metrics = {'metric': float(metric)} if usable else None  # type: ignore[arg-type]
        meta = checkpoint_contents.metadata_of(state, flat, data_state, metrics)
        args = ocp.args.Composite(
            state=ocp.args.StandardSave(tensor_files.unflatten(flat)), meta=ocp.args.JsonSave(meta)
        )
        with self._errors('save'):
            save = functools.partial(self._manager.save, step, args=args, metrics=metrics)
            return bool(self._call(functools.partial(save, force=True)))

    def restore(
        self, abstract_state: types.PyTree
    ) -> checkpoint_contents.RestoredCheckpoint | None:
        """Reads the latest undamaged checkpoint.

        Later checkpoints that are damaged are renamed to ``STEP.damaged``, with a warning. If a
        checkpoint cannot be read for another reason, such as missing memory or permission, nothing
        is renamed.

        Args:
            abstract_state: the structure, shapes and types of the result: arrays or
                `jax.ShapeDtypeStruct`. Where it has NumPy arrays or Python numbers, the result has
                these too; all other leaves are uncommitted JAX arrays on the default device.

        Returns:
            The checkpoint, or None if the folder has none.

        Raises:
            CheckpointError: all checkpoints are damaged, one cannot be read, or its structure
                differs from that of `abstract_state`.
        """
        self.wait()
        damaged = []
        for step in sorted(self._manager.all_steps(), reverse=True):
            path = self.folder / str(step)
            try:
                flat, meta = checkpoint_reading.read_checked(self._manager, path)
            except checkpoint_reading.DamagedError as error:
                damaged.append(step)
                _log.warning('The checkpoint %s is damaged: %s', path, error)
                continue
            state = checkpoint_contents.restore_leaves(abstract_state, flat, meta['keys'], path)
            self._rename(damaged)
            if damaged:
                self._manager.reload()
            data_state = json.loads(meta['data_state'])
            return checkpoint_contents.RestoredCheckpoint(step, state, data_state)
        if damaged:
            raise _none_whole(self.folder, damaged)
        return None

    def latest_step(self) -> int | None:
        """Returns the step of the latest checkpoint, including one that is being saved."""
        return self._manager.latest_step()

    def best_step(self) -> int | None:
        """Returns the step of the checkpoint with the lowest metric; None if none has a metric."""
        return self._manager.best_step()

    def wait(self) -> None:
        """Waits until a running save is on the disk; returns at once if there is none."""
        with self._errors('save'):
            self._call(self._manager.wait_until_finished)

    def close(self) -> None:
        """Waits for the running save and ends the background threads."""
        if self.folder in _abandoned:
            return
        try:
            self.wait()
        finally:
            if self.folder not in _abandoned:
                with self._errors('save'):
                    self._call(self._manager.close)
            self._caller.shutdown(wait=False)

    def _call(self, function: Callable[[], Any]) -> Any:
        """Calls a function of Orbax in one thread; raises an error after `_LIMIT` seconds."""
        call = self._caller.submit(function)
        if not futures.wait([call], timeout=_LIMIT).done:
            _abandoned.append(self.folder)
            raise tensor_files.CheckpointError(
                f'The checkpoint being saved in {self.folder} was not written within {_LIMIT} s: '
                'check that the disk or bucket answers, and that the clock is not set back during '
                'the run. The checkpoints saved before are whole, and the same command resumes.'
            )
        return call.result()

    def _rename(self, damaged: list[int]) -> None:
        """Renames damaged checkpoints, so that their steps can be saved again."""
        for step in damaged:
            source = self.folder / str(step)
            with self._errors('rename'), contextlib.suppress(FileNotFoundError):
                source.rename(_free_name(source.with_suffix('.damaged')))

    @contextlib.contextmanager
    def _errors(self, verb: str) -> Iterator[None]:
        """Turns any error in the block into a CheckpointError with the folder and a remedy."""
        try:
            yield
        except errors.UserError:
            raise
        except Exception as error:
            manager = getattr(self, '_manager', None)
            if manager is not None:
                # Orbax has already listed the failed step and dropped the checkpoints that it would
                # have replaced; reading the folder again corrects both.
                manager.reload()
            raise tensor_files.CheckpointError(
                f'Cannot {verb} checkpoints in {self.folder}: {files.first_line(error)}. '
                'Free some space and check that the folder is writable, or choose another workdir; '
                'the checkpoints saved before are whole.'
            ) from error


class NoCheckpoints:
    """Replaces `Manager` in processes that do not save; its methods do nothing."""

    def __enter__(self) -> 'NoCheckpoints':
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def save(self, step: int, state: types.PyTree, **_: Any) -> bool:
        """Saves nothing and returns False."""
        return False

    def restore(
        self, abstract_state: types.PyTree
    ) -> checkpoint_contents.RestoredCheckpoint | None:
        """Reads nothing and returns None."""
        return None

    def latest_step(self) -> int | None:
        """Returns None."""
        return None

    def wait(self) -> None:
        """Returns at once."""


def abandoned() -> bool:
    """Whether a save did not end in time; its threads then prevent a normal end of the process."""
    return bool(_abandoned)


def _free_name(path: pathlib.Path) -> pathlib.Path:
    """Returns the path, or the first of PATH-2, PATH-3, ... that does not exist."""
    names = itertools.chain(
        [path], (path.with_name(f'{path.name}-{i}') for i in itertools.count(2))
    )
    return next(name for name in names if not name.exists())


def _none_whole(folder: pathlib.Path, tried: list[int]) -> tensor_files.CheckpointError:
    """Makes the error for a folder in which every checkpoint is damaged."""
    return tensor_files.CheckpointError(
        f'No checkpoint in {folder} is whole (tried {tried}): start again in another workdir, '
        'or put a copy back.'
    )
