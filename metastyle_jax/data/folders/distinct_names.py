"""Chooses names of results so that no two pictures get the same name.

A picture keeps its name if no other picture would get the same one. Otherwise the suffix of the
picture becomes part of the name: the results of ``a.png`` and ``a.tif`` are ``a_png.png`` and
``a_tif.png``. If names are still equal, the name of the folder is added, and finally a number. The
names do not depend on the order of the pictures.
"""

import collections
import os
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

MOST_BYTES = 255  # of one file name, on all common file systems


class WantedName(NamedTuple):
    """The name that the result of a picture would get if there were no other pictures.

    Attributes:
        name: POSIX path relative to the output folder, such as ``holiday/a.png``.
        suffix: suffix of the picture itself without its dot, such as ``tif``; '' if it has none.
        folder: name of the folder in which the picture was found.
        source: path of the picture; if numbers are needed, they follow the order of these paths.
    """

    name: str
    suffix: str
    folder: str
    source: str


def distinct(wanted: Sequence[WantedName], *, ignore_case: bool = True) -> list[str]:
    """Chooses a different name for the result of each picture.

    Args:
        wanted: the wanted name of each picture.
        ignore_case: whether names that differ only in upper and lower case count as equal, as they
            do on macOS and Windows.

    Returns:
        A name for each picture, in the order of `wanted`.
    """
    fold = _fold if ignore_case else str
    groups: dict[str, list[int]] = collections.defaultdict(list)
    for i, each in enumerate(wanted):
        groups[fold(_fitted(each.name))].append(i)
    names = [_fitted(each.name) for each in wanted]
    # A file cannot have the name of a folder, such as a folder ``a.png`` beside ``a.tif``.
    taken = {fold(folder.as_posix()) for name in names for folder in PurePosixPath(name).parents}
    clashes = {key: group for key, group in groups.items() if len(group) > 1 or key in taken}
    taken |= groups.keys() - clashes.keys()
    for _, group in sorted(clashes.items()):
        group = sorted(group, key=lambda i: (wanted[i].source, wanted[i].name))
        for i, name in zip(group, _told_apart([wanted[i] for i in group], fold), strict=True):
            names[i] = next(free for free in _numbered(name) if fold(free) not in taken)
            taken.add(fold(names[i]))
    return names


def _told_apart(group: Sequence[WantedName], fold: Callable[[str], str]) -> list[str]:
    """Adds suffixes, folder names or both to equal names; uses the shortest form that works best.

    Some of the names may still be equal.
    """
    kinds = [
        [
            _with_words(each.name, each.folder if before else '', each.suffix if behind else '')
            for each in group
        ]
        for before, behind in ((False, False), (False, True), (True, False), (True, True))
    ]
    return max(kinds, key=lambda names: len({*map(fold, names)}))  # the first of the best


def _with_words(name: str, before: str, behind: str) -> str:
    """Adds words before and after the stem of a name: ``before_stem_behind.png``."""
    path = PurePosixPath(name)
    before, behind = (before and f'{before}_'), (behind and f'_{behind}')
    most = MOST_BYTES - len(os.fsencode(before + behind + path.suffix))
    return path.with_name(f'{before}{_cut(path.stem, most)}{behind}{path.suffix}').as_posix()


def _numbered(name: str) -> Iterator[str]:
    """Yields the name, and then the name with the numbers 2, 3 and so on."""
    yield name
    number = 2
    while True:
        yield _with_words(name, '', str(number))
        number += 1


def _fitted(name: str) -> str:
    """Shortens the stem of a name that is too long for a file system."""
    return _with_words(name, '', '')


def _cut(text: str, most: int) -> str:
    """Shortens a text to at most `most` bytes, but never to less than one letter."""
    while len(os.fsencode(text)) > most and len(text) > 1:
        text = text[:-1]
    return text


def _fold(name: str) -> str:
    """Normalizes a name: names that are equal on some file systems give the same text."""
    return unicodedata.normalize('NFC', name.casefold())
