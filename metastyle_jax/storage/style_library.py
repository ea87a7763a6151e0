"""Style libraries: many styles of one θ in one ``.safetensors`` file, each found by its name.

Only instance norms are adapted, so each style is one row of every tensor ``[S, C]``. A style has
3,200 numbers, and a thousand styles take 13.6 MB.
"""

import difflib
import json
import os
import pathlib
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import safetensors

from metastyle_jax.core.commands import first_steps
from metastyle_jax.data.folders import picture_listing
from metastyle_jax.data.images import image_files
from metastyle_jax.storage import style_files, tensor_files

SHOWN = 10  # names in one message
_FORMAT = tensor_files.FileFormat(
    name='metastyle_jax.library',
    version=1,
    noun='library of styles',
    remedy='`metastyle adapt` makes a library of a folder of paintings',
    keys=('styles', 'theta_sha256', 'settings'),
    error=style_files.StyleFileError,
)


class LibraryEntry(NamedTuple):
    """The record of one style in a library.

    Attributes:
        sha256: SHA-256 of the file of the style image.
        losses: name -> losses before the first and before the last step of the adaptation.
    """

    sha256: str
    losses: dict[str, list[float]]


class Library(NamedTuple):
    """Several styles that were adapted from one θ.

    Attributes:
        params: name -> `[S, C]` float32, scales and biases of the instance norms of S styles.
        entries: name of a style -> its record, in the order of the rows of `params`.
        theta_sha256: fingerprint of the θ.
        settings: settings of the adaptation, of JSON types.
    """

    params: dict[str, np.ndarray]
    entries: dict[str, LibraryEntry]
    theta_sha256: str
    settings: dict[str, Any]

    @property
    def names(self) -> list[str]:
        """Names of the styles, in the order of the rows."""
        return list(self.entries)


def check_output(path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Checks before an adaptation that `save` will be able to write the file; creates nothing.

    Args:
        path: the file to be written later.
        overwrite: whether an existing file may be replaced.

    Raises:
        style_files.StyleFileError: see `save`.
    """
    tensor_files.check_output(pathlib.Path(path), _FORMAT, overwrite=overwrite)


def save(path: str | os.PathLike[str], library: Library, *, overwrite: bool = False) -> None:
    """Writes a library to one ``.safetensors`` file, completely or not at all.

    Args:
        path: the file.
        library: the library.
        overwrite: whether an existing file may be replaced.

    Raises:
        style_files.StyleFileError: the file exists or cannot be written, or a value is not finite.
    """
    entries = {name: entry._asdict() for name, entry in library.entries.items()}
    metadata = {
        'styles': json.dumps(entries),
        'theta_sha256': library.theta_sha256,
        'settings': json.dumps(library.settings, default=str),
    }
    flat = {name: np.array(array, np.float32) for name, array in library.params.items()}
    tensor_files.write(pathlib.Path(path), flat, metadata, _FORMAT, overwrite=overwrite)


def load(path: str | os.PathLike[str]) -> Library:
    """Reads a library.

    Args:
        path: a file that `save` wrote.

    Raises:
        style_files.StyleFileError: the file is missing, damaged, not a library, or of another
            version.
    """
    path = pathlib.Path(path)
    flat, metadata = tensor_files.read(path, _FORMAT)
    tensor_files.check_finite(flat, path, style_files.StyleFileError)
    records, settings = (
        tensor_files.read_json(metadata, key, path, style_files.StyleFileError)
        for key in ('styles', 'settings')
    )
    try:
        entries = {name: LibraryEntry(**entry) for name, entry in records.items()}
    except TypeError as error:
        raise style_files.StyleFileError(
            f'{path} has broken records of its styles: make it again.'
        ) from error
    for name, array in flat.items():
        if array.ndim != 2 or len(array) != len(entries):
            raise style_files.StyleFileError(
                f'{name} in {path} has the shape {array.shape}, expected one row for each of '
                f'{len(entries)} styles: make it again.'
            )
    flat = tensor_files.as_float32(flat, path, style_files.StyleFileError)
    return Library(flat, entries, metadata['theta_sha256'], settings)


def merge(one: Library, other: Library) -> Library:
    """Joins two libraries that were adapted from the same θ.

    Args:
        one: a library.
        other: a library with the same tensors. Its styles replace those of `one` with equal names.

    Returns:
        A library whose styles are sorted by name.
    """
    if not other.entries:
        return one
    entries = one.entries | other.entries
    names = [*one.entries, *other.entries]
    row_of = {name: row for row, name in enumerate(names)}  # later rows replace earlier ones
    rows = [row_of[name] for name in sorted(entries)]

    def join(first: np.ndarray | None, second: np.ndarray) -> np.ndarray:
        return (np.concatenate([first, second]) if one.entries else second)[rows]

    return one._replace(
        params={key: join(one.params.get(key), leaf) for key, leaf in other.params.items()},
        entries={name: entries[name] for name in sorted(entries)},
    )


def is_library(path: str | os.PathLike[str]) -> bool:
    """Whether a file is a library according to its metadata; it may still be damaged."""
    try:
        with safetensors.safe_open(path, 'np') as opened:
            return (opened.metadata() or {}).get('format') == _FORMAT.name
    except (safetensors.SafetensorError, OSError, TypeError):
        return False


def split(word: str | os.PathLike[str]) -> tuple[pathlib.Path, str]:
    """Splits `FILE.safetensors:NAME` into the file and the name of a style.

    It splits at the colon after `.safetensors`, so a Windows drive letter is no separator.

    Args:
        word: `FILE.safetensors:NAME`, or only a file.

    Returns:
        The file, and the name; the name is '' if `word` is only a file.
    """
    match = re.fullmatch(r'(.*?\.safetensors):(.*)', str(word), re.DOTALL)
    if match is None or os.path.exists(word):
        return pathlib.Path(word), ''
    return pathlib.Path(match[1]), match[2]


def resolve(library: Library, name: str) -> str:
    """Finds the full name of a style from a short name.

    Args:
        library: the library to search.
        name: a name in `Library.names`. Its folders, its suffix or both may be left out if only one
            style fits; upper and lower case are the same.

    Returns:
        The full name.

    Raises:
        style_files.StyleFileError: no style has this name, or several styles fit; the message lists
            similar names.
    """
    if name in library.entries:
        return name
    folded = name.casefold()
    short_names = lambda full: (
        {part.casefold() for part in (full, full.split('/')[-1])}
        | {stem_of(part).casefold() for part in (full, full.split('/')[-1])}
    )
    matches = [full for full in library.entries if folded in short_names(full)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise style_files.StyleFileError(
            f'The name {name!r} fits {len(matches)} styles: write one of {_list(matches)}.'
        )
    by_short = {part: full for full in library.entries for part in short_names(full)}
    close = difflib.get_close_matches(folded, by_short, n=SHOWN, cutoff=0.5)
    close += [part for part in by_short if folded in part] if folded else []
    near = list(dict.fromkeys(by_short[part] for part in close))
    hint = f'the closest are {_list(near)}' if near else f'it has {_list(library.names)}'
    raise style_files.StyleFileError(
        f'There is no style {name!r} among the {len(library.entries)} of the library: {hint}.'
    )


def pick(library: Library, name: str) -> style_files.Style:
    """Takes one style out of a library.

    Args:
        library: the library.
        name: see `resolve`.

    Returns:
        The style, which has only instance norms, as from `adapt` with `params='norm'`.

    Raises:
        style_files.StyleFileError: see `resolve`.
    """
    name = resolve(library, name)
    row, entry = library.names.index(name), library.entries[name]
    return style_files.Style(
        params={key: array[row] for key, array in library.params.items()},
        adapted='norm',
        style_name=name,
        style_sha256=entry.sha256,
        theta_sha256=library.theta_sha256,
        settings=library.settings,
        losses=dict(entry.losses),
    )


def open_style(word: str | os.PathLike[str]) -> style_files.Style:
    """Reads a style from a style file or from a library.

    Args:
        word: a style file, or `LIBRARY.safetensors:NAME`.

    Raises:
        style_files.StyleFileError: the file cannot be read, or the library has no such style.
    """
    path, name = split(word)
    if os.path.isfile(path) and picture_listing.is_picture(path):
        raise style_files.StyleFileError(
            f'style={path} is a picture, and a style file is needed: metastyle_jax.adapt makes a '
            f'style of it, or the command:{first_steps.lines(first_steps.adapt_line([str(path)]))}'
        )
    if not name and not is_library(path):
        return style_files.load_style(path)
    library = load(path)
    if not name:
        raise style_files.StyleFileError(
            f'{path} is a library of {len(library.entries)} styles: choose one with '
            f'style={path}:NAME, of {_list(library.names)}; or all of them with all=True.'
        )
    return pick(library, name)


def stem_of(name: str) -> str:
    """Removes '.jpg' and other suffixes of image files from the name of a style.

    Other suffixes stay, because titles of paintings may contain dots.

    Args:
        name: name of a style, with or without folders.
    """
    path = pathlib.PurePosixPath(name)
    is_image = path.suffix.lower() in image_files.SUFFIXES_IN
    return path.with_suffix('').as_posix() if is_image else name


def _list(names: Sequence[str]) -> str:
    """Joins the first names for a message, and counts the others."""
    shown = ', '.join(repr(name) for name in names[:SHOWN])
    return shown + (f' and {len(names) - SHOWN} more' if len(names) > SHOWN else '')
