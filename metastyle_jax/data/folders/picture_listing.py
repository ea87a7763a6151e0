"""Finds the pictures that a user names by files, folders and patterns such as ``*.jpg``.

A file counts as a picture if its suffix or its first bytes are those of a picture format. Other
files are listed apart and are not an error. This module decodes no picture, and loads neither NumPy
nor Pillow.
"""

import errno
import glob
import mimetypes
import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from metastyle_jax.core import files
from metastyle_jax.core.commands import paths
from metastyle_jax.core.errors import UserError
from metastyle_jax.data.images import format_detection

# Formats that are common in folders of photographs, but that Pillow alone does not decode.
SUFFIXES_NOT_READ = (
    *('.heic', '.heif', '.jxl', '.dng', '.cr2', '.cr3', '.nef', '.arw', '.raf', '.psd', '.svg'),
)
_PICTURE_KINDS = (
    *('JPEG', 'PNG', 'GIF', 'WebP', 'TIFF', 'AVIF', 'HEIC', 'RAW'),
    *('Photoshop', 'OpenEXR', 'Radiance HDR'),
)
_PORTABLE = re.compile(rb'P[1-6Ff]\s+(#[^\n]*\n\s*)*\d+\s+(#[^\n]*\n\s*)*\d+\s')
_OTHER_STARTS = (
    *(b'\x00\x00\x00\x0cjP  ', b'\xff\x4f\xff\x51'),  # JPEG 2000
    b'\x00\x00\x00\x0cJXL ',
)
_BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)  # sizes of the header behind the first 14 bytes


class PictureFile(NamedTuple):
    """A file that is a picture by its suffix or its content.

    Attributes:
        path: the file.
        name: path relative to the folder that the user named, with '/'; only the file name if the
            user named the file itself.
        folder: name of the folder that the user named, or of the folder that holds the named file.
    """

    path: Path
    name: str
    folder: str


class PictureListing(NamedTuple):
    """The files that were found.

    Attributes:
        pictures: the pictures; those of one folder are sorted by name.
        unreadable: file or folder that cannot be opened -> reason.
        others: files that are not pictures, and hidden files.
    """

    pictures: list[PictureFile]
    unreadable: dict[Path, str]
    others: list[Path]


def find(words: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> PictureListing:
    """Finds the pictures that a user names.

    Args:
        words: a file, a folder (searched with its sub-folders), a pattern such as ``*.jpg``, or
            several of these. ``~`` is expanded. A picture that is named twice is listed once.

    Raises:
        UserError: a file does not exist, a pattern matches nothing, or a folder cannot be listed.
    """
    pictures: dict[str, PictureFile] = {}
    unreadable: dict[str, tuple[Path, str]] = {}
    others: dict[str, Path] = {}
    for path in expand(words):
        part = list_folder(path) if path.is_dir() else _named_file(path)
        for picture in part.pictures:
            known = pictures.setdefault(_place(picture.path), picture)
            # A folder and a file in it: the name below the folder counts, whatever the order.
            rank = lambda each: (-len(each.name), str(each.path))
            pictures[_place(picture.path)] = min(known, picture, key=rank)
        for file, reason in part.unreadable.items():
            unreadable.setdefault(_place(file), (file, reason))
        for file in part.others:
            others.setdefault(_place(file), file)
    return PictureListing([*pictures.values()], dict(unreadable.values()), [*others.values()])


def _place(path: Path) -> str:
    """Normalizes a path: different paths of the same file give the same text.

    A link to a file counts as a different file.
    """
    return os.path.join(os.path.realpath(path.parent), path.name)


def expand(words: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> list[Path]:
    """Expands ``~`` and patterns to existing paths.

    If a file exists whose name looks like a pattern, the word stands for this file.

    Args:
        words: see `find`.

    Raises:
        UserError: a file does not exist, or a pattern matches nothing.
    """
    if isinstance(words, str | os.PathLike):
        words = [words]
    found: list[str] = []
    for word in words:
        name = paths.expand(os.fspath(word))
        if os.path.lexists(name):
            found.append(name)
        elif glob.has_magic(name):
            matches = sorted(glob.glob(name, recursive=True))
            if not matches:
                raise UserError(f'{name}: no file fits this pattern; check the path')
            found += matches
        else:
            remedy = paths.address_remedy(name) or 'check the path'
            raise UserError(f'{name}: no such file or folder; {remedy}')
    return [Path(name) for name in found]


def list_folder(top: Path, *, strict: bool = False) -> PictureListing:
    """Lists the files of a folder and of its sub-folders. Hidden sub-folders are skipped.

    Args:
        top: the folder. Links to folders are followed; each folder is visited once.
        strict: whether a sub-folder that cannot be listed is an error; if False, it is listed among
            the unreadable files.

    Raises:
        UserError: the folder, or with `strict` a sub-folder, cannot be listed.
    """
    found = PictureListing([], {}, [])
    label = top.name or top.resolve().name

    def fail(error: OSError) -> None:
        if strict or Path(error.filename) == top:
            raise UserError(f'{error.filename}: cannot be listed: {files.reason(error)}') from error
        found.unreadable[Path(error.filename)] = f'cannot be listed: {files.reason(error)}'

    visited: set[str] = set()
    for root, folders, names in os.walk(top, onerror=fail, followlinks=True):
        real = os.path.realpath(root)
        if real in visited:  # a link back to a folder above
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith('.'))
        for name in names:
            path = Path(root, name)
            _sort_in(path, PictureFile(path, path.relative_to(top).as_posix(), label), found)
    found.pictures.sort(key=lambda picture: picture.name)
    found.others.sort()
    return found


def is_picture(path: str | os.PathLike[str]) -> bool:
    """Whether a file is a picture by its content, or by its suffix if it cannot be read.

    Args:
        path: the file; it need not exist.
    """
    try:
        return _has_content_of_picture(Path(path))
    except (OSError, ValueError):
        return has_suffix_of_picture(Path(path))


def is_picture_or_folder(path: str | os.PathLike[str]) -> bool:
    """Whether a path is that of a picture, see `is_picture`, or of an existing folder."""
    return os.path.isdir(path) or is_picture(path)


def _named_file(path: Path) -> PictureListing:
    """Lists one file that the user named; a hidden file counts too."""
    found = PictureListing([], {}, [])
    label = path.parent.name or path.parent.resolve().name
    _sort_in(path, PictureFile(path, path.name, label), found, named=True)
    return found


def _sort_in(
    path: Path, picture: PictureFile, found: PictureListing, *, named: bool = False
) -> None:
    """Adds a file to the pictures, to the unreadable files, or to the others."""
    if path.name.startswith('.') and not named:
        found.others.append(path)
        return
    has_suffix = has_suffix_of_picture(path)
    try:
        if (has_suffix and not path.is_symlink()) or _has_content_of_picture(path) or has_suffix:
            found.pictures.append(picture)
        else:
            found.others.append(path)
    except OSError as error:
        kind = mimetypes.guess_type(path.name)[0]
        if kind and not kind.startswith('image/'):
            found.others.append(path)
        else:
            found.unreadable[path] = _reason(path, error)


def has_suffix_of_picture(path: str | os.PathLike[str]) -> bool:
    """Whether the suffix of a file, which need not exist, is a picture's."""
    return Path(path).suffix.lower() in (*format_detection.SUFFIXES, *SUFFIXES_NOT_READ)


def _has_content_of_picture(path: Path) -> bool:
    """Whether a file begins like a known picture format; raises OSError if it cannot be opened."""
    if not stat.S_ISREG(os.stat(path).st_mode):  # to open a pipe would wait for its writer
        return False
    with path.open('rb') as stream:
        head = stream.read(1024)
        kind = format_detection.kind_of(stream)
    if kind == 'BMP':  # 'BM' is the beginning of many texts
        return head[6:10] == bytes(4) and int.from_bytes(head[14:18], 'little') in _BMP_HEADERS
    if kind in _PICTURE_KINDS or head.startswith(_OTHER_STARTS):
        return True
    return _PORTABLE.match(head) is not None


def _reason(path: Path, error: OSError) -> str:
    """Returns the reason why a file cannot be opened, and a remedy."""
    if error.errno == errno.ELOOP:
        return 'is a link that leads back to itself; remove it'
    if isinstance(error, FileNotFoundError) and path.is_symlink():
        return f'is a link to {os.readlink(path)}, which does not exist; remove it'
    if isinstance(error, PermissionError):
        return 'may not be read; change its permissions'
    return f'cannot be opened: {files.reason(error)}'
