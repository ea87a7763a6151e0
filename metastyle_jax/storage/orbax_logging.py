"""Keeps silent what Orbax and tensorstore say beside the errors that they raise."""

import logging
import pathlib
import sys
import traceback
import warnings
from typing import Any

_log = logging.getLogger(__name__)


def is_not_chatter(record: logging.LogRecord) -> bool:
    """Lets pass all log records but Orbax's reports and tracebacks."""
    if '/orbax/' not in pathlib.PurePath(record.pathname).as_posix():
        return True
    if record.exc_info:  # is raised as well, and so becomes a CheckpointError
        _log.debug('Orbax: %s', record.getMessage(), exc_info=record.exc_info)
    return record.levelno >= logging.ERROR and not record.exc_info


def late_writes() -> None:
    """Keeps silent what tensorstore says of reads and writes that outlive one that failed.

    It is dozens of tracebacks, among which the error itself would be lost.
    """
    tell = sys.unraisablehook
    if getattr(tell, 'hushes_late_writes', False):
        return

    def hook(unraisable: Any) -> None:
        error = unraisable.exc_value
        if isinstance(error, RuntimeError) and str(error) == 'Event loop is closed':
            _log.debug('tensorstore: %s', error)
        else:
            tell(unraisable)

    hook.hushes_late_writes = True  # type: ignore[attr-defined]
    sys.unraisablehook = hook


def forget(error: Exception) -> None:
    """Frees what Orbax held when it failed; Python would complain of coroutines it never ran."""
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', 'coroutine .* was never awaited', RuntimeWarning)
        traceback.clear_frames(error.__traceback__)
