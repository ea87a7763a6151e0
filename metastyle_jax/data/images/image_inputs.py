"""Converts images that Python callers pass: files, encoded bytes, Pillow images and arrays."""

import os
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from metastyle_jax.data.images import image_files, pixel_values, resizing
from metastyle_jax.data.images.decoding import pillow_modes, reduction

# Every form of image that public functions accept. A JAX array is accepted too; it is not listed,
# because naming its type would import JAX here.
ImageLike: TypeAlias = image_files.EncodedImage | np.ndarray | Image.Image

_ORIENTATION = 0x0112  # the EXIF tag


def as_rgb(
    image: ImageLike, *, name: str, target: reduction.TargetSize | None = None
) -> np.ndarray:
    """Converts an image of any accepted form to an array; transparent parts become white.

    Args:
        image: see `as_picture`.
        name: name of the image in error messages, unless it is a file.
        target: see `as_picture`.

    Returns:
        `[H, W, 3]` float32 in 0..1.

    Raises:
        ImageError: see `as_picture`.
    """
    return as_picture(image, name=name, target=target).rgb


def as_picture(
    image: ImageLike, *, name: str, target: reduction.TargetSize | None = None
) -> pixel_values.Picture:
    """Converts an image of any accepted form to a `Picture`.

    Args:
        image: the path of a file; the bytes of a file; a Pillow image, whose orientation,
            transparency and colour profile are applied as for a file; or a NumPy or JAX array
            `[H, W, 3]`, floating point in 0..1 or uint8. Both sides must have at least
            `image_files.MIN_SIDE` pixels.
        name: name of the image in error messages, unless it is a file.
        target: function from the upright (height, width) of the image to the (height, width) of
            the result. A large image is reduced while it is decoded, which saves memory. None
            keeps the size.

    Returns:
        The picture; if the image is an array, the picture has no transparency.

    Raises:
        ImageError: a file cannot be read, see `image_files.read`; an array has the wrong shape or
            type, or values outside 0..1; a Pillow image cannot be loaded.
    """
    if target is None:
        return _decoded(image, name, None)
    picture = _decoded(image, name, target)
    size = target(*size_of(image, name=name))
    alpha = None if picture.alpha is None else resizing.resize(picture.alpha, *size)
    return pixel_values.Picture(resizing.resize(picture.rgb, *size), alpha)


def size_of(image: ImageLike, *, name: str) -> tuple[int, int]:
    """Returns the upright height and width of an image; the pixels of a file are not decoded.

    Args:
        image: see `as_picture`.
        name: name of the image in error messages, unless it is a file.

    Raises:
        ImageError: see `as_picture`; damaged pixels of a file are not noticed.
    """
    if isinstance(image, str | os.PathLike | bytes):
        return image_files.probe(image, name=name if isinstance(image, bytes) else None)
    if not isinstance(image, Image.Image):
        return np.shape(image)[:2]
    with image_files.as_image_errors(name), pillow_modes.quiet():
        image.load()
        return reduction.upright_size_of_loaded(image, _turn_of(image))


def _decoded(
    image: ImageLike, name: str, target: reduction.TargetSize | None
) -> pixel_values.Picture:
    """Does the same as `as_picture`, but the result may be larger than `target` asks for."""
    if isinstance(image, str | os.PathLike | bytes):
        return image_files.read(
            image, name=name if isinstance(image, bytes) else None, target=target
        )
    if not isinstance(image, Image.Image):
        return pixel_values.Picture(_from_array(image, name=name, target=target), None)
    with image_files.as_image_errors(name), pillow_modes.quiet():
        image_files.check_dimensions(image.height, image.width, name)
        image.load()
        colour, alpha = reduction.decode_loaded(image, _turn_of(image), target)
        return pixel_values.to_picture(colour, alpha)


def _turn_of(image: Image.Image) -> int:
    """Returns the EXIF orientation of a Pillow image, 1 to 8."""
    # Code that made this image may have turned it and removed the tag, so the tag is read from the
    # image itself. Pillow turns TIFF files while it loads them; `upright` leaves them.
    turn = image.getexif().get(_ORIENTATION, 1)
    return turn if turn in range(1, 9) else 1


def like_input(
    image: np.ndarray, example: ImageLike, alpha: np.ndarray | None = None
) -> np.ndarray | Image.Image:
    """Returns a result as a Pillow image if the input was a Pillow image, else as an array.

    Args:
        image: the result, `[H, W, 3]` float32 in 0..1.
        example: the input, as the caller passed it.
        alpha: `[H, W]` float32 in 0..1, which only a Pillow image gets; None if every pixel is
            opaque.
    """
    if not isinstance(example, Image.Image):
        return image
    if alpha is not None:
        image = np.dstack([image, alpha])
    return Image.fromarray(pixel_values.to_bytes(image))


def _from_array(array: Any, *, name: str, target: reduction.TargetSize | None) -> np.ndarray:
    """Checks an image that the caller passed as an array, and converts it to float32 in 0..1."""
    array = np.asarray(array)
    least = image_files.MIN_SIDE
    if array.ndim != 3 or array.shape[-1] != 3 or min(array.shape[:2]) < least:
        raise image_files.ImageError(
            f'The {name} has the shape {array.shape}: it must be [H, W, 3] with H and W of at '
            f'least {least}.'
        )
    if array.dtype == np.uint8:
        if target is not None:
            array, _ = reduction.decode_loaded(Image.fromarray(array), 1, target)
        return array.astype(np.float32) / 255.0
    if not np.issubdtype(array.dtype, np.floating):
        raise image_files.ImageError(
            f'The {name} has the type {array.dtype}: it must be floating point in 0..1, or uint8.'
        )
    if not (np.isfinite(array).all() and array.min() >= 0 and array.max() <= 1):
        raise image_files.ImageError(f'The {name} has values outside 0..1: clip or rescale them.')
    return array.astype(np.float32)
