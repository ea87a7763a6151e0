"""Libraries: many styles of one θ in one ``.safetensors`` file, to be picked by name.

Only instance norms are adapted, so a style is one row of each tensor ``[S, C]``: 3,200 numbers, and
a thousand styles are 13.6 MB.
"""

import collections
import difflib
import itertools
import json
import os
import pathlib
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import safetensors

from metastyle_jax.core import types
from metastyle_jax.data.images import image_files
from metastyle_jax.models import transformer
from metastyle_jax.storage import style_files, tensor_files, theta_files

SHOWN = 10  # names that one message holds
_FORMAT = tensor_files.FileFormat(
    name='metastyle_jax.library',
    version=1,
    noun='library of styles',
    remedy='metastyle-adapt makes a library of a folder of pictures',
    keys=('styles', 'theta_sha256', 'settings'),
    error=style_files.StyleFileError,
)


class LibraryEntry(NamedTuple):
    """One style of a library.

    Attributes:
        sha256: SHA-256 of the style image's file.
        losses: name -> the losses before the first step and before the last one.
    """

    sha256: str
    losses: dict[str, list[float]]


class Library(NamedTuple):
    """Styles that one θ was adapted to.

    Attributes:
        params: name -> `[S, C]` float32, the scales and biases of instance norms.
        entries: name of each style, in the order of the rows -> what is known of it.
        theta_sha256: `tensor_files.fingerprint` of the θ.
        settings: the options of the adaptation, JSON types.
    """

    params: dict[str, np.ndarray]
    entries: dict[str, LibraryEntry]
    theta_sha256: str
    settings: dict[str, Any]

    @property
    def names(self) -> list[str]:
        """Names of the styles."""
        return list(self.entries)


def check_output(path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Raises what `save` would raise for this path, and creates nothing; see `save`."""
    tensor_files.check_output(pathlib.Path(path), _FORMAT, overwrite=overwrite)


def save(path: str | os.PathLike[str], library: Library, *, overwrite: bool = False) -> None:
    """Writes a library to one ``.safetensors`` file, whole or not at all.

    Args:
        path: the file.
        library: what to write.
        overwrite: whether an existing file may be replaced.

    Raises:
        style_files.StyleFileError: if the file exists or cannot be written, or values are not
            finite.
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
        path: a file of `save`.

    Returns:
        `Library`.

    Raises:
        style_files.StyleFileError: if it is missing, damaged, no library, or of another version.
    """
    path = pathlib.Path(path)
    flat, metadata = tensor_files.read(path, _FORMAT)
    tensor_files.check_finite(flat, path, style_files.StyleFileError)
    found, settings = (
        tensor_files.read_json(metadata, key, path, style_files.StyleFileError)
        for key in ('styles', 'settings')
    )
    try:
        entries = {name: LibraryEntry(**entry) for name, entry in found.items()}
    except TypeError as error:
        raise style_files.StyleFileError(
            f'{path} has broken facts about its styles: make it again.'
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
    """The styles of both, by name; where names are equal, those of the other."""
    if not other.entries:
        return one
    entries = one.entries | other.entries
    names = [*one.entries, *other.entries]
    place = {name: row for row, name in enumerate(names)}  # the last of those with one name
    rows = [place[name] for name in sorted(entries)]

    def join(first: np.ndarray | None, second: np.ndarray) -> np.ndarray:
        return (np.concatenate([first, second]) if one.entries else second)[rows]

    return one._replace(
        params={key: join(one.params.get(key), leaf) for key, leaf in other.params.items()},
        entries={name: entries[name] for name in sorted(entries)},
    )


def is_library(path: str | os.PathLike[str]) -> bool:
    """Whether a file is a library by what it says of itself, damaged or not."""
    try:
        with safetensors.safe_open(path, 'np') as opened:
            return (opened.metadata() or {}).get('format') == _FORMAT.name
    except (safetensors.SafetensorError, OSError, TypeError):
        return False


def split(word: str | os.PathLike[str]) -> tuple[pathlib.Path, str]:
    """Parts `FILE.safetensors:NAME`; the name is '' where there is none.

    Only a colon behind ``.safetensors`` parts: that behind the letter of a drive does not.
    """
    found = re.fullmatch(r'(.*?\.safetensors):(.*)', str(word), re.DOTALL)
    if found is None or os.path.exists(word):
        return pathlib.Path(word), ''
    return pathlib.Path(found[1]), found[2]


def resolve(library: Library, name: str) -> str:
    """Finds a style by its name, or by as much of it as is its alone.

    Args:
        library: where to look.
        name: as in `Library.names`; folders before it and the suffix after it may be left out.

    Returns:
        The name in full.

    Raises:
        style_files.StyleFileError: there is none, or several.
    """
    if name in library.entries:
        return name
    folded = name.casefold()
    short = lambda full: (
        {part.casefold() for part in (full, full.split('/')[-1])}
        | {_stem(part).casefold() for part in (full, full.split('/')[-1])}
    )
    found = [full for full in library.entries if folded in short(full)]
    if len(found) == 1:
        return found[0]
    if found:
        raise style_files.StyleFileError(
            f'The name {name!r} fits {len(found)} styles: write one of {_list(found)}.'
        )
    by_short = {part: full for full in library.entries for part in short(full)}
    close = difflib.get_close_matches(folded, by_short, n=SHOWN, cutoff=0.5)
    close += [part for part in by_short if folded in part] if folded else []
    near = list(dict.fromkeys(by_short[part] for part in close))
    what = f'the closest are {_list(near)}' if near else f'it has {_list(library.names)}'
    raise style_files.StyleFileError(
        f'There is no style {name!r} among the {len(library.entries)} of the library: {what}.'
    )


def pick(library: Library, name: str) -> style_files.Style:
    """Takes one style out of a library.

    Args:
        library: of `load`.
        name: see `resolve`.

    Returns:
        A style of 'norm' parameters, as `adapt` makes one.

    Raises:
        style_files.StyleFileError: there is none of this name, or several.
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
    """Reads a style: a style file, or `LIBRARY.safetensors:NAME`.

    Args:
        word: of either form.

    Raises:
        style_files.StyleFileError: it cannot be read, or the library has no such style.
    """
    path, name = split(word)
    if not name and not is_library(path):
        return style_files.load_style(path)
    library = load(path)
    if not name:
        raise style_files.StyleFileError(
            f'{path} is a library of {len(library.entries)} styles: choose one with '
            f'--style={path}:NAME, of {_list(library.names)}; or render --all.'
        )
    return pick(library, name)


def file_names(library: Library) -> list[str]:
    """A file for a picture in each style, with folders as in the names, none outside of them."""
    parts = [
        [
            re.sub(r'[<>:"\\|?*\x00-\x1f]', '_', part).strip('. ') or '_'
            for part in name.split('/')
            if part not in ('', '.', '..')
        ]
        for name in library.entries
    ]
    whole = ['/'.join(each) or '_' for each in parts]
    short = [_stem(name) for name in whole]
    counts = collections.Counter(map(str.casefold, short))
    found, taken = [], set()
    for stem, name in zip(short, whole, strict=True):
        name = stem if counts[stem.casefold()] == 1 else name
        # Some file systems tell no upper from lower case.
        numbered = (f'{name}_{number}' for number in itertools.count(2))
        free = next(x for x in itertools.chain([name], numbered) if x.casefold() not in taken)
        taken.add(free.casefold())
        found.append(f'{free}.png')
    return found


def own_theta(
    library: Library, theta: str | os.PathLike | theta_files.Theta | None
) -> theta_files.Theta:
    """The θ that a library was adapted from.

    Args:
        library: of `load`.
        theta: it, or where it is; None for the one that comes with the package.

    Raises:
        errors.UserError: it cannot be read, or is another.
    """
    given = theta
    if not isinstance(theta, theta_files.Theta):
        theta = theta_files.load_theta(theta)
    if theta.fingerprint != library.theta_sha256:
        what = 'the one that comes with the package' if given is None else '--theta'
        raise style_files.StyleFileError(
            f'The library was adapted from the θ {library.theta_sha256}, but {what} is '
            f'{theta.fingerprint}: give that θ with --theta, or adapt again from this one.'
        )
    return theta


def stack(
    library: Library, names: Sequence[str], theta: theta_files.Theta
) -> tuple[types.Params, types.Params]:
    """Parameters with which each image of a batch gets a style of its own.

    Args:
        library: of `load`.
        names: of the styles, one for each of N images; see `resolve`.
        theta: of `own_theta`.

    Returns:
        Those of θ with the norms of the styles, `[N, C]`, for `transformer.apply` on N images; and
        those of θ in the same shapes.

    Raises:
        style_files.StyleFileError: a name is not there, or the tensors are not those of θ's norms.
    """
    flat = tensor_files.flatten(theta.params)
    is_norm = transformer.adapted('norm')
    wanted = {name: leaf.shape for name, leaf in flat.items() if is_norm(name)}
    if {name: array.shape[1:] for name, array in library.params.items()} != wanted:
        raise style_files.StyleFileError(
            'The library has other tensors than the instance norms of its θ: make it again.'
        )
    rows = [library.names.index(resolve(library, name)) for name in names]
    adapted = {name: array[rows] for name, array in library.params.items()}
    plain = {name: np.repeat(flat[name][None], len(rows), axis=0) for name in adapted}
    return tensor_files.unflatten(flat | adapted), tensor_files.unflatten(flat | plain)


def _stem(name: str) -> str:
    """A name without the suffix of a picture; titles may have dots of their own."""
    path = pathlib.PurePosixPath(name)
    known = path.suffix.lower() in image_files.SUFFIXES_IN
    return path.with_suffix('').as_posix() if known else name


def _list(names: Sequence[str]) -> str:
    """Some names for a message."""
    shown = ', '.join(repr(name) for name in names[:SHOWN])
    return shown + (f' and {len(names) - SHOWN} more' if len(names) > SHOWN else '')
