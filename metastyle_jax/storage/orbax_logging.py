"""Silences what Orbax and tensorstore print in addition to the errors that they raise."""

import logging
import pathlib
import sys
import traceback
import warnings
from typing import Any

_log = logging.getLogger(__name__)


def is_not_chatter(record: logging.LogRecord) -> bool:
    """A log filter: refuses Orbax's progress reports and tracebacks, admits all other records."""
    if '/orbax/' not in pathlib.PurePath(record.pathname).as_posix():
        return True
    if record.exc_info:  # the exception is raised as well, and becomes a CheckpointError
        _log.debug('Orbax: %s', record.getMessage(), exc_info=record.exc_info)
    return record.levelno >= logging.ERROR and not record.exc_info


def silence_late_writes() -> None:
    """Silences errors of reads and writes that still run after the operation itself has failed.

    Tensorstore prints dozens of such tracebacks, and the error that matters would be lost in them.
    """
    previous = sys.unraisablehook
    if getattr(previous, 'silences_late_writes', False):
        return

    def hook(unraisable: Any) -> None:
        error = unraisable.exc_value
        if isinstance(error, RuntimeError) and str(error) == 'Event loop is closed':
            _log.debug('tensorstore: %s', error)
        else:
            previous(unraisable)

    hook.silences_late_writes = True  # type: ignore[attr-defined]
    sys.unraisablehook = hook


def forget(error: Exception) -> None:
    """Frees what Orbax held when it failed, without Python's warnings about unused coroutines."""
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', 'coroutine .* was never awaited', RuntimeWarning)
        traceback.clear_frames(error.__traceback__)
