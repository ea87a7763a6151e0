"""Decodes picture files to arrays; no other module does this.

This module and the room `decoding` handle EXIF orientation, transparency, colour profiles, bit
depth, size limits and damaged files. All other modules get `[H, W, 3]` float32 RGB in 0..1. Every
problem with a file is raised as `ImageError`.
"""

import contextlib
import functools
import importlib.util
import io
import math
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, TypeAlias

import numpy as np
from absl import logging
from PIL import Image, UnidentifiedImageError

from metastyle_jax.core import errors, files
from metastyle_jax.core.commands import paths
from metastyle_jax.data.images import colour_spaces, format_detection, pixel_values
from metastyle_jax.data.images.decoding import jpeg_repair, pillow_modes, reduction, tiff_samples

SUFFIXES_IN = format_detection.SUFFIXES
MIN_SIDE = 16
MAX_PIXELS = 200_000_000
_STRIP = 256  # rows that are converted at a time
_GIF_PIXELS = 3000  # most pixels a byte of a GIF: an LZW code of 12 bits stands for at most 4096

# A path, or the bytes of a picture file.
EncodedImage: TypeAlias = str | os.PathLike[str] | bytes

_TOO_LARGE = f'has more than {MAX_PIXELS:,} pixels; downscale it first'
# The formats are named one by one, because Pillow's full list has formats that start other programs
# (EPS) or accept almost any bytes (TGA). An older Pillow lacks AVIF.
Image.init()
_DECODERS: tuple[str, ...] = tuple(
    name
    for name in ('JPEG', 'PNG', 'WEBP', 'GIF', 'BMP', 'DIB', 'TIFF', 'PPM', 'AVIF', 'JPEG2000')
    if name in Image.OPEN
)

# The check of MAX_PIXELS on the header protects from decompression bombs. Pillow's own limit is a
# global of the whole process and lower than ours: raise it to ours, but never remove it.
if Image.MAX_IMAGE_PIXELS is not None:
    Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, MAX_PIXELS)


class ImageError(errors.UserError):
    """A picture cannot be read or written; the message names the file and the remedy."""


def read(
    source: EncodedImage, *, name: str | None = None, target: reduction.TargetSize | None = None
) -> pixel_values.Picture:
    """Decodes a picture. Several threads may call this function at once.

    EXIF orientation and embedded colour profiles are applied. 16-bit grey keeps its precision;
    65535 is white. Floating-point grey should be in 0..1; if its largest value is above 1, all
    values are divided by it. Of an animation, the first frame is decoded.

    Args:
        source: a path, or the bytes of a picture file.
        name: name of the picture in error messages; by default the path.
        target: function from the upright (height, width) to the wanted (height, width). A picture
            whose sides are at least four times as long gets this size while it is decoded, which
            saves memory. Any other picture keeps its size. None keeps the size of all pictures.

    Returns:
        The picture.

    Raises:
        ImageError: the file is missing, unreadable, not a picture or damaged, has a side below
            `MIN_SIDE` pixels, or has more than `MAX_PIXELS` pixels.
    """
    return pixel_values.to_picture(*_decode(source, name, target, exact=True))


def read_uint8(
    source: EncodedImage, *, name: str | None = None, min_side: int | None = None
) -> np.ndarray:
    """Decodes a picture to uint8, for batches; otherwise it does the same as `read`.

    Args:
        source: a path, or the bytes of a picture file.
        name: name of the picture in error messages; by default the path.
        min_side: the decoder may reduce the picture, which is faster and saves memory, as long as
            the shorter side keeps at least this many pixels. None for the full size.

    Returns:
        `[H, W, 3]` uint8; transparent pixels are blended with white.

    Raises:
        ImageError: see `read`.
    """
    target = None if min_side is None else functools.partial(_size_of_side, min_side)
    colour, alpha = _decode(source, name, target, exact=False)
    if colour.dtype == np.uint8 and alpha is None:
        return colour
    result = np.empty((*colour.shape[:2], 3), np.uint8)
    # Strip by strip, because a large picture in float32 takes several gigabytes.
    for top in range(0, len(colour), _STRIP):
        rows = slice(top, top + _STRIP)
        opacity = None if alpha is None else alpha[rows]
        result[rows] = pixel_values.to_bytes(pixel_values.to_picture(colour[rows], opacity).rgb)
    return result


def frames(path: str | os.PathLike[str]) -> int:
    """Counts the frames of an animation or the pages of a file; `read` decodes only the first.

    Args:
        path: the picture file.

    Raises:
        ImageError: see `read`.
    """
    with opened(path, None) as (image, _, _):
        # A JPEG may hold a second picture, a depth map or a preview, which is not a frame.
        return 1 if image.format in ('JPEG', 'MPO') else getattr(image, 'n_frames', 1)


def probe(source: EncodedImage, *, name: str | None = None) -> tuple[int, int]:
    """Reads the size of a picture from its header, without decoding the pixels.

    Args:
        source: a path, or the bytes of a picture file.
        name: name of the picture in error messages; by default the path.

    Returns:
        Height and width in pixels, after the EXIF orientation is applied.

    Raises:
        ImageError: see `read`; damage after the header is not noticed.
    """
    with opened(source, name) as (_, _, size):
        return size


def check_dimensions(height: int, width: int, label: str) -> None:
    """Raises ImageError for a picture that is too small to stylize or too large for memory."""
    if height * width > MAX_PIXELS:
        raise ImageError(f'{label}: {_TOO_LARGE} (it is {width} x {height})')
    if min(height, width) < MIN_SIDE:
        raise ImageError(
            f'{label}: is {width} x {height} pixels; use one with at least {MIN_SIDE} a side'
        )


@contextlib.contextmanager
def as_image_errors(label: str) -> Iterator[None]:
    """Turns every error in the block into an `ImageError` whose message begins with `label`."""
    try:
        yield
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError(
            f'{label}: is not a picture, or is damaged; accepted are {", ".join(SUFFIXES_IN)}'
        ) from error
    except Image.DecompressionBombError as error:
        raise ImageError(f'{label}: {_TOO_LARGE}') from error
    except MemoryError as error:
        raise ImageError(f'{label}: does not fit into memory; downscale it first') from error
    except Exception as error:
        # The only place that catches everything: on malformed files Pillow's decoders raise almost
        # any class (SyntaxError, struct.error, KeyError, AssertionError...) and document none.
        # An errno means that the system failed; Pillow's own errors of class OSError have none.
        failed = getattr(error, 'errno', None) is not None
        raise ImageError(
            f'{label}: {"cannot be read" if failed else "is damaged or cut short"} '
            f'({files.reason(error)}); save or download it again'
        ) from error


@contextlib.contextmanager
def opened(
    source: EncodedImage, name: str | None
) -> Iterator[tuple[Image.Image, int, tuple[int, int]]]:
    """Opens a picture, and closes it at the end of the block; `source` and `name` as in `read`.

    Yields Pillow's image, not yet loaded, its EXIF orientation (1 to 8) and its upright (height,
    width). All errors in the block are raised as `ImageError`.
    """
    label = name or ('picture' if isinstance(source, bytes) else os.fspath(source))
    with (
        as_image_errors(label),
        pillow_modes.quiet(),
        open_stream(source, label) as whole,
        format_detection.without_large_text(whole) as stream,
        _identified(stream, label) as image,
    ):
        if image.format == 'PNG':
            image.info[pillow_modes.PNG_COLOURS] = colour_spaces.png_colours(stream)
        turn = pillow_modes.orientation(image, stream)
        size = pillow_modes.upright_size(image, turn)
        check_dimensions(*size, label)
        if image.format == 'GIF':
            _check_gif_bytes(*size, stream, label)
        yield image, turn, size


def _identified(stream: BinaryIO, label: str) -> Image.Image:
    """Opens a picture with Pillow; the error for a format that cannot be read names the format."""
    kind, formats = format_detection.kind_of(stream), _DECODERS
    check = functools.partial(check_dimensions, label=label)
    if kind == 'HEIC' and importlib.util.find_spec('pillow_heif') is not None:
        import pillow_heif

        pillow_heif.register_heif_opener()
        formats = (*formats, 'HEIF')
    try:
        image = Image.open(stream, formats=formats)
    except Exception as error:
        if kind == 'TIFF' and pillow_modes.is_raw_file(stream):
            kind = 'RAW'
        elif kind == 'TIFF' and (deep := tiff_samples.read(stream, check)) is not None:
            return deep
        if remedy := format_detection.remedy_of(kind):
            raise ImageError(f'{label}: is {remedy}') from error
        raise
    if image.format == 'TIFF' and pillow_modes.is_raw(image):
        raise ImageError(f'{label}: is {format_detection.remedy_of("RAW")}')
    return image


def open_stream(source: EncodedImage, label: str) -> BinaryIO:
    """Opens a path, or wraps bytes as a stream; raises ImageError if there is nothing to read."""
    if isinstance(source, bytes):
        if not source:
            raise ImageError(f'{label}: has no bytes; save or download it again')
        return io.BytesIO(source)
    try:
        status = os.stat(source)
        if stat.S_ISREG(status.st_mode) and status.st_size:
            return Path(source).open('rb')
    except FileNotFoundError as error:
        remedy = paths.address_remedy(source) or 'check the path'
        raise ImageError(f'{label}: no such file; {remedy}') from error
    except PermissionError as error:
        raise ImageError(f'{label}: may not be read; change its permissions') from error
    except (OSError, ValueError) as error:
        raise ImageError(
            f'{label}: cannot be opened: {files.reason(error)}; check the path'
        ) from error
    if stat.S_ISDIR(status.st_mode):
        raise ImageError(f'{label}: is a folder, but a picture is needed; name a file in it')
    if not stat.S_ISREG(status.st_mode):
        raise ImageError(f'{label}: is not a regular file; save it to one first')
    raise ImageError(f'{label}: has no bytes; save or download it again')


def _check_gif_bytes(height: int, width: int, stream: BinaryIO, label: str) -> None:
    """Raises ImageError for a GIF whose header claims more pixels than its bytes can encode."""
    position = stream.tell()
    count = stream.seek(0, os.SEEK_END)
    stream.seek(position)
    if height * width > _GIF_PIXELS * count:
        raise ImageError(
            f'{label}: is damaged or cut short ({count:,} bytes for {width} x {height} pixels); '
            'save or download it again'
        )


def _size_of_side(side: int, height: int, width: int) -> tuple[int, int]:
    """Returns the height and width after the shorter side is reduced to `side` pixels."""
    scale = min(1.0, max(1, side) / min(height, width))
    return math.ceil(height * scale), math.ceil(width * scale)


def _decode(
    source: EncodedImage, name: str | None, target: reduction.TargetSize | None, *, exact: bool
) -> tuple[np.ndarray, np.ndarray | None]:
    """Decodes colour and alpha as `reduction.decode` does; repairs a JPEG without an end marker."""
    label = name or ('picture' if isinstance(source, bytes) else os.fspath(source))
    try:
        return _decode_file(source, label, target, exact=exact)
    except ImageError:
        with open_stream(source, label) as stream, pillow_modes.quiet():
            repaired = jpeg_repair.with_end_marker(stream)
        if repaired is None:
            raise
    decoded = _decode_file(repaired.getvalue(), label, target, exact=exact)
    logging.warning('%s: its end is missing; the last details of the picture may be too', label)
    return decoded


def _decode_file(
    source: EncodedImage, label: str, target: reduction.TargetSize | None, *, exact: bool
) -> tuple[np.ndarray, np.ndarray | None]:
    """Does the same as `_decode` without trying to repair the file."""
    with opened(source, label) as (image, turn, size):
        if colour_spaces.is_hdr(pillow_modes.png_colours_of(image)):
            logging.warning('%s: its high dynamic range is reduced to that of sRGB', label)
        return reduction.decode(image, turn, size, target, exact=exact)
