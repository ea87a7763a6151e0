"""Files that are written whole or not at all."""

import contextlib
import errno
import os
import pathlib
import secrets
import stat


def check_target(path: pathlib.Path, error: type[Exception], *, overwrite: bool) -> None:
    """Raises `error` where no file can be written, of whatever kind, and creates nothing.

    Args:
        path: the file to be written later.
        error: the class of the error.
        overwrite: whether an existing file may be replaced.
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
    """Writes a file that is there whole or not at all, whenever the machine stops.

    Args:
        path: the file; replaced where it exists.
        data: its contents.
        error: the class of the error.

    Raises:
        error: if the folder is missing or not writable, or the disk is full.
    """
    if '://' in os.fspath(path):  # a bucket: an object is there whole or not at all
        try:
            path.write_bytes(data)
        except OSError as cause:
            raise error(_unwritable(path, cause)) from cause
        return
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


def reason(error: BaseException) -> str:
    """Says why something failed: the system's words without number and path, or `first_line`."""
    return getattr(error, 'strerror', None) or first_line(error)


def first_line(error: BaseException) -> str:
    """Shortens an error of many lines or long paths; the cause stands at the end."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip('.')
    return line if len(line) < 200 else f'...{line[-150:]}'


def _unwritable(path: pathlib.Path, cause: OSError) -> str:
    """Says why a file cannot be written, and what to do."""
    return (
        f'Cannot write {path}: {reason(cause)}. See that its folder exists and is '
        'writable and that the disk is not full.'
    )
