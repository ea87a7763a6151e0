"""Opens the checkpoints of a run with Orbax, reads them and verifies their hashes."""

import contextlib
import json
import logging
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from orbax import checkpoint as ocp

from metastyle_jax.core import files
from metastyle_jax.storage import checkpoint_contents, orbax_logging, tensor_files

# Orbax passes on errors of its C++ parts as ValueError. Errors with these codes come from the
# system and do not mean that the file is damaged.
_NOT_DAMAGED = re.compile(
    r'^(ABORTED|CANCELLED|DEADLINE_EXCEEDED|PERMISSION_DENIED|RESOURCE_EXHAUSTED|UNAVAILABLE)'
)
_log = logging.getLogger(__name__)


class DamagedError(Exception):
    """The contents of a checkpoint differ from what was saved."""


class ReadCheckpoint(NamedTuple):
    """The content of one checkpoint, as named arrays.

    Attributes:
        step: step of the checkpoint.
        flat: name -> array of the whole training state.
        chosen_as: 'best' or 'latest'; None if the caller named the step.
        total: number of checkpoints in the folder.
    """

    step: int
    flat: tensor_files.Flat
    chosen_as: str | None
    total: int


def read(folder: pathlib.Path, step: int | None = None) -> ReadCheckpoint:
    """Reads one checkpoint of a folder; its structure need not be known.

    Args:
        folder: the folder of the checkpoints.
        step: the step to read; None for the checkpoint with the lowest metric, or for the latest
            one if none has a metric.

    Raises:
        CheckpointError: there is no such checkpoint, it cannot be read, or it is damaged.
    """
    with _opened_to_read(folder) as manager:
        steps = manager.all_steps()
        if not steps or (step is not None and step not in steps):
            raise tensor_files.CheckpointError(
                f'There is no checkpoint {"yet" if step is None else step} in {folder}: wait for '
                'the first, or name another.'
            )
        chosen_as = None
        if step is None:
            best = manager.best_step()
            step = best if best is not None else max(steps)
            chosen_as = 'latest' if best is None else 'best'
        path = folder / str(step)
        try:
            flat, _ = read_checked(manager, path)
        except DamagedError as error:
            raise tensor_files.CheckpointError(
                f'The checkpoint {path} is damaged ({error}): name another step of {sorted(steps)}.'
            ) from error
    return ReadCheckpoint(step, flat, chosen_as, len(steps))


def open_manager(folder: pathlib.Path, keep: int | None = None) -> ocp.CheckpointManager:
    """Opens Orbax's manager of a folder of checkpoints.

    Args:
        folder: the folder.
        keep: number of latest checkpoints to keep, beside the best one; None to open the folder
            for reading only.
    """
    # Orbax logs every step of its work, and every exception several times.
    logging.getLogger('absl').addFilter(orbax_logging.is_not_chatter)
    orbax_logging.silence_late_writes()
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
            # All processes hold the same state, so the first one saves and waits for no other.
            multiprocessing_options=ocp.options.MultiprocessingOptions(
                primary_host=0, active_processes={0}
            ),
        ),
    )


def read_checked(
    manager: ocp.CheckpointManager, path: pathlib.Path
) -> tuple[tensor_files.Flat, dict[str, Any]]:
    """Reads a checkpoint, and compares its SHA-256 with the one from when it was saved.

    Args:
        manager: Orbax's manager of the folder.
        path: the checkpoint's sub-folder, whose name is the step.

    Returns:
        Name -> array, and the description from `checkpoint_contents.metadata_of`.

    Raises:
        DamagedError: the checkpoint is damaged.
        CheckpointError: the checkpoint cannot be read now, but may be intact.
    """
    args = ocp.args.Composite(state=ocp.args.StandardRestore(), meta=ocp.args.JsonRestore())
    try:
        restored = manager.restore(int(path.name), args=args)
        flat, meta = tensor_files.flatten(restored['state']), restored['meta']
        if not checkpoint_contents.is_whole(flat, meta):
            raise DamagedError('its contents are not those that were saved')
        if 'metrics' in meta and _read_metrics(path) != meta['metrics']:
            raise DamagedError('its metric is not the one that was saved')
    except DamagedError:
        raise
    except Exception as error:  # a damaged file can raise any class
        orbax_logging.forget(error)
        line = files.first_line(error)
        missing = isinstance(error, FileNotFoundError)
        if (isinstance(error, OSError | MemoryError) and not missing) or _NOT_DAMAGED.match(line):
            raise tensor_files.CheckpointError(
                f'The checkpoint {path} cannot be read ({line}), but may be intact: check that its '
                'files are readable and that there is enough memory, and start again; or move it '
                'away.'
            ) from error
        raise DamagedError(line) from error
    return flat, meta


def steps_without_metric(folder: pathlib.Path) -> list[int]:
    """Lists the steps whose metric file is damaged, and logs a warning for each.

    Orbax reads the metrics of all checkpoints when it opens a folder. If one file is damaged, it
    cannot open any of the checkpoints.

    Args:
        folder: the folder of the checkpoints.

    Raises:
        CheckpointError: a metric cannot be read now, but may be intact.
    """
    damaged: list[int] = []
    if not isinstance(folder, pathlib.Path):  # a bucket, which never stores half a file
        return damaged
    for path in sorted(path for path in folder.glob('*') if path.name.isdecimal()):
        try:
            _metric(_read_metrics(path) or {'metric': np.nan})  # it may have been saved without
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
                f'The metric of the checkpoint {path} cannot be read ({files.reason(error)}), but '
                'may be intact: check that its files are readable, or move it away.'
            ) from error
    return damaged


@contextlib.contextmanager
def _opened_to_read(folder: pathlib.Path) -> Iterator[ocp.CheckpointManager]:
    """Opens Orbax's manager for reading, and closes it."""
    if damaged := steps_without_metric(folder):
        raise tensor_files.CheckpointError(
            f'The metrics of the checkpoints {damaged} in {folder} cannot be read, so the others '
            'cannot be opened: move these away, or resume the run, which does that.'
        )
    try:
        manager = open_manager(folder)
    except Exception as error:  # Orbax documents no classes
        raise tensor_files.CheckpointError(
            f'The checkpoints in {folder} cannot be read ({files.first_line(error)}): check '
            'that the folder is readable, and that this program made it.'
        ) from error
    with contextlib.closing(manager):
        yield manager


def _metric(metrics: Mapping[str, float]) -> float:
    """Returns the number by which checkpoints are ranked; the lowest is the best."""
    return float(metrics['metric'])


def _read_metrics(path: pathlib.Path) -> dict[str, float] | None:
    """Reads the metrics that Orbax stores beside a checkpoint; None if there are none."""
    try:
        return json.loads((path / 'metrics' / 'metrics').read_text())
    except FileNotFoundError:
        return None
