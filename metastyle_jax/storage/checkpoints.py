"""Checkpoints of training: those of Orbax, which this module alone imports.

A checkpoint is checked, when it is read back, against a SHA-256 taken when it was written.
"""

import contextlib
import functools
import itertools
import json
import logging
import os
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping
from concurrent import futures
from typing import Any, NamedTuple

import numpy as np
from orbax import checkpoint as ocp

from metastyle_jax.core import errors, files, types
from metastyle_jax.storage import checkpoint_contents, orbax_logging, run_folder, tensor_files

# Orbax gives the errors of its C++ parts as ValueError; these tell nothing about the file.
_NO_DAMAGE = re.compile(
    r'^(ABORTED|CANCELLED|DEADLINE_EXCEEDED|PERMISSION_DENIED|RESOURCE_EXHAUSTED|UNAVAILABLE)'
)
# Seconds to wait for a save. Tensorstore starts its threads by the calendar's clock: set back, it
# can make a save wait until it has caught up, and Orbax, whose own limit is by it too, as long.
_LIMIT = 600
_log = logging.getLogger(__name__)
_abandoned: list[pathlib.Path] = []  # folders of saves that did not end


class Manager:
    """Saves checkpoints in the background and finds them again.

    A checkpoint becomes visible whole or not at all; what a killed run left half written is
    removed on the next start. The last few are kept, and the one of the lowest metric. Arrays are
    copied to the host before `save` returns, so their buffers may be donated at once, and are
    stored without devices, so a checkpoint opens on a machine with any number of them.

    Args:
        folder: where the checkpoints go, one sub-folder for each step; made if need be.
        keep: how many of the latest are kept.
        every: steps between checkpoints; `save` does nothing at others unless forced.

    Raises:
        tensor_files.CheckpointError: from any method, if the folder cannot be written or read.
            Errors of a save in the background come out of the next `save`, `wait` or `close`.
    """

    def __init__(self, folder: str | os.PathLike[str], *, keep: int = 3, every: int = 1):
        if keep < 1 or every < 1:
            raise tensor_files.CheckpointError(
                f'keep={keep} and every={every} must both be at least 1.'
            )
        self.folder = run_folder.absolute(run_folder.place(folder))
        self._every = every
        self._caller = futures.ThreadPoolExecutor(1, 'checkpoint')
        with self._errors('open'):
            damaged = _without_rank(self.folder)
            if damaged and len(damaged) == sum(x.name.isdecimal() for x in self.folder.iterdir()):
                raise _none_whole(self.folder, damaged)
            self._rename(damaged)
            self._manager = _open(self.folder, keep=keep)

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
        """Starts to save a checkpoint, once the one before it is written.

        Args:
            step: the number of finished steps.
            state: a pytree of arrays, numbers and typed keys, with θ in its entry ``params``.
            data_state: state of the data iterator: JSON types and numpy scalars.
            metric: what the best checkpoint is chosen by, lower is better; None or NaN: it cannot
                be the best.
            force: save even if `every` does not divide the step.

        Returns:
            Whether a save was started: not at other steps, nor if the step is saved already.

        Raises:
            tensor_files.CheckpointError: if this save or the one before it failed.
        """
        if not (force or step % self._every == 0) or step in self._manager.all_steps():
            return False
        flat = tensor_files.flatten(state)
        usable = metric is not None and np.isfinite(metric)
        metrics = {'metric': float(metric)} if usable else None  # type: ignore[arg-type]
        meta = checkpoint_contents.describe(state, flat, data_state, metrics)
        args = ocp.args.Composite(
            state=ocp.args.StandardSave(tensor_files.unflatten(flat)), meta=ocp.args.JsonSave(meta)
        )
        with self._errors('save'):
            save = functools.partial(self._manager.save, step, args=args, metrics=metrics)
            return bool(self._call(functools.partial(save, force=True)))

    def restore(self, abstract_state: types.PyTree) -> checkpoint_contents.Restored | None:
        """Reads the latest whole checkpoint back.

        Damaged ones after it are logged and renamed to ``STEP.damaged``. Where one cannot be read
        for another reason, as a lack of memory or of permission, all are left as they are.

        Args:
            abstract_state: the structure, shapes and types to return; arrays or
                `jax.ShapeDtypeStruct`. Leaves come back as numpy arrays or Python numbers where
                they are such here, and else as arrays on the default device, committed to none.

        Returns:
            The checkpoint, or None if there is none at all.

        Raises:
            tensor_files.CheckpointError: if none is whole, one cannot be read, or it is of another
                structure.
        """
        self.wait()
        damaged = []
        for step in sorted(self._manager.all_steps(), reverse=True):
            path = self.folder / str(step)
            try:
                flat, meta = _read(self._manager, path)
            except _DamagedError as error:
                damaged.append(step)
                _log.warning('The checkpoint %s is damaged: %s', path, error)
                continue
            state = checkpoint_contents.restore_leaves(abstract_state, flat, meta['keys'], path)
            self._rename(damaged)
            if damaged:
                self._manager.reload()
            return checkpoint_contents.Restored(step, state, json.loads(meta['data_state']))
        if damaged:
            raise _none_whole(self.folder, damaged)
        return None

    def latest_step(self) -> int | None:
        """Tells the step of the latest checkpoint, one being saved included."""
        return self._manager.latest_step()

    def best_step(self) -> int | None:
        """Tells the step of the checkpoint of the lowest metric; None if none has one."""
        return self._manager.best_step()

    def wait(self) -> None:
        """Returns when the running save, if any, is on disk."""
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
        """Calls what waits for a save, always in one thread: Orbax tells each thread its errors."""
        call = self._caller.submit(function)
        if not futures.wait([call], timeout=_LIMIT).done:
            _abandoned.append(self.folder)
            raise tensor_files.CheckpointError(
                f'The checkpoint being saved in {self.folder} was not written within {_LIMIT} s: '
                'see that the disk or bucket answers, and that the clock is not set back during '
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
        """Turns whatever Orbax raises into an error that names folder and remedy."""
        try:
            yield
        except errors.UserError:
            raise
        except Exception as error:
            manager = getattr(self, '_manager', None)
            if manager is not None:
                # Orbax has entered the failed step, and dropped the ones it would have replaced.
                manager.reload()
            raise tensor_files.CheckpointError(
                f'Cannot {verb} checkpoints in {self.folder}: {files.first_line(error)}. '
                'Free some space and see that the folder is writable, or choose another --workdir; '
                'the checkpoints saved before are whole.'
            ) from error


class Elsewhere:
    """The part of `Manager` in a process that leaves checkpoints to another one."""

    def __enter__(self) -> 'Elsewhere':
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def save(self, step: int, state: types.PyTree, **_: Any) -> bool:
        """Saves nothing."""
        return False

    def restore(self, abstract_state: types.PyTree) -> checkpoint_contents.Restored | None:
        """Reads nothing."""
        return None

    def latest_step(self) -> int | None:
        """Knows of none."""
        return None

    def wait(self) -> None:
        """Returns at once."""


def abandoned() -> bool:
    """Whether a save did not end in time: its threads would keep the process from ending too."""
    return bool(_abandoned)


def _free_name(path: pathlib.Path) -> pathlib.Path:
    """The path, or the first of PATH-2, PATH-3, ... that is not taken."""
    names = itertools.chain(
        [path], (path.with_name(f'{path.name}-{i}') for i in itertools.count(2))
    )
    return next(name for name in names if not name.exists())


def _without_rank(folder: pathlib.Path) -> list[int]:
    """Logs and lists steps whose metric cannot be read, for which Orbax would open none at all."""
    damaged: list[int] = []
    if not isinstance(folder, pathlib.Path):  # a bucket, which writes a file whole or not at all
        return damaged
    for path in sorted(path for path in folder.glob('*') if path.name.isdecimal()):
        try:
            _metric(_rank(path) or {'metric': np.nan})  # it may have been saved without
        except (
            ValueError, RecursionError, LookupError, TypeError, NotADirectoryError
        ) as error:  # fmt: skip
            damaged.append(int(path.name))
            _log.warning(
                'The checkpoint %s is damaged: its metric cannot be read (%s)',
                path,
                files.first_line(error),
            )
        except OSError as error:
            raise tensor_files.CheckpointError(
                f'The metric of the checkpoint {path} cannot be read ({error.strerror}), and may '
                'be whole: see that its files are readable, or move it away.'
            ) from error
    return damaged


def _none_whole(folder: pathlib.Path, tried: list[int]) -> tensor_files.CheckpointError:
    """Says that there is nothing to go on from, and what to do."""
    return tensor_files.CheckpointError(
        f'No checkpoint in {folder} is whole (tried {tried}): start again in another --workdir, '
        'or put a copy back.'
    )


def _open(folder: pathlib.Path, keep: int | None = None) -> ocp.CheckpointManager:
    """Opens Orbax's manager, for reading alone unless told how many to keep.

    The state is the same in all processes, so Orbax is to wait for no other than the first.
    """
    # Orbax reports every step of its work, and logs each exception several times.
    logging.getLogger('absl').addFilter(orbax_logging.is_not_chatter)
    orbax_logging.late_writes()
    policies = ocp.checkpoint_managers
    best = policies.BestN(
        get_metric_fn=_metric, reverse=True, n=1, keep_checkpoints_without_metrics=False
    )
    if keep is not None:
        folder.mkdir(parents=True, exist_ok=True)
    return ocp.CheckpointManager(
        folder,
        options=ocp.CheckpointManagerOptions(
            best_fn=_metric,
            best_mode='min',
            preservation_policy=policies.AnyPreservationPolicy([policies.LatestN(keep), best]),
            cleanup_tmp_directories=True,
            read_only=keep is None,
            create=False,
            multiprocessing_options=ocp.options.MultiprocessingOptions(
                primary_host=0, active_processes={0}
            ),
        ),
    )


def _metric(metrics: Mapping[str, float]) -> float:
    """Picks the number that checkpoints are ranked by."""
    return float(metrics['metric'])


class _DamagedError(Exception):
    """A checkpoint that is not what was saved."""


def _read(
    manager: ocp.CheckpointManager, path: pathlib.Path
) -> tuple[tensor_files.Flat, dict[str, Any]]:
    """Reads a checkpoint as it was written and compares its SHA-256.

    Raises:
        _DamagedError: if it is damaged.
        tensor_files.CheckpointError: if it cannot be read, and may be whole.
    """
    args = ocp.args.Composite(state=ocp.args.StandardRestore(), meta=ocp.args.JsonRestore())
    try:
        restored = manager.restore(int(path.name), args=args)
        flat, meta = tensor_files.flatten(restored['state']), restored['meta']
        if not checkpoint_contents.is_whole(flat, meta):
            raise _DamagedError('its contents are not those that were saved')
        if 'metrics' in meta and _rank(path) != meta['metrics']:
            raise _DamagedError('its metric is not the one that was saved')
    except _DamagedError:
        raise
    except Exception as error:  # a damaged file can lead to any
        orbax_logging.forget(error)
        line = files.first_line(error)
        missing = isinstance(error, FileNotFoundError)
        if (isinstance(error, OSError | MemoryError) and not missing) or _NO_DAMAGE.match(line):
            raise tensor_files.CheckpointError(
                f'The checkpoint {path} cannot be read ({line}), and may be whole: see that its '
                'files are readable and that memory suffices, and start again; or move it away.'
            ) from error
        raise _DamagedError(line) from error
    return flat, meta


def _rank(path: pathlib.Path) -> dict[str, float] | None:
    """The metrics beside a checkpoint, as Orbax keeps them; None if there are none."""
    try:
        return json.loads((path / 'metrics' / 'metrics').read_text())
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def _opened(folder: pathlib.Path) -> Iterator[ocp.CheckpointManager]:
    """Opens Orbax's manager for reading, and closes it."""
    if damaged := _without_rank(folder):
        raise tensor_files.CheckpointError(
            f'The metrics of the checkpoints {damaged} in {folder} cannot be read, which keeps the '
            'others from being opened: move these away, or resume the run, which does that.'
        )
    try:
        manager = _open(folder)
    except Exception as error:  # Orbax's, whatever they are
        raise tensor_files.CheckpointError(
            f'The checkpoints in {folder} cannot be read ({files.first_line(error)}): see '
            'that the folder is readable, and a training run of this program.'
        ) from error
    with contextlib.closing(manager):
        yield manager


class Found(NamedTuple):
    """A checkpoint as it was read for its θ.

    Attributes:
        step: its step.
        flat: name -> array, of the whole state.
        chosen: by what it was chosen, 'best' or 'latest'; None where the step was given.
        total: of checkpoints in the folder.
    """

    step: int
    flat: tensor_files.Flat
    chosen: str | None
    total: int


def read(folder: pathlib.Path, step: int | None = None) -> Found:
    """Reads one checkpoint as it is, whatever its structure.

    Args:
        folder: of the checkpoints.
        step: which one; the best if None, or the latest where none has a metric.

    Raises:
        tensor_files.CheckpointError: there is none, it cannot be read, or is damaged.
    """
    with _opened(folder) as manager:
        steps = manager.all_steps()
        if not steps or (step is not None and step not in steps):
            raise tensor_files.CheckpointError(
                f'There is no checkpoint {"yet" if step is None else step} in {folder}: wait for '
                'the first, or name another.'
            )
        chosen = None
        if step is None:
            best = manager.best_step()
            step = best if best is not None else max(steps)
            chosen = 'latest' if best is None else 'best'
        path = folder / str(step)
        try:
            flat, _ = _read(manager, path)
        except _DamagedError as error:
            raise tensor_files.CheckpointError(
                f'The checkpoint {path} is damaged ({error}): name another step of {sorted(steps)}.'
            ) from error
    return Found(step, flat, chosen, len(steps))
