"""Opens the paintings that a user names by files, folders, patterns, or a data source.

This module loads neither JAX nor NumPy, so error messages on the command line appear at once.
"""

import os
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

from metastyle_jax.core import files
from metastyle_jax.core.errors import UserError
from metastyle_jax.data.folders import distinct_names, picture_listing

if TYPE_CHECKING:
    from metastyle_jax.data import image_source

Words: TypeAlias = str | os.PathLike | Sequence[str | os.PathLike]
_SOURCES = ('sample:', 'folder:', 'tfds:')


def is_many(words: Words) -> bool:
    """Whether the words of a user name anything else than one picture file.

    If so, `metastyle adapt` makes a style library instead of a style file.

    Args:
        words: files, folders and patterns, or one data source.

    Raises:
        UserError: a file does not exist, or a pattern matches nothing.
    """
    if source_word(words):
        return True
    given = picture_listing.expand(words)
    return len(given) > 1 or given[0].is_dir()


def source_word(words: Words) -> str:
    """Returns the words if they are one data source; '' if they are files, folders or patterns."""
    if not isinstance(words, str | os.PathLike):
        if len(words) != 1:
            return ''
        words = words[0]
    word = os.fspath(words)
    return word if word.startswith(_SOURCES) and not os.path.exists(word) else ''


def open_pictures(
    words: Words,
) -> tuple['image_source.ImageSource', dict[str, str], list[pathlib.Path]]:
    """Opens the pictures that a user names, and gives each a different name.

    The name of a picture is its path relative to the given folder. If two given folders hold
    pictures of the same name, the names of the folders are added, see `distinct_names`.

    Args:
        words: files, folders and patterns, or one data source.

    Returns:
        The pictures; path -> reason for files that cannot be opened; files that are not pictures.

    Raises:
        UserError: a file does not exist, a pattern matches nothing, or there is no picture.
    """
    from metastyle_jax.data import file_sources, sources

    if word := source_word(words):
        return sources.open_source(word, kind='style', probe=False), {}, []
    listing = picture_listing.find(words)
    given = [words] if isinstance(words, str | os.PathLike) else words
    shown = ', '.join(map(str, given))
    if not (listing.pictures or listing.unreadable):
        raise UserError(f'style={shown}: holds no pictures; give paintings, or a folder of them')
    wanted = [
        distinct_names.WantedName(
            files.shown(picture.name), picture.path.suffix[1:], picture.folder, str(picture.path)
        )
        for picture in listing.pictures
    ]
    names = distinct_names.distinct(wanted, ignore_case=False)
    named = {name: picture.path for name, picture in zip(names, listing.pictures, strict=True)}
    failed = {str(path): reason for path, reason in listing.unreadable.items()}
    return file_sources.FileSource(shown, named), failed, listing.others
