"""Style images: as they are read, sized, named and compared with."""

import hashlib
import os
import pathlib

import jax
import numpy as np

from metastyle_jax.core.types import Array, Params
from metastyle_jax.data.images import image_files, image_inputs, resizing
from metastyle_jax.models import gram

_grams = jax.jit(gram.of_image)


def read(style: image_inputs.ImageLike, size: int) -> tuple[np.ndarray, str, str]:
    """Reads a style image at the area of `size`²; returns it with its name and SHA-256.

    The hash is that of the file or its bytes; of an array or a Pillow image, of its float32 pixels.

    Args:
        style: see `image_inputs.as_rgb`.
        size: see `fit`.

    Raises:
        UserError: it is no picture.
    """
    picture = image_inputs.as_rgb(style, name='style')
    if isinstance(style, str | os.PathLike):
        data = pathlib.Path(style).read_bytes()
    else:  # a file's bytes have the hash of the file
        data = style if isinstance(style, bytes) else picture.tobytes()
    return fit(picture, size), _name_of(style), hashlib.sha256(data).hexdigest()


def read_palette(
    image: image_inputs.ImageLike | None,
) -> tuple[np.ndarray | None, str | None]:
    """Reads the photograph whose colours a painting is to get.

    Args:
        image: in any form of `image_inputs.as_rgb`; None for none.

    Returns:
        `[H, W, 3]` float32 in 0..1, and what a style file calls it: the file's name, where it is
        one, and a hash of the pixels. Both None for None.

    Raises:
        image_files.ImageError: it cannot be read.
    """
    if image is None:
        return None, None
    palette = image_inputs.as_rgb(image, name='match_colours')
    return palette, f'{_name_of(image)} {hashlib.sha256(palette.tobytes()).hexdigest()[:16]}'


def _name_of(image: image_inputs.ImageLike) -> str:
    """What a style file calls a picture: the file's name, where it is one."""
    return pathlib.Path(image).name if isinstance(image, str | os.PathLike) else 'array'


def fit(picture: np.ndarray, size: int) -> np.ndarray:
    """Resizes a style image to the area of `size`², at its own proportions, for a known cost.

    Args:
        picture: `[H, W, 3]` float32 in 0..1.
        size: side of the square of that area.

    Returns:
        `[H', W', 3]` float32 in 0..1.
    """
    height, width = picture.shape[:2]
    scale = size / (height * width) ** 0.5
    sides = [max(image_files.MIN_SIDE, round(side * scale)) for side in (height, width)]
    return resizing.resize(picture, *sides)


def grams(vgg_params: Params, painting: np.ndarray) -> tuple[Array, ...]:
    """Gram matrices of a style image.

    Args:
        vgg_params: weights of the loss network.
        painting: `[H, W, 3]` float32 in 0..1.

    Returns:
        L arrays `[C, C]`, see `gram.of_image`.
    """
    return _grams(vgg_params, painting)
