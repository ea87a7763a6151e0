"""The folder of a training run, local or in a bucket: its path, lock and configuration file."""

import contextlib
import errno
import importlib.util
import json
import logging
import os
import pathlib
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from metastyle_jax.core import files
from metastyle_jax.core.commands import paths
from metastyle_jax.storage import tensor_files

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_log = logging.getLogger(__name__)
_BUCKETS = {'gs': 'gcsfs', 's3': 's3fs'}  # schemes, and the packages that read and write them


def to_path(path: str | os.PathLike[str]) -> pathlib.Path:
    """Converts a local path or the address of a bucket to an object like `pathlib.Path`.

    `pathlib` would turn the two slashes of ``gs://`` into one, so a bucket needs another class.

    Args:
        path: a local folder or file, or ``gs://BUCKET/NAME`` or ``s3://BUCKET/NAME``.

    Raises:
        CheckpointError: the scheme is neither ``gs`` nor ``s3``, or its package is not installed.
    """
    path = paths.expand(os.fspath(path))
    scheme, colon, name = path.partition('://')
    if not colon:
        return pathlib.Path(path)
    if remedy := scheme not in _BUCKETS and paths.address_remedy(path):
        raise tensor_files.CheckpointError(f'{path}: {remedy}')
    if scheme not in _BUCKETS or not name:
        raise tensor_files.CheckpointError(
            f'{path} is no place that can be written to: give a folder, or a bucket as '
            f'{" or ".join(f"{known}://BUCKET/NAME" for known in _BUCKETS)}.'
        )
    if importlib.util.find_spec(_BUCKETS[scheme]) is None:
        raise tensor_files.CheckpointError(
            f"{path} needs {_BUCKETS[scheme]}: pip install 'metastyle_jax[{scheme}]'"
        )
    from etils import epath  # needed for buckets only

    return epath.Path(path)


def absolute(path: pathlib.Path) -> pathlib.Path:
    """Makes a local path absolute; returns the address of a bucket unchanged."""
    return path if is_bucket(path) else path.absolute()


def is_bucket(path: pathlib.Path) -> bool:
    """Whether a path is in a bucket. A bucket has no locks, and writes only whole files."""
    return '://' in os.fspath(path)


@contextlib.contextmanager
def lock(workdir: str | os.PathLike[str], *, name: str = 'workdir') -> Iterator[None]:
    """Locks a folder, so that no other process uses it; does nothing on Windows.

    Args:
        workdir: the folder; it is created if it does not exist. A bucket cannot be locked.
        name: name of the caller's argument that holds the folder, for messages.

    Yields:
        Nothing, while the folder is locked. The lock ends with the process, however it ends.

    Raises:
        CheckpointError: another process holds the lock, or the folder cannot be created.
    """
    workdir = to_path(workdir)
    if is_bucket(workdir):
        _log.warning('%s cannot be locked: start no second run in it.', workdir)
        yield
        return
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        opened = (workdir / '.lock').open('a+')
    except OSError as error:
        raise tensor_files.CheckpointError(
            f'{name}={workdir}: it cannot be used ({files.reason(error)}); choose another folder'
        ) from error
    with opened:
        if fcntl is not None:
            _lock_file(opened, workdir, name)
        yield


def write_config(
    workdir: str | os.PathLike[str],
    config: Mapping[str, Any],
    *,
    may_differ: Collection[str] = (),
    defaults: Mapping[str, Any] | None = None,
) -> None:
    """Writes the configuration of a run to ``config.json``; compares it with an earlier one first.

    Args:
        workdir: the folder of the run; it is created if it does not exist.
        config: nested dicts of JSON types.
        may_differ: dotted names of entries that may change when a run is resumed; 'log' includes
            'log.every'.
        defaults: nested dicts: the values of entries that are missing in the earlier
            configuration, because an older version of this program wrote it.

    Raises:
        CheckpointError: other entries differ, or the file cannot be read or written.
    """
    path = to_path(workdir) / 'config.json'
    text = _as_json(config)
    written = read_config(workdir)
    if written is not None:
        old = _dotted(json.loads(_as_json(defaults or {}))) | _dotted(written)
        new = _dotted(json.loads(text))
        differing = [
            f'{key}: {old.get(key, "absent")} -> {new.get(key, "absent")}'
            for key in sorted({*old, *new})
            if old.get(key, ...) != new.get(key, ...)
            and not any(f'{key}.'.startswith(f'{x}.') for x in may_differ)
        ]
        if differing:
            raise tensor_files.CheckpointError(
                f'workdir={workdir}: it holds a run of another configuration '
                f'({"; ".join(differing)}): choose another folder, or the old values'
            )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise tensor_files.CheckpointError(
            f'workdir={workdir}: it cannot be created ({files.reason(error)}); choose another '
            'folder'
        ) from error
    files.write_whole(path, text.encode(), tensor_files.CheckpointError)


def read_config(workdir: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Reads the configuration of a run.

    Args:
        workdir: the folder of the run.

    Returns:
        The configuration that `write_config` wrote; None if there is no ``config.json``.

    Raises:
        CheckpointError: the file cannot be read, or holds no configuration.
    """
    path = to_path(workdir) / 'config.json'
    if not path.exists():
        return None
    try:
        config = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError, RecursionError) as error:
        raise tensor_files.CheckpointError(
            f'{path} cannot be read ({files.reason(error)}): repair it, or choose another folder '
            'for the run.'
        ) from error
    if not isinstance(config, dict):
        raise tensor_files.CheckpointError(
            f'{path} holds no configuration: choose another folder for the run.'
        )
    return config


def _lock_file(opened: Any, workdir: pathlib.Path, name: str) -> None:
    """Locks the file, and writes the number of this process into it for messages of others."""
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EAGAIN):  # some network folders have no locks
            _log.warning('%s cannot be locked (%s): start no second run in it.', workdir, error)
            return
        opened.seek(0)
        raise tensor_files.CheckpointError(
            f'{name}={workdir}: another run, process {opened.read().strip() or "unknown"}, uses '
            'this folder: wait for it, stop it, or choose another folder'
        ) from error
    opened.truncate(0)
    opened.write(f'{os.getpid()}\n')
    opened.flush()


def _as_json(config: Mapping[str, Any]) -> str:
    """Returns a configuration as the text of its file."""
    return json.dumps(dict(config), indent=2, sort_keys=True, default=str) + '\n'


def _dotted(config: Mapping[str, Any], prefix: str = '') -> dict[str, Any]:
    """Flattens nested dicts to a dict with dotted names."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict) and value:
            flat |= _dotted(value, f'{prefix}{key}.')
        else:
            flat[f'{prefix}{key}'] = value
    return flat
