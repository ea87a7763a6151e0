"""Sources of TensorFlow Datasets, `tfds:NAME[/CONFIG][:SPLIT]`, read without TensorFlow."""

import functools
import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from metastyle_jax.core import files
from metastyle_jax.data import image_source
from metastyle_jax.data.images import image_files


class TfdsSource(image_source.ImageSource):
    """The images of a data set that TensorFlow Datasets prepared as ArrayRecord files.

    The images are the feature `image` of a split. Only the prepared folder is read: the code that
    prepared it, which may need TensorFlow, is never imported.

    Args:
        word: the word of the user that names the source, for messages.
        folder: the prepared folder, DATA_DIR/NAME[/CONFIG]/VERSION.
        split: the split or a part of it, such as 'train[:10%]'.
    """

    def __init__(self, word: str, folder: Path, split: str):
        self.word = word
        self._folder = str(folder)
        self._split = split
        self._length = len(self._records)

    def __getstate__(self) -> dict[str, Any]:
        # Open files cannot be pickled; a worker process opens them itself.
        return {key: value for key, value in vars(self).items() if key != '_records'}

    @functools.cached_property
    def _records(self) -> Any:
        import tensorflow_datasets as tfds  # slow to import, and needed here only

        for name in ('dataset_info.json', 'features.json'):
            _check_json(self.word, Path(self._folder, name))
        try:
            builder = tfds.builder_from_directory(self._folder)
            _check_tfds(self.word, builder, self._split)
            skip = {'image': tfds.decode.SkipDecoding()}
            return builder.as_data_source(self._split, decoders=skip, file_format='array_record')
        except image_source.DataError:
            raise
        except Exception as error:  # TFDS, protobuf and ArrayRecord each raise their own classes
            raise image_source.DataError(
                f'{self.word}: {self._folder} cannot be opened ({files.first_line(error)}). Copy '
                'it again, or prepare the data set again.'
            ) from error

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> bytes:
        return self._record(index)['image']

    def digest(self) -> str:
        """Returns a hash of the word and the length, since the names are inside the records."""
        return image_source.short_hash(f'{self.word} {len(self)}')

    def name(self, index: int) -> str:
        """Returns the word, the index and, if the record holds it, the name of the image file."""
        try:
            filename = self._record(index).get('image/filename', b'')
        except image_files.ImageError:
            filename = b''
        filename = filename.decode(errors='replace') if isinstance(filename, bytes) else filename
        return f'{self.word}[{index}] {filename}'.rstrip()

    def decode(self, index: int, min_side: int | None = None) -> np.ndarray:
        """Reads one image; see `ImageSource.decode`."""
        # Errors name the word and the index only, because `name` would read the record again.
        return image_files.read_uint8(self[index], name=f'{self.word}[{index}]', min_side=min_side)

    def _record(self, index: int) -> dict[str, Any]:
        """Reads one record; raises ImageError for a damaged record."""
        records = self._records
        try:
            return records[index]
        except MemoryError:
            raise
        except Exception as error:  # ArrayRecord and TFDS raise almost any class on damage
            raise image_files.ImageError(
                f'{self.word}[{index}]: its record cannot be read from {self._file(index)} '
                f'({files.first_line(error)}); copy or prepare this file again'
            ) from error

    def _file(self, index: int) -> str:
        """Returns the name of the file that holds a record."""
        for part in self._records.dataset_info.splits[self._split].file_instructions:
            if index < part.take:
                return part.filename
            index -= part.take
        return self._folder


def open_tfds(word: str, value: str, data_dir: str | os.PathLike | None) -> TfdsSource:
    """Opens a prepared data set.

    Args:
        word: the whole word of the user, for messages.
        value: the part of the word after `tfds:`: NAME[/CONFIG][:SPLIT]; the split is 'train' by
            default.
        data_dir: see `sources.open_source`.

    Raises:
        DataError: the data set is not prepared, is damaged, or has no images.
    """
    name, _, split = value.partition(':')
    return TfdsSource(word, _prepared_folder(word, name, data_dir), split or 'train')


def _prepared_folder(word: str, name: str, data_dir: str | os.PathLike | None) -> Path:
    """Finds the folder DATA_DIR/NAME[/CONFIG]/VERSION with the highest version."""
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
        raise image_source.DataError(
            f'{word}: {name!r} has configurations. Give one: {", ".join(configs)}.'
        )
    raise image_source.DataError(
        f'{word}: {name!r} is not prepared in {root}. Name the right folder in data_dir or '
        f'TFDS_DATA_DIR, or prepare it once: {_prepare_command(name, root)}'
    )


def _prepare_command(name: str, root: str | os.PathLike) -> str:
    """Returns the shell command that downloads and prepares a data set."""
    return (
        f"pip install 'metastyle_jax[coco]' && "
        f'tfds build {name} --file_format=array_record --data_dir={root}'
    )


def _check_json(word: str, path: Path) -> None:
    """Raises DataError, with the name of the file, if a JSON file is damaged."""
    try:
        json.loads(path.read_text(encoding='utf-8'))
    except FileNotFoundError:
        return  # TFDS reports a missing file itself
    except (OSError, ValueError) as error:
        raise image_source.DataError(
            f'{word}: {path} cannot be read ({files.first_line(error)}). Copy it again, or prepare '
            'the data set again.'
        ) from error


def _check_tfds(word: str, builder: Any, split_name: str) -> None:
    """Raises DataError unless the data set has images of this split in ArrayRecord files."""
    name = builder.info.full_name.rpartition('/')[0]
    formats = sorted(known.value for known in builder.info.available_file_formats())
    if 'array_record' not in formats:
        raise image_source.DataError(
            f'{word}: {builder.data_path} is prepared as {", ".join(formats)}, which needs '
            'TensorFlow. Prepare it as ArrayRecord, in another folder: '
            + _prepare_command(name, 'FOLDER')
        )
    splits = builder.info.splits
    try:
        split_info = splits[split_name]  # also a part of one, such as train[:10%]
    except (KeyError, ValueError) as error:
        raise image_source.DataError(
            f'{word}: there is no split {split_name!r}. Give one of: {", ".join(splits)}.'
        ) from error
    if 'image' not in builder.info.features:
        raise image_source.DataError(
            f"{word} has no feature 'image' but {', '.join(builder.info.features)}. "
            'Choose a data set of images.'
        )
    if not split_info.num_examples:
        raise image_source.DataError(
            f'{word}: the split {split_name!r} is empty. Give a larger one.'
        )
    missing = [str(path) for path in split_info.filepaths if not Path(path).is_file()]
    if missing:
        raise image_source.DataError(
            f'{word}: {len(missing)} files are missing, for example {missing[0]}. Copy them.'
        )
