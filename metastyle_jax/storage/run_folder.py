"""A run's folder: its lock and its configuration."""

import contextlib
import errno
import importlib.util
import json
import logging
import os
import pathlib
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from etils import epath

from metastyle_jax.core import files
from metastyle_jax.storage import tensor_files

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_log = logging.getLogger(__name__)
_BUCKETS = {'gs': 'gcsfs', 's3': 's3fs'}  # schemes, and the packages that speak them


def place(path: str | os.PathLike[str]) -> pathlib.Path:
    """A local path, or that of a bucket, whose scheme `pathlib` would break.

    Args:
        path: a folder or file, or ``gs://BUCKET/NAME``, ``s3://BUCKET/NAME``.

    Raises:
        tensor_files.CheckpointError: of another scheme, or a package to reach it is not installed.
    """
    scheme, colon, name = os.fspath(path).partition('://')
    if not colon:
        return pathlib.Path(path)
    if scheme not in _BUCKETS or not name:
        raise tensor_files.CheckpointError(
            f'{path} is no place that can be written to: give a folder, or a bucket as '
            f'{" or ".join(f"{known}://BUCKET/NAME" for known in _BUCKETS)}.'
        )
    if importlib.util.find_spec(_BUCKETS[scheme]) is None:
        raise tensor_files.CheckpointError(
            f"{path} needs {_BUCKETS[scheme]}: pip install 'metastyle_jax[{scheme}]'"
        )
    return epath.Path(path)


def absolute(path: pathlib.Path) -> pathlib.Path:
    """The path from the root on; that of a bucket, of which etils would make a local one, as is."""
    return path if is_bucket(path) else path.absolute()


def is_bucket(path: pathlib.Path) -> bool:
    """Whether a path of `place` is in a bucket: no locks, nothing appended, each write whole."""
    return '://' in os.fspath(path)


@contextlib.contextmanager
def lock(workdir: str | os.PathLike[str], *, flag: str = '--workdir') -> Iterator[None]:
    """Keeps a run's folder from other processes; does nothing where fcntl is absent.

    Args:
        workdir: the folder, made if need be.
        flag: which one names it, for messages.

    Yields:
        Nothing, while the folder is locked. The lock ends with the process, however it ends.

    Raises:
        tensor_files.CheckpointError: if another process holds it, or the folder cannot be made.
    """
    workdir = place(workdir)
    if is_bucket(workdir):
        _log.warning('%s cannot be locked: start no second run in it.', workdir)
        yield
        return
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        opened = (workdir / '.lock').open('a+')
    except OSError as error:
        raise tensor_files.CheckpointError(
            f'Cannot use {workdir}: {error.strerror or error}. Choose another {flag}.'
        ) from error
    with opened:
        if fcntl is not None:
            _lock_file(opened, workdir, flag)
        yield


def write_config(
    workdir: str | os.PathLike[str], config: Mapping[str, Any], *, may_differ: Collection[str] = ()
) -> None:
    """Writes a run's configuration to ``config.json``, or compares it with the one there.

    Args:
        workdir: the run's folder, made if need be.
        config: nested dicts of JSON types.
        may_differ: dotted keys that may change when a run is resumed; 'log' covers 'log.every'.

    Raises:
        tensor_files.CheckpointError: if other keys differ, or the file cannot be read or written.
    """
    path = place(workdir) / 'config.json'
    text = json.dumps(dict(config), indent=2, sort_keys=True, default=str) + '\n'
    written = read_config(workdir)
    if written is not None:
        old, new = _dotted(written), _dotted(json.loads(text))
        differing = [
            f'{key}: {old.get(key, "absent")} -> {new.get(key, "absent")}'
            for key in sorted({*old, *new})
            if old.get(key, ...) != new.get(key, ...)
            and not any(f'{key}.'.startswith(f'{x}.') for x in may_differ)
        ]
        if differing:
            raise tensor_files.CheckpointError(
                f'{workdir} holds a run of another configuration ({"; ".join(differing)}): choose '
                'another --workdir, or the old values.'
            )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise tensor_files.CheckpointError(
            f'Cannot make {workdir}: {error.strerror or error}. Choose another --workdir.'
        ) from error
    files.write_whole(path, text.encode(), tensor_files.CheckpointError)


def read_config(workdir: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Reads the configuration of a run.

    Args:
        workdir: the run's folder.

    Returns:
        What `write_config` wrote, or None where there is no ``config.json``.

    Raises:
        tensor_files.CheckpointError: if the file cannot be read or holds no configuration.
    """
    path = place(workdir) / 'config.json'
    if not path.exists():
        return None
    try:
        config = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError, RecursionError) as error:
        raise tensor_files.CheckpointError(
            f'{path} cannot be read ({files.first_line(error)}): put it right, or choose '
            'another --workdir.'
        ) from error
    if not isinstance(config, dict):
        raise tensor_files.CheckpointError(
            f'{path} holds no configuration: choose another --workdir.'
        )
    return config


def _lock_file(opened: Any, workdir: pathlib.Path, flag: str) -> None:
    """Locks the file, or names who has."""
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EAGAIN):
            _log.warning('%s cannot be locked (%s): start no second run in it.', workdir, error)
            return
        opened.seek(0)
        raise tensor_files.CheckpointError(
            f'Another run, process {opened.read().strip() or "unknown"}, uses {workdir}: wait for '
            f'it, stop it, or choose another {flag}.'
        ) from error
    opened.truncate(0)
    opened.write(f'{os.getpid()}\n')
    opened.flush()


def _dotted(config: Mapping[str, Any], prefix: str = '') -> dict[str, Any]:
    """Flattens nested dicts to dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict) and value:
            flat |= _dotted(value, f'{prefix}{key}.')
        else:
            flat[f'{prefix}{key}'] = value
    return flat
