"""Makes endless streams of shuffled, randomly cropped images with Grain.

A damaged image is replaced by the next image of the same part (training or validation) of the
source.
"""

import dataclasses
import math
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from absl import logging

from metastyle_jax.data import image_source, sources
from metastyle_jax.data.images import image_files, resizing

if TYPE_CHECKING:
    import grain  # slow to import, and needed only where a stream is made

STEPS = 2**40  # length of an endless stream: Grain zips streams of equal, finite length
_FIRST_IMAGES = 200  # damage is judged as a fraction of at least so many images, if there are any
_LOCK = threading.Lock()  # guards every tally; a lock inside a tally could not be pickled


@dataclasses.dataclass
class DamageTally:
    """Records which images of a source this process has tried to decode, and which are damaged.

    Attributes:
        tried: numbers of all images that were tried.
        bad: numbers of the damaged ones among them.
    """

    tried: set[int] = dataclasses.field(default_factory=set)
    bad: set[int] = dataclasses.field(default_factory=set)

    def count(
        self, source: image_source.ImageSource, index: int, error: image_files.ImageError | None
    ) -> None:
        """Records that one image was tried; warns if it is damaged.

        Args:
            source: the source of the image.
            index: the number of the image in the source.
            error: the error that decoding raised; None if it succeeded.

        Raises:
            DataError: too large a fraction of the tried images is damaged.
        """
        with _LOCK:
            self.tried.add(index)
            if error is None or index in self.bad:
                return
            self.bad.add(index)
            count = f'{len(self.bad)} of {len(self.tried)}'
            shown = sorted(self.bad)[: image_source.SHOWN_NAMES]
            names = ', '.join(source.name(i) for i in shown)
            # One damaged image among the first three would look like a third of the source.
            counted = max(len(self.tried), min(len(source), _FIRST_IMAGES))
            too_many = len(self.bad) > sources.BAD_SHARE * counted
        if too_many:
            raise image_source.DataError(
                f'{source.word}: {count} images tried are damaged: {names}. '
                f'Repair or remove them. The last one: {error}'
            )
        logging.warning(
            '%s: the next image replaces a damaged one (%s so far): %s', source.word, count, error
        )


class PartReader:
    """Gives Grain access to a part of a source, by `len` and indexing.

    An element is a pair: the image `[H, W, 3]` uint8, and its number in the source.

    Args:
        source: the whole source.
        indices: numbers of the images that belong to this part.
        tally: record of damaged images; all parts of a source share one.
        min_side: least number of pixels of the shorter side of each image.
    """

    def __init__(
        self,
        source: image_source.ImageSource,
        indices: np.ndarray,
        tally: DamageTally,
        min_side: int,
    ):
        self._source = source
        self._indices = indices
        self._tally = tally
        self._min_side = min_side

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, position: int) -> tuple[np.ndarray, np.int32]:
        # A damaged image is replaced by the next one of this part, never by one of another part:
        # contents for the outer loss must not be seen by inner steps.
        for offset in range(len(self)):
            index = int(self._indices[(position + offset) % len(self)])
            if index in self._tally.bad:
                continue
            try:
                image = self._source.decode(index, self._min_side)
            except image_files.ImageError as error:
                image_source.raise_if_temporary(error)
                self._tally.count(self._source, index, error)
                continue
            self._tally.count(self._source, index, None)
            return image, np.int32(index)
        raise image_source.DataError(
            f'{self._source.word}: all of the {len(self)} images to choose from are damaged. '
            'Repair or replace them.'
        )


def crop(
    element: tuple[np.ndarray, np.int32], rng: np.random.Generator, *, size: int, share: float
) -> tuple[np.ndarray, np.int32]:
    """Cuts a random square of `share` times the shorter side, and resizes it to `size` pixels."""
    image, index = element
    side = max(1, round(min(image.shape[:2]) * share))
    top, left = (int(rng.integers(length - side + 1)) for length in image.shape[:2])
    return resizing.resize(image[top : top + side, left : left + side], size, size), index


def crop_and_mirror(
    element: tuple[np.ndarray, np.int32], rng: np.random.Generator, *, size: int
) -> tuple[np.ndarray, np.int32]:
    """Cuts a random square of 8/9 of the shorter side, and mirrors it with probability 1/2.

    The square is resized to `size` pixels. This is the same as a crop of `size` pixels from an
    image whose shorter side was resized to 9/8 of `size`.
    """
    image, index = crop(element, rng, size=size, share=8 / 9)
    return (image[:, ::-1] if rng.random() < 0.5 else image), index


def squash(
    element: tuple[np.ndarray, np.int32], rng: np.random.Generator, *, size: int
) -> tuple[np.ndarray, np.int32]:
    """Resizes the whole image to a square of `size` pixels; its aspect ratio is lost."""
    del rng
    image, index = element
    return resizing.resize(image, size, size), index


def image_stream(
    reader: PartReader,
    transform: Callable,
    *,
    batch: int,
    seed: tuple[int, int],
    share: tuple[int, int] = (0, 1),
) -> 'grain.MapDataset':
    """Makes a stream of batches of (image, index) pairs.

    Args:
        reader: the images; they are shuffled again in every epoch.
        transform: maps (pair, random generator) to a pair, as `crop` does.
        batch: number of pairs in a whole batch, which all processes share.
        seed: (seed of the data, number of the stream).
        share: (p, P): part p, from 0, of P equal parts of each batch.

    Returns:
        A dataset of `STEPS` batches. Batch i depends only on `seed` and i.
    """
    import grain

    own_seed = int(np.random.SeedSequence(seed).generate_state(1)[0])
    # Without a number of epochs the length is sys.maxsize, which some batch sizes overflow.
    epochs = math.ceil(STEPS * batch / len(reader))
    dataset = grain.MapDataset.source(reader).seed(own_seed).shuffle().repeat(epochs)
    # A crop depends on the number of its pair, so that every share gets the crops of the whole
    # batch. The whole batch is therefore divided after the transform.
    parts = dataset.random_map(transform).batch(batch // share[1])
    return parts[share[0] :: share[1]][:STEPS]
