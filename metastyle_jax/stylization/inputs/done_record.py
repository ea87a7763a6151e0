"""Records in an output folder which pictures are finished, so that a stopped run can be resumed.

The record is a file of JSON lines in the folder. One line is appended before a picture is written,
and another one afterwards. So the record says of each file whether this program made it, and from
which picture and settings.
"""

import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from metastyle_jax.core import files
from metastyle_jax.core.errors import UserError

NAME = '.metastyle.jsonl'


class DoneRecord:
    """The record of one output folder.

    Args:
        folder: the output folder; it need not exist yet.

    Raises:
        UserError: the record exists and cannot be read.
    """

    def __init__(self, folder: pathlib.Path) -> None:
        self._folder = folder
        self._path = folder / NAME
        self._entries: dict[str, dict[str, Any]] = {}
        try:
            data = self._path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            data = b''
        except OSError as error:
            raise UserError(f'{self._path} cannot be read: {files.reason(error)}') from error
        # A line that the machine did not finish must not swallow the next one.
        self._begin = b'\n' if data and not data.endswith(b'\n') else b''
        for line in data.splitlines():
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError):  # a line that was cut short
                continue
            if isinstance(entry, dict) and isinstance(entry.get('target'), str):
                self._entries[entry['target']] = entry

    def is_own(self, target: str) -> bool:
        """Whether this program has written a file, or has begun to write it.

        Args:
            target: path of the file relative to the folder, with '/'.
        """
        return target in self._entries

    def is_done(self, target: str, *, source_sha256: str, settings_sha256: str) -> bool:
        """Whether a file is the complete result for this picture and these settings.

        Args:
            target: path of the file relative to the folder, with '/'.
            source_sha256: SHA-256 of the picture file.
            settings_sha256: result of `settings_digest`.
        """
        entry = self._entries.get(target, {})
        wanted = {'source_sha256': source_sha256, 'settings_sha256': settings_sha256}
        if any(entry.get(key) != value for key, value in wanted.items()):
            return False
        try:
            return entry.get('bytes') == (self._folder / target).stat().st_size
        except OSError:
            return False

    def begin(self, target: str) -> None:
        """Records that a file will be written next."""
        self._append({'target': target})

    def finish(self, target: str, *, source_sha256: str, settings_sha256: str) -> None:
        """Records that a file has been written; for the arguments see `is_done`."""
        entry = {
            'target': target,
            'source_sha256': source_sha256,
            'settings_sha256': settings_sha256,
            'bytes': (self._folder / target).stat().st_size,
        }
        self._append(entry)

    def _append(self, entry: dict[str, Any]) -> None:
        """Appends a line in one write."""
        line = self._begin + json.dumps(entry).encode() + b'\n'
        try:
            with self._path.open('ab', buffering=0) as opened:
                opened.write(line)
        except OSError as error:
            raise UserError(
                f'{self._path} cannot be written: {files.reason(error)}. Make sure that the folder '
                'is writable and that the disk is not full'
            ) from error
        self._begin = b''
        self._entries[entry['target']] = entry


def settings_digest(settings: Mapping[str, Any]) -> str:
    """Computes the SHA-256 of settings, which must be JSON types."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
