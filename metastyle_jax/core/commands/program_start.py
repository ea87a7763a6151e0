"""Sets up the log of a command, and JAX's cache of compiled programs."""

import logging as std_logging
import os
import sys

from absl import flags, logging

from metastyle_jax.core import files


def set_up_log() -> None:
    """Sends the log of this package, and warnings of JAX, to the standard error stream."""
    # absl writes a complete log, and Grain finds its defaults, only after absl's global flags are
    # marked as parsed.
    flags.FLAGS.mark_as_parsed()
    std_logging.getLogger('jax').setLevel(std_logging.WARNING)
    logging.use_absl_handler()
    logging.set_verbosity(logging.INFO)
    logging.get_absl_handler().setFormatter(_Formatter())


class _Formatter(logging.PythonFormatter):
    """Formats a line of the log: time, level (only of warnings and errors) and message."""

    def format(self, record):
        level = '' if record.levelno <= 20 else f'{record.levelname.lower()}: '
        return f'{self.formatTime(record, "%H:%M:%S")} {level}{files.shown(record.getMessage())}'


def set_up_cache() -> None:
    """Makes JAX save compiled programs on disk for later runs.

    Environment variables of JAX that the user has set are not changed. If the folder cannot be
    written, nothing is saved.
    """
    # JAX by default keeps only programs that take a second or more to compile. Commands compile
    # many smaller ones, which together take several seconds.
    wanted: dict[str, float | str] = {'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': 0.0}
    if 'JAX_COMPILATION_CACHE_DIR' not in os.environ:
        folder = _folder_of_programs()
        if folder is None:  # JAX would warn for each program
            return
        wanted['JAX_COMPILATION_CACHE_DIR'] = folder
    jax = sys.modules.get('jax')
    for name, value in wanted.items():
        if name in os.environ:
            continue
        if jax is None:  # JAX reads these variables when it is imported
            os.environ[name] = str(value)
        else:
            jax.config.update(name.lower(), value)


def _folder_of_programs() -> str | None:
    """Makes the folder for compiled programs; returns None if it cannot be written."""
    try:
        folder = files.cache_folder() / 'xla'
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # RuntimeError: the user has no home folder
        return None
    return str(folder) if os.access(folder, os.W_OK | os.X_OK) else None
