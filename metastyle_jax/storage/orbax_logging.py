"""Silences messages that Orbax and tensorstore print in addition to the errors they raise."""

import logging
import pathlib
import sys
import traceback
import warnings
from typing import Any

_log = logging.getLogger(__name__)


def is_not_chatter(record: logging.LogRecord) -> bool:
    """Log filter that drops progress reports and tracebacks of Orbax.

    Args:
        record: any log record.

    Returns:
        Whether the record is kept.
    """
    if '/orbax/' not in pathlib.PurePath(record.pathname).as_posix():
        return True
    if record.exc_info:  # Orbax raises it as well, and it becomes a CheckpointError
        _log.debug('Orbax: %s', record.getMessage(), exc_info=record.exc_info)
    return record.levelno >= logging.ERROR and not record.exc_info


def silence_late_writes() -> None:
    """Silences tensorstore's messages about reads and writes that end after a failed one.

    They are dozens of tracebacks, among which users would overlook the error itself.
    """
    print_unraisable = sys.unraisablehook
    if getattr(print_unraisable, 'silences_late_writes', False):
        return

    def hook(unraisable: Any) -> None:
        error = unraisable.exc_value
        if isinstance(error, RuntimeError) and str(error) == 'Event loop is closed':
            _log.debug('tensorstore: %s', error)
        else:
            print_unraisable(unraisable)

    hook.silences_late_writes = True  # type: ignore[attr-defined]
    sys.unraisablehook = hook


def forget(error: Exception) -> None:
    """Frees the local variables of a failed call of Orbax.

    Otherwise Python later warns about coroutines that were never awaited.

    Args:
        error: the error that Orbax raised.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', 'coroutine .* was never awaited', RuntimeWarning)
        traceback.clear_frames(error.__traceback__)
