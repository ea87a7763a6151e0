"""Reads, resizes and names style images, and computes their Gram matrices."""

import functools
import hashlib
import os
import pathlib

import jax
import numpy as np

from metastyle_jax.core import files
from metastyle_jax.core.types import Array, Params
from metastyle_jax.data.images import image_files, image_inputs, resizing
from metastyle_jax.models import gram

_PALETTE_SIZE = 2048  # pixels a side that tell enough about the colours of a photograph

_grams = jax.jit(gram.of_image)


def read(style: image_inputs.ImageLike, size: int) -> tuple[np.ndarray, str, str]:
    """Reads a style image.

    Args:
        style: a file, its bytes, a Pillow image or an array, see `image_inputs.as_rgb`.
        size: the image is resized to the area of a square with this side in pixels, see `fit`.

    Returns:
        The image, `[H, W, 3]` float32 in 0..1; its name; and its SHA-256. For a file and for bytes
        this is the hash of the bytes, otherwise the hash of the resized float32 pixels.

    Raises:
        UserError: the image cannot be read.
    """
    target = functools.partial(fit_size, size)
    picture = image_inputs.as_rgb(style, name='style', target=target)
    if isinstance(style, str | os.PathLike):
        digest = files.sha256_of(style)
    else:
        data = style if isinstance(style, bytes) else picture.tobytes()
        digest = hashlib.sha256(data).hexdigest()
    return picture, _name_of(style), digest


def read_palette(
    image: image_inputs.ImageLike | None,
) -> tuple[np.ndarray | None, str | None]:
    """Reads the photograph of the setting `match_colours`.

    Args:
        image: a file, its bytes, a Pillow image or an array, see `image_inputs.as_rgb`; or None.

    Returns:
        The photograph, `[H, W, 3]` float32 in 0..1 with at most `_PALETTE_SIZE` pixels a side, and
        the text that a style file records for it: its name and a hash of these pixels. Both are
        None if `image` is None.

    Raises:
        image_files.ImageError: the photograph cannot be read.
    """
    if image is None:
        return None, None
    target = functools.partial(resizing.fit_size, _PALETTE_SIZE)
    palette = image_inputs.as_rgb(image, name='match_colours', target=target)
    return palette, f'{_name_of(image)} {hashlib.sha256(palette.tobytes()).hexdigest()[:16]}'


def _name_of(image: image_inputs.ImageLike) -> str:
    """Returns the name of an image for the style file: its file name, or 'array' if it has none."""
    if not isinstance(image, str | os.PathLike):
        return 'array'
    return files.shown(pathlib.Path(image).name)


def fit(picture: np.ndarray, size: int) -> np.ndarray:
    """Resizes a style image to the area of a square, and keeps its aspect ratio.

    The loss network then takes the same time for all style images, because it depends on the area.

    Args:
        picture: `[H, W, 3]` float32 in 0..1.
        size: side of the square in pixels.

    Returns:
        `[H', W', 3]` float32 in 0..1.
    """
    return resizing.resize(picture, *fit_size(size, *picture.shape[:2]))


def fit_size(size: int, height: int, width: int) -> tuple[int, int]:
    """Returns the height and width of the result of `fit`."""
    scale = size / (height * width) ** 0.5
    rows, columns = (max(image_files.MIN_SIDE, round(side * scale)) for side in (height, width))
    return rows, columns


def grams(vgg_params: Params, painting: np.ndarray) -> tuple[Array, ...]:
    """Computes the Gram matrices of a style image.

    Args:
        vgg_params: weights of the loss network.
        painting: `[H, W, 3]` float32 in 0..1, the style image.

    Returns:
        L arrays `[C, C]`, see `gram.of_image`.
    """
    return _grams(vgg_params, painting)
