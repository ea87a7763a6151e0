"""Writes files completely or not at all, and shortens error messages."""

import contextlib
import errno
import hashlib
import os
import pathlib
import secrets
import shlex
import stat


def check_target(path: pathlib.Path, error: type[Exception], *, overwrite: bool) -> None:
    """Raises an error if a file cannot be written; creates nothing.

    Commands call this function before long work, so that its result is not lost.

    Args:
        path: the file that will be written later.
        error: class of the error.
        overwrite: whether an existing file may be replaced.

    Raises:
        error: the file exists and may not be replaced, its folder is missing or not writable, or
            the path is a folder.
    """
    if path.exists() and not overwrite:
        raise error(
            f'{path} exists already: pass overwrite=True to replace it, or choose another name.'
        )
    try:
        if not stat.S_ISDIR(path.parent.stat().st_mode):
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if path.is_dir():
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not os.access(path.parent, os.W_OK | os.X_OK):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as cause:
        raise error(_unwritable(path, cause)) from cause


def write_whole(path: pathlib.Path, data: bytes, error: type[Exception]) -> None:
    """Writes a file so that it is either complete or unchanged, even if the machine stops.

    Args:
        path: the file; an existing file is replaced.
        data: contents of the file.
        error: class of the error.

    Raises:
        error: the folder is missing or not writable, or the disk is full.
    """
    if '://' in os.fspath(path):  # cloud storage, which writes an object whole or not at all
        try:
            path.write_bytes(data)
        except OSError as cause:
            raise error(_unwritable(path, cause)) from cause
        return
    # Renaming a complete file is one indivisible operation; writing it is not.
    temporary = path.with_name(f'.{secrets.token_hex(8)}.part')
    try:
        with temporary.open('wb') as opened:
            opened.write(data)
            opened.flush()
            os.fsync(opened.fileno())
        os.replace(temporary, path)
    except OSError as cause:
        raise error(_unwritable(path, cause)) from cause
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def cache_folder() -> pathlib.Path:
    """Returns the folder of this package among the user's caches; it may not exist.

    Raises:
        RuntimeError: the user has no home folder.
    """
    root = os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache'
    return pathlib.Path(root, 'metastyle_jax')


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Computes the SHA-256 of a file as hexadecimal digits; raises OSError if unreadable."""
    with open(path, 'rb') as opened:
        return hashlib.file_digest(opened, 'sha256').hexdigest()


def reason(error: BaseException) -> str:
    """Returns a short reason for a message: the system's text for an error, or its first line."""
    return getattr(error, 'strerror', None) or first_line(error)


def first_line(error: BaseException) -> str:
    """Returns the first line of an error's message; only the last part of a very long line."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip('.')
    return line if len(line) < 200 else f'...{line[-150:]}'


def shown(text: str) -> str:
    """Makes a text printable: bytes of file names that are not UTF-8 become hexadecimal."""
    return text.encode(errors='surrogateescape').decode(errors='backslashreplace')


def _unwritable(path: pathlib.Path, cause: OSError) -> str:
    """Makes the message that says why a file cannot be written, with a remedy."""
    if not path.parent.exists():
        make = f'mkdir -p {shlex.quote(os.fspath(path.parent))}'
        return f'Cannot write {path}: {reason(cause)}. See that its folder exists: {make}'
    return (
        f'Cannot write {path}: {reason(cause)}. See that its folder exists and is '
        'writable and that the disk is not full.'
    )
