"""A cache of style files in the user's cache folder, bounded in size.

The least recently used style is removed first. The modification time of a file is the time of its
last use. Processes need no lock: a file is written completely or not at all, and a missing or
broken file counts as not cached.
"""

import contextlib
import functools
import json
import os
import pathlib
import re
import stat
import time
from typing import TYPE_CHECKING, NamedTuple

from absl import logging

from metastyle_jax.core import checks, files
from metastyle_jax.core.errors import UserError

if TYPE_CHECKING:  # this module loads JAX only when it reads or writes a style
    from metastyle_jax.storage import style_files

MEGABYTE = 1_000_000
DEFAULT_LIMIT = 100  # megabytes: about 5,000 styles of instance norms
_LIMIT_FILE = 'limit.json'
_ENTRY = re.compile(r'[0-9a-f]{64}\.safetensors')
_PART = re.compile(r'\.[0-9a-f]+\.part')  # what `files.write_whole` leaves if the machine stops
_PART_AGE = 3600  # seconds after which no process writes to such a file any more


class CachedStyle(NamedTuple):
    """One file of the cache.

    Attributes:
        path: the style file.
        size: its size in bytes.
        used: time of the last use of the style, in seconds since the epoch.
    """

    path: pathlib.Path
    size: int
    used: float

    def name(self) -> str:
        """Returns the name of the painting; '' if the file is broken."""
        import safetensors  # its reader loads NumPy

        try:
            with safetensors.safe_open(self.path, 'np') as opened:
                return (opened.metadata() or {}).get('style_name', '')
        except (safetensors.SafetensorError, OSError):
            return ''


class StyleCache:
    """The cache of the styles of paintings.

    Args:
        folder: its folder; None for `metastyle_jax/styles` in `$XDG_CACHE_HOME`, or in `~/.cache`.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        if folder is None:
            try:
                folder = files.cache_folder() / 'styles'
            except RuntimeError as error:
                raise UserError(
                    'there is no home folder for the cache of styles: set XDG_CACHE_HOME'
                ) from error
        self.folder = pathlib.Path(folder)

    @property
    def limit(self) -> float:
        """Largest total size of the styles, in megabytes."""
        try:
            limit = json.loads((self.folder / _LIMIT_FILE).read_text())['megabytes']
            checks.real_number('limit', limit, least=0)
        except (OSError, ValueError, KeyError, TypeError, RecursionError, UserError):
            return DEFAULT_LIMIT
        return limit

    def set_limit(self, megabytes: float) -> None:
        """Stores the largest size for all later runs, and removes styles until it is met.

        Args:
            megabytes: at least 0; 0 turns the cache off.

        Raises:
            UserError: the number is invalid, or the folder cannot be written.
        """
        checks.real_number('limit', megabytes, least=0)
        self._make_folder()
        data = json.dumps({'megabytes': megabytes}).encode()
        files.write_whole(self.folder / _LIMIT_FILE, data, UserError)
        self.trim()

    def entries(self) -> list[CachedStyle]:
        """Lists the cached styles, the most recently used one first."""
        found = [
            CachedStyle(path, status.st_size, status.st_mtime)
            for path, status in self._files()
            if _ENTRY.fullmatch(path.name)
        ]
        return sorted(found, key=lambda entry: (-entry.used, entry.path))

    def get(self, key: str) -> 'style_files.Style | None':
        """Reads a style, and records the time of this use.

        Args:
            key: 64 hexadecimal digits, the SHA-256 of all inputs that determine the style.

        Returns:
            The style; None if it is not cached or its file is broken.
        """
        from metastyle_jax.storage import style_files

        file = self._file_of(key)
        try:
            style = style_files.load_style(file)
        except (UserError, OSError):
            return None
        with contextlib.suppress(OSError):
            os.utime(file)
        return style

    def put(self, key: str, style: 'style_files.Style') -> None:
        """Writes a style, then removes the least recently used styles that exceed the limit.

        If the cache cannot be written, this function logs one warning and raises no error.

        Args:
            key: see `get`.
            style: the style.
        """
        from metastyle_jax.storage import style_files

        if not self.limit:
            return
        try:
            self._make_folder()
            style_files.save_style(self._file_of(key), style, overwrite=True)
            self.trim()
        except UserError as error:
            warn_once(files.first_line(error))

    def trim(self) -> None:
        """Removes the least recently used styles until the others fit the limit."""
        left = self.limit * MEGABYTE
        for entry in self.entries():
            left -= entry.size
            if left < 0:
                _remove(entry.path)
        for path, status in self._files():
            if _PART.fullmatch(path.name) and status.st_mtime < time.time() - _PART_AGE:
                _remove(path)

    def clear(self) -> int:
        """Removes all styles; returns their number.

        Raises:
            UserError: a file cannot be removed.
        """
        entries = self.entries()
        parts = [path for path, _ in self._files() if _PART.fullmatch(path.name)]
        for path in [*(entry.path for entry in entries), *parts]:
            _remove(path)
        return len(entries)

    def _make_folder(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f'{self.folder} cannot be made ({files.reason(error)}): make the folder above it '
                'writable, or set XDG_CACHE_HOME'
            ) from error

    def _file_of(self, key: str) -> pathlib.Path:
        return self.folder / f'{key}.safetensors'

    def _files(self) -> list[tuple[pathlib.Path, os.stat_result]]:
        """Lists the regular files of the folder; another process may remove some meanwhile."""
        found = []
        with contextlib.suppress(OSError), os.scandir(self.folder) as scanned:
            for item in scanned:
                with contextlib.suppress(OSError):
                    status = item.stat(follow_symlinks=False)
                    if stat.S_ISREG(status.st_mode):
                        found.append((pathlib.Path(item.path), status))
        return found


def _remove(path: pathlib.Path) -> None:
    """Removes a file; raises UserError if that is not possible."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(
            f'{path} cannot be removed ({files.reason(error)}): make its folder writable'
        ) from error


@functools.cache
def warn_once(reason: str) -> None:
    """Warns that styles are not cached, once in a process for each reason."""
    logging.warning('styles of paintings are not cached, so the next run makes them again: %s',
                    reason)  # fmt: skip
