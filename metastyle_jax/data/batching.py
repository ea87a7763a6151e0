"""Batches of images for training and adaptation.

A batch depends only on the seed and on the number of the step, because Grain derives shuffling and
crops from them. So the sequence of batches is the same for any number of workers, and a run can be
resumed from the number of its step.
"""

import functools
import math
from typing import Any, Literal, NamedTuple

import numpy as np

from metastyle_jax.core import checks
from metastyle_jax.data import batch_iterator, image_source, image_stream

MIN_SIZE = 16  # smallest side of a batch's images, in pixels


class MetaBatch(NamedTuple):
    """The images of one outer step, for S styles, T inner steps and N contents per style.

    The indices are the numbers of the images in their sources; messages use them to name files.

    Attributes:
        inner: `[S, T, N, H, W, 3]` uint8, contents of the inner steps, from D_tr.
        outer: `[S, N, H, W, 3]` uint8, contents of the outer loss, from D_val.
        style: `[S, Hs, Ws, 3]` uint8, style images.
        inner_index: `[S, T, N]` int32.
        outer_index: `[S, N]` int32.
        style_index: `[S]` int32.
    """

    inner: np.ndarray
    outer: np.ndarray
    style: np.ndarray
    inner_index: np.ndarray
    outer_index: np.ndarray
    style_index: np.ndarray


def split(count: int, *, val_fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Divides the contents at random into D_tr, for inner steps, and D_val, for the outer loss.

    Args:
        count: number of images, at least 2.
        val_fraction: fraction of the images in D_val, between 0 and 1.
        seed: seed of the random choice, from 0 to 2**32 - 1.

    Returns:
        The numbers of the images in D_tr and in D_val: int64, sorted, disjoint, never empty.

    Raises:
        DataError: there are fewer than two images, or an argument is out of range.
    """
    if count < 2:
        raise image_source.DataError(
            f'{count} content image(s) cannot be split in two. Give at least 2.'
        )
    checks.real_number('val_fraction', val_fraction, above=0, below=1, error=image_source.DataError)
    check_seed(seed)
    held_out = min(max(round(count * val_fraction), 1), count - 1)
    order = np.random.default_rng(seed).permutation(count)
    return np.sort(order[held_out:]), np.sort(order[:held_out])


def meta_batches(
    contents: image_source.ImageSource,
    styles: image_source.ImageSource,
    *,
    styles_per_step: int,
    inner_steps: int,
    contents_per_style: int,
    size: int,
    style_size: int,
    style_fit: Literal['crop', 'squash'] = 'crop',
    val_fraction: float,
    seed: int,
    workers: int = 0,
    share: tuple[int, int] = (0, 1),
) -> batch_iterator.BatchIterator[MetaBatch]:
    """Makes the batches of Algorithm 1, one for each outer step, without end.

    D_tr, D_val and the styles are shuffled independently and again in every epoch. Contents are
    resized until the shorter side is 9/8 of `size`, cropped at random, and half of them mirrored.

    Args:
        contents: photographs, at least two.
        styles: style images.
        styles_per_step: S, at least 1.
        inner_steps: T, at least 0; for T = 0 the outer loss uses the contents of D_tr.
        contents_per_style: N, at least 1.
        size: height and width of the contents, at least 16.
        style_size: height and width of the style images, at least 16.
        style_fit: 'crop' for a random square of the style image, 'squash' for all of it, resized
            to a square.
        val_fraction: fraction of the contents in D_val, between 0 and 1.
        seed: seed of the split, the orders and the crops; from 0 to 2**32 - 1.
        workers: number of processes that decode images; 0 for threads of this process.
        share: (p, P): part p, from 0, of P equal parts of each batch. A part has S / P styles and
            their contents, and only its images are read. The P parts together are equal to the
            batch of (0, 1). The saved state is the same for all parts.

    Returns:
        The iterator of batches.

    Raises:
        DataError: a setting is out of range; later, while iterating: too many images are damaged.

    Source: Zhang et al. 2019, MetaStyle, arXiv 1812.05233, Algorithm 1.
    """
    S, T, N = styles_per_step, inner_steps, contents_per_style
    _check_whole(styles_per_step=(S, 1), inner_steps=(T, 0), contents_per_style=(N, 1))
    _check_whole(size=(size, MIN_SIZE), style_size=(style_size, MIN_SIZE))
    checks.one_of('style_fit', style_fit, ('crop', 'squash'), image_source.DataError)
    if S % share[1]:
        raise image_source.DataError(f'{S} styles a step cannot be divided evenly by {share[1]}.')
    train, val = split(len(contents), val_fraction=val_fraction, seed=seed)
    tally = image_stream.DamageTally()
    readers = [
        image_stream.PartReader(contents, part, tally, _side_before_crop(size))
        for part in (train, val)
    ]
    style_reader = image_stream.PartReader(
        styles, np.arange(len(styles)), image_stream.DamageTally(), style_size
    )
    photo = functools.partial(image_stream.crop_and_mirror, size=size)
    fits = {
        'crop': functools.partial(image_stream.crop, size=style_size, share=1.0),
        'squash': functools.partial(image_stream.squash, size=style_size),
    }
    # The second number of a seed tells the three streams apart, so that their orders differ.
    stream = functools.partial(image_stream.image_stream, share=share)
    inner = [stream(readers[0], photo, batch=S * T * N, seed=(seed, 0))] if T else []
    outer = stream(readers[1 if T else 0], photo, batch=S * N, seed=(seed, 1))
    style = stream(style_reader, fits[style_fit], batch=S, seed=(seed, 2))
    return batch_iterator.BatchIterator(
        [*inner, outer, style],
        functools.partial(_meta_batch, shape=(S // share[1], T, N)),
        workers=workers,
        facts={
            'seed': seed,
            'contents': len(contents),
            'styles': len(styles),
            'content_names': contents.digest(),
            'style_names': styles.digest(),
            'val_fraction': val_fraction,
            'shape': [S, T, N],
        },
    )


def content_batches(
    contents: image_source.ImageSource, *, batch: int, size: int, seed: int, workers: int = 0
) -> batch_iterator.BatchIterator[np.ndarray]:
    """Makes content batches for adaptation, from the whole source, without end.

    Args:
        contents: photographs.
        batch: number of images N in a batch, at least 1.
        size: height and width of the images, at least 16.
        seed: seed of the order and the crops; from 0 to 2**32 - 1.
        workers: number of processes that decode images; 0 for threads of this process.

    Returns:
        The iterator of batches, each `[N, H, W, 3]` uint8.

    Raises:
        DataError: a setting is out of range; later, while iterating: too many images are damaged.
    """
    _check_whole(batch=(batch, 1), size=(size, MIN_SIZE))
    check_seed(seed)
    reader = image_stream.PartReader(
        contents,
        np.arange(len(contents)),
        image_stream.DamageTally(),
        _side_before_crop(size),
    )
    photo = functools.partial(image_stream.crop_and_mirror, size=size)
    return batch_iterator.BatchIterator(
        [image_stream.image_stream(reader, photo, batch=batch, seed=(seed, 0))],
        lambda pair: np.array(pair[0]),
        workers=workers,
        facts={'seed': seed, 'contents': len(contents), 'shape': [batch]},
    )


def as_float(pixels: Any) -> Any:
    """Converts a NumPy or JAX array of uint8, of any shape, to float32 in 0..1."""
    return pixels.astype('float32') / 255


def check_seed(seed: Any) -> None:
    """Raises DataError unless `seed` is an integer from 0 to 2**32 - 1."""
    checks.whole_number('seed', seed, 0, 2**32 - 1, error=image_source.DataError)


def _check_whole(**values: tuple[Any, int]) -> None:
    """Raises DataError unless each value is an integer that is at least its minimum.

    Args:
        **values: name -> (value, minimum).
    """
    for name, (value, least) in values.items():
        checks.whole_number(name, value, least, error=image_source.DataError)


def _side_before_crop(size: int) -> int:
    """Returns the shorter side in pixels that an image needs for a crop of `size` pixels."""
    return math.ceil(size * 9 / 8)


def _meta_batch(*parts: tuple, shape: tuple[int, int, int]) -> MetaBatch:
    """Reshapes flat batches of (image, index) pairs to a `MetaBatch`.

    Args:
        *parts: pairs (images, indices) of the inner steps (only if T > 0), of the outer loss, and
            of the styles, each with one axis for all images.
        shape: (S, T, N).
    """
    S, T, N = shape
    outer, style = parts[-2:]
    inner = parts[0] if T else tuple(part[:0] for part in outer)

    def shaped(pair: tuple, lead: tuple) -> tuple[np.ndarray, np.ndarray]:
        # Copies, because a worker sends arrays in shared memory that is freed with the array.
        image, index = (np.array(part) for part in pair)
        return image.reshape(lead + image.shape[1:]), index.reshape(lead)

    inner_images, inner_index = shaped(inner, shape)
    outer_images, outer_index = shaped(outer, (S, N))
    styles, style_index = shaped(style, (S,))
    return MetaBatch(inner_images, outer_images, styles, inner_index, outer_index, style_index)
