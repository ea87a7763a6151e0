"""Opens image sources, and selects some of their images.

A user names a source by a word: `sample:` (images from installed packages), `folder:PATH` (a folder
with its sub-folders) or `tfds:NAME[/CONFIG][:SPLIT]` (a data set that TensorFlow Datasets prepared
as ArrayRecord files; reading it does not need TensorFlow).
"""

import hashlib
import os
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from metastyle_jax.core.commands import paths
from metastyle_jax.data import file_sources, image_source, tfds_source

BAD_SHARE = 0.1  # a larger fraction of unreadable images means that the data set is broken
_FORMS = "'sample:', 'folder:PATH' or 'tfds:NAME[/CONFIG][:SPLIT]'"


def open_source(
    word: str,
    *,
    kind: file_sources.SourceKind,
    data_dir: str | os.PathLike | None = None,
    probe: bool = True,
    bad_share: float = BAD_SHARE,
) -> image_source.ImageSource:
    """Opens an image source.

    Args:
        word: `sample:`, `folder:PATH` or `tfds:NAME[/CONFIG][:SPLIT]`.
        kind: which images `sample:` stands for: 'content' for photographs, 'style' for paintings.
        data_dir: the folder of TensorFlow Datasets; by default `$TFDS_DATA_DIR`, else
            `~/tensorflow_datasets`.
        probe: whether to read the headers of all images of a folder, and to leave out images with
            unreadable headers. If False, such images are found only when they are decoded.
        bad_share: largest fraction of unreadable images that is tolerated.

    Returns:
        The source; it holds at least one image.

    Raises:
        DataError: the word has none of these forms, or the source is missing, empty or damaged.
    """
    scheme, colon, value = word.partition(':')
    if scheme == 'sample' and colon and not value:
        return file_sources.open_samples(word, kind)
    if scheme == 'folder' and value:
        folder = Path(value).expanduser()
        return file_sources.open_folder(word, folder, probe=probe, bad_share=bad_share)
    if scheme == 'tfds' and value:
        return tfds_source.open_tfds(word, value, data_dir)
    if remedy := paths.address_remedy(word):
        raise image_source.DataError(f'{word!r} is no data source, give {_FORMS}; {remedy}')
    meant = f' Is folder:{word} meant?' if os.path.isdir(paths.expand(word)) else ''
    raise image_source.DataError(f'{word!r} is no data source. Give {_FORMS}.{meant}')


def without(source: image_source.ImageSource, words: Collection[str]) -> image_source.ImageSource:
    """Leaves out all images whose names contain at least one of the given words.

    Args:
        source: the images to choose from; not a `tfds:` source.
        words: parts of names; upper and lower case are the same.

    Returns:
        A source of the other images, in the same order, numbered from 0; the source itself if
        `words` is empty.

    Raises:
        DataError: no name contains one of the words, no image remains, or the source is `tfds:`.
    """
    if not words:
        return source
    if isinstance(source, tfds_source.TfdsSource):
        raise image_source.DataError(
            f"{source.word}: only images of 'sample:' and 'folder:PATH' can be left out by name, "
            f'because here the names are stored with the images. Remove {sorted(words)} from what '
            'is excluded, or give a part of the split, such as train[10:].'
        )
    names = [source.name(i).casefold() for i in range(len(source))]
    kept = np.ones(len(names), bool)
    for word in words:
        matches = np.array([word.casefold() in name for name in names], bool)
        if not matches.any():
            raise image_source.DataError(
                f'{source.word}: no image has {word!r} in its name, so it cannot be left out. '
                'Correct or remove this word.'
            )
        kept &= ~matches
        if not kept.any():
            raise image_source.DataError(
                f'{source.word}: no image remains after those with {word!r} in their names are '
                'left out. Remove this word, or add images.'
            )
    return subset(source, np.flatnonzero(kept).tolist())


def subset(source: image_source.ImageSource, indices: Sequence[int]) -> image_source.ImageSource:
    """Returns a source of some images of another source, selected by their indices."""
    return _Subset(source, tuple(indices))


def is_held_out(name: str) -> bool:
    """Whether an image is held out, which means that it is never used in training.

    About one image in sixteen is held out. A hash of the file name decides, so the choice is the
    same on every machine and does not change when images are added.

    Args:
        name: name of the file; folders in it are ignored.
    """
    return hashlib.sha256(Path(name).name.encode()).hexdigest().startswith('0')


def held_out(source: image_source.ImageSource, *, inside: bool = True) -> image_source.ImageSource:
    """Returns the held-out images of a source, or the images for training; see `is_held_out`.

    Args:
        source: the images to choose from; not a `tfds:` source.
        inside: True for the held-out images, False for the images for training.

    Raises:
        DataError: no image remains, or the source is `tfds:`.
    """
    if isinstance(source, tfds_source.TfdsSource):
        raise image_source.DataError(
            f"{source.word}: only images of 'sample:' and 'folder:PATH' can be held out by name. "
            'Give a part of the split instead, such as train[10:].'
        )
    chosen = [i for i in range(len(source)) if is_held_out(source.name(i)) == inside]
    if not chosen:
        raise image_source.DataError(
            f'{source.word}: {"none" if inside else "all"} of its {len(source)} images are held '
            'out by name, so no image remains. Add images.'
        )
    return subset(source, chosen)


class _Subset(image_source.ImageSource):
    """Some images of another source."""

    def __init__(self, source: image_source.ImageSource, indices: tuple[int, ...]):
        self.word = source.word
        self._source = source
        self._indices = indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> str | bytes:
        return self._source[self._indices[index]]

    def digest(self) -> str:
        return image_source.short_hash(f'{self._source.digest()} {self._indices}')

    def name(self, index: int) -> str:
        return self._source.name(self._indices[index])

    def decode(self, index: int, min_side: int | None = None) -> np.ndarray:
        return self._source.decode(self._indices[index], min_side)
