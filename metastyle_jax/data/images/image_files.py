"""Pictures on disk to arrays and back: the only module that decodes or encodes images.

Orientation, transparency, colour profiles, bit depth (all four by means of `pixels`), size limits
and damaged files are settled here, so that every other module sees float32 RGB in 0..1,
``[H, W, 3]``. Whatever is wrong with a file, its name or its folder is raised as `ImageError`.
"""

import contextlib
import io
import os
import stat
import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeAlias

import numpy as np
from absl import logging
from PIL import Image, UnidentifiedImageError

from metastyle_jax.core import errors, files
from metastyle_jax.data.images import pillow_modes

SUFFIXES_OUT = ('.png', '.jpg', '.jpeg', '.webp')
SUFFIXES_MOVING = ('.webp', '.gif', '.png')
SUFFIXES_IN = (
    *('.png', '.jpg', '.jpeg', '.jpe', '.jfif', '.webp', '.gif', '.bmp', '.dib', '.tif', '.tiff'),
    *('.ppm', '.pgm', '.pbm', '.pnm', '.pfm', '.avif', '.jp2'),
)
# Pictures that people have in their folders.
_NOT_READ = ('.heic', '.heif', '.jxl', '.dng', '.cr2', '.cr3', '.nef', '.arw', '.psd', '.svg')
MIN_SIDE = 16
MAX_PIXELS = 200_000_000
_STRIP = 256  # rows at a time
_GIF_PIXELS = 3000  # a byte: a code of LZW, 12 bits, stands for at most 4096

Source: TypeAlias = str | os.PathLike[str] | bytes
# What functions of the public interface take for a picture; also an array of JAX.
ImageLike: TypeAlias = Source | np.ndarray | Image.Image

_TOO_LARGE = f'has more than {MAX_PIXELS:,} pixels; downscale it first'
_ENCODERS = {
    '.png': 'PNG', '.jpg': 'JPEG', '.jpeg': 'JPEG', '.webp': 'WEBP', '.gif': 'GIF'
}  # fmt: skip
_LIMITS = {'JPEG': 65500, 'WEBP': 16383, 'GIF': 65535}  # pixels of a side
# Named one by one, because Pillow's full list has formats that start other programs (EPS) or that
# accept almost any bytes (TGA). An older Pillow lacks AVIF.
Image.init()
_DECODERS = tuple(
    name
    for name in ('JPEG', 'PNG', 'WEBP', 'GIF', 'BMP', 'DIB', 'TIFF', 'PPM', 'AVIF', 'JPEG2000')
    if name in Image.OPEN
)

# MAX_PIXELS, checked on the header, is what protects from decompression bombs. Pillow's own limit
# is one global for the whole process and lower than ours: raise it to ours, but never remove it.
if Image.MAX_IMAGE_PIXELS is not None:
    Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, MAX_PIXELS)


class ImageError(errors.UserError):
    """A picture that cannot be read or written; the message names the file and the remedy."""


class Picture(NamedTuple):
    """A decoded picture.

    Attributes:
        rgb: `[H, W, 3]` float32 in 0..1, sRGB, composited on white where it is transparent.
        alpha: `[H, W]` float32 in 0..1, or None when every pixel is opaque.
    """

    rgb: np.ndarray
    alpha: np.ndarray | None


def read(source: Source, *, name: str | None = None) -> Picture:
    """Decodes a picture; may be called from many threads.

    EXIF orientation and embedded colour profiles are applied. Grey of 16 bits keeps its
    precision, with 65535 for white. Floating-point grey is taken as 0..1, or divided by its
    largest value where that exceeds 1. Of an animation, the first frame is read.

    Args:
        source: a path, or the bytes of an encoded picture.
        name: what errors call the picture; the path by default.

    Returns:
        The picture, with both sides at least `MIN_SIDE` and at most `MAX_PIXELS` pixels.

    Raises:
        ImageError: the file is missing, unreadable, no picture, damaged, too small or too large.
    """
    return _to_picture(*_decode(source, name))


def read_uint8(
    source: Source, *, name: str | None = None, min_side: int | None = None
) -> np.ndarray:
    """Decodes a picture to bytes, for the data pipeline; otherwise as `read`.

    Args:
        source: a path, or the bytes of an encoded picture.
        name: what errors call the picture; the path by default.
        min_side: lets a JPEG be decoded at 1/2, 1/4 or 1/8 of its size, which is several times
            faster, as long as its short side stays at least this many pixels.

    Returns:
        `[H, W, 3]` uint8, composited on white.

    Raises:
        ImageError: as `read`.
    """
    colour, alpha = _decode(source, name, min_side)
    if colour.dtype == np.uint8 and alpha is None:
        return colour
    result = np.empty((*colour.shape[:2], 3), np.uint8)
    for top in range(0, len(colour), _STRIP):  # a large picture in float32 is several gigabytes
        rows = slice(top, top + _STRIP)
        opacity = None if alpha is None else alpha[rows]
        result[rows] = _to_uint8(_to_picture(colour[rows], opacity).rgb)
    return result


def frames(path: str | os.PathLike[str]) -> int:
    """Counts the frames of an animation or the pages of a file, of which `read` takes the first.

    Args:
        path: the picture's file.

    Raises:
        ImageError: as `read`.
    """
    with _opened(path, None) as (image, _, _):
        # A JPEG may hold a second picture, of depth or a preview, that nobody means to see.
        return 1 if image.format in ('JPEG', 'MPO') else getattr(image, 'n_frames', 1)


def probe(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Reads the size of a picture from its header.

    Args:
        path: the picture's file.

    Returns:
        Height and width in pixels, after EXIF orientation.

    Raises:
        ImageError: as `read`, except for damage behind the header.
    """
    with _opened(path, None) as (_, _, size):
        return size


def write(
    path: str | os.PathLike[str],
    rgb: np.ndarray,
    *,
    alpha: np.ndarray | None = None,
    overwrite: bool = False,
    quality: int = 95,
) -> None:
    """Encodes a picture in the format that the suffix names; the file appears whole or not at all.

    Args:
        path: the file to write; its suffix is one of `SUFFIXES_OUT`.
        rgb: `[H, W, 3]` floating point, clipped to 0..1 and rounded to the nearest of 256 levels.
        alpha: `[H, W]` floating point in 0..1: kept in PNG and WebP, composited on white in JPEG.
        overwrite: whether an existing file may be replaced.
        quality: of JPEG and WebP, 1 to 100.

    Raises:
        ImageError: as `check_output`; a value is NaN or infinite; a shape is wrong; the format
            cannot hold the picture; the disk is full or fails.
    """
    check_output(path, overwrite=overwrite)
    path = Path(path)
    files.write_whole(path, _encode(path, rgb, alpha, quality), ImageError)


def write_animation(
    path: str | os.PathLike[str],
    frames: Iterable[np.ndarray],
    *,
    milliseconds: int,
    alpha: np.ndarray | None = None,
    overwrite: bool = False,
) -> None:
    """Encodes pictures that are shown one after another, over and over; whole or not at all.

    Args:
        path: the file to write; its suffix is one of `SUFFIXES_MOVING`.
        frames: at least one, `[H, W, 3]` floating point in 0..1, of one size; each is reduced to
            eight bits as it comes.
        milliseconds: that each is shown, from 1 on.
        alpha: `[H, W]` floating point in 0..1, of all frames: kept in PNG and WebP, composited on
            white in GIF.
        overwrite: whether an existing file may be replaced.

    Raises:
        ImageError: as `write`.
    """
    check_output(path, overwrite=overwrite, suffixes=SUFFIXES_MOVING)
    path = Path(path)
    if milliseconds < 1:
        raise ImageError(f'{path}: frames of {milliseconds} ms; at least 1 is needed')
    encoder = _ENCODERS[path.suffix.lower()]
    made = [Image.fromarray(_to_uint8(_channels(path, encoder, frame, alpha))) for frame in frames]
    if not made:
        raise ImageError(f'{path}: no frame; at least one is needed')
    options: dict[str, Any] = {'quality': 90} if encoder == 'WEBP' else {}
    encoded = _saved(
        path, made[0], encoder, save_all=True, append_images=made[1:], duration=milliseconds,
        loop=0, **options,
    )  # fmt: skip
    files.write_whole(path, encoded, ImageError)


def check_output(
    path: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    suffixes: Sequence[str] = SUFFIXES_OUT,
    source: str | os.PathLike[str] | None = None,
) -> None:
    """Raises the errors `write` would raise for this path, before any work is done.

    Args:
        path: the file to be written later.
        overwrite: whether an existing file may be replaced.
        suffixes: that can be written.
        source: the file that it is made of, which is never replaced.

    Raises:
        ImageError: the suffix is not one of them; it is the source; the file exists and
            `overwrite` is False; its folder does not exist or is not writable.
    """
    path = Path(path)
    if path.suffix.lower() not in suffixes:
        known = ', '.join(suffixes)
        raise ImageError(f'{path}: cannot write {path.suffix or "no suffix"!r}; use one of {known}')
    if path.is_dir():
        raise ImageError(f'{path}: is a folder; name a file')
    if source is not None and path.exists() and os.path.exists(source) and path.samefile(source):
        raise ImageError(f'{path} is the input itself: choose another --output')
    if os.path.lexists(path) and not overwrite:
        raise ImageError(f'{path}: exists; pass --overwrite to replace it, or use another name')
    if not path.parent.is_dir():
        raise ImageError(f'{path}: there is no folder {path.parent}; create it first')
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise ImageError(f'{path}: the folder {path.parent} is not writable; choose another')


def check_size(path: str | os.PathLike[str], height: int, width: int) -> None:
    """Raises ImageError for a picture that the format of this path cannot hold."""
    encoder = _ENCODERS[Path(path).suffix.lower()]
    limit = _LIMITS.get(encoder)
    if limit is not None and max(height, width) > limit:
        raise ImageError(
            f'{path}: {width} x {height} pixels cannot be written as {encoder} (no side may have '
            f'more than {limit}); try .png or a smaller size'
        )


def take(image: ImageLike, *, name: str) -> np.ndarray:
    """As `take_picture`, on white where it is transparent: `[H, W, 3]` float32 in 0..1."""
    return take_picture(image, name=name).rgb


def take_picture(image: ImageLike, *, name: str) -> Picture:
    """Takes a picture in whatever form it is given.

    Args:
        image: a file, or its bytes; a Pillow image, whose orientation, transparency and colour
            profile are settled as those of files; or an array of NumPy or JAX, `[H, W, 3]`, floats
            in 0..1 or uint8. H and W at least 16.
        name: what to call it in errors, unless it is a file.

    Returns:
        The picture; of an array without transparency.

    Raises:
        ImageError: a file as `read`; an array of another shape or type, or with values outside
            0..1; a Pillow image that cannot be loaded.
    """
    if isinstance(image, str | os.PathLike | bytes):
        return read(image, name=name if isinstance(image, bytes) else None)
    if not isinstance(image, Image.Image):
        return Picture(_from_array(image, name=name), None)
    with _as_image_errors(name), pillow_modes.quiet():
        _check_size(image.height, image.width, name)
        # Of a file, Pillow may have turned it or forgotten its turn: what it shows is what counts.
        turn = image.getexif().get(0x0112, 1)
        turned = pillow_modes.upright(image, turn if turn in range(1, 9) else 1)
        return _to_picture(*pillow_modes.channels(turned))


def give(
    image: np.ndarray, like: ImageLike, alpha: np.ndarray | None = None
) -> np.ndarray | Image.Image:
    """Gives a picture in the form of another.

    Args:
        image: `[H, W, 3]` float32 in 0..1.
        like: the other.
        alpha: `[H, W]` float32 in 0..1, for Pillow images; None if all is opaque.

    Returns:
        A Pillow image for one, else the array as it is.
    """
    if not isinstance(like, Image.Image):
        return image
    if alpha is not None:
        image = np.dstack([image, alpha])
    return Image.fromarray(_to_uint8(image))


def _from_array(array: Any, *, name: str) -> np.ndarray:
    """Checks an image that is given as an array; returns it as float32."""
    array = np.asarray(array)
    if array.ndim != 3 or array.shape[-1] != 3 or min(array.shape[:2]) < MIN_SIDE:
        raise ImageError(
            f'The {name} has the shape {array.shape}: give [H, W, 3], H and W at least {MIN_SIDE}.'
        )
    if array.dtype == np.uint8:
        return array.astype(np.float32) / 255.0
    if not np.issubdtype(array.dtype, np.floating):
        raise ImageError(f'The {name} is {array.dtype}: give floats in 0..1, or uint8.')
    if not (np.isfinite(array).all() and array.min() >= 0 and array.max() <= 1):
        raise ImageError(f'The {name} has values outside 0..1: clip or rescale it.')
    return array.astype(np.float32)


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resizes with an antialiased Lanczos filter.

    Args:
        image: `[H, W, 3]` or `[H, W]`, float32 in 0..1 or uint8.
        height: of the result, at least 1.
        width: of the result, at least 1.

    Returns:
        `[height, width, 3]` or `[height, width]` of the same dtype, float32 clipped to 0..1; the
        image itself when it has that size already.

    Raises:
        ImageError: a side is less than 1.
    """
    if min(height, width) < 1:
        raise ImageError(f'cannot resize to {width} x {height} pixels; both must be at least 1')
    image = np.asarray(image)
    if image.shape[:2] == (height, width):
        return image
    if image.ndim == 3 and image.dtype != np.uint8:
        # Pillow has no floating-point RGB.
        return np.stack([resize(image[..., c], height, width) for c in range(3)], axis=-1)
    pixels = image if image.dtype == np.uint8 else np.asarray(image, np.float32)
    resized = np.array(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))
    return resized if resized.dtype == np.uint8 else np.clip(resized, 0.0, 1.0)


def fit(image: np.ndarray, max_size: int) -> np.ndarray:
    """Downscales until the long side is at most `max_size`; never upscales.

    Args:
        image: `[H, W, 3]` or `[H, W]`, float32 in 0..1 or uint8.
        max_size: the longest side allowed, in pixels.

    Returns:
        The image with its aspect kept, as by `resize`.
    """
    height, width = image.shape[:2]
    scale = min(1.0, max_size / max(height, width))
    return resize(image, max(1, round(height * scale)), max(1, round(width * scale)))


def center_square(image: np.ndarray, size: int) -> np.ndarray:
    """Cuts the largest square out of the middle and resizes it.

    Args:
        image: `[H, W, 3]`, float32 in 0..1 or uint8.
        size: side of the result in pixels.

    Returns:
        `[size, size, 3]` of the same dtype.
    """
    side = min(image.shape[:2])
    top, left = ((length - side) // 2 for length in image.shape[:2])
    return resize(image[top : top + side, left : left + side], size, size)


def list_images(folder: str | os.PathLike[str]) -> list[Path]:
    """Lists the pictures of a folder and of the folders in it, hidden ones skipped.

    Args:
        folder: where to look; links to folders are followed, each folder is visited once.

    Returns:
        Files with one of `SUFFIXES_IN`, in any case, sorted by their path below the folder; that
        pictures of other kinds are passed over is logged.

    Raises:
        ImageError: the folder is missing, not a folder, unreadable, or has no picture.
    """
    top = Path(folder)
    known = ', '.join(SUFFIXES_IN)
    if not top.is_dir():
        problem = 'is not a folder' if top.exists() else 'no such folder'
        raise ImageError(f'{top}: {problem}; name one that holds pictures ({known})')

    def fail(error: OSError) -> None:
        raise ImageError(f'{error.filename}: cannot be listed: {_reason(error)}') from error

    found, others, visited = [], [], set()
    for root, folders, names in os.walk(top, onerror=fail, followlinks=True):
        real = os.path.realpath(root)
        if real in visited:  # a link back to where we came from
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(entry for entry in folders if not entry.startswith('.'))
        paths = [Path(root, entry) for entry in names if not entry.startswith('.')]
        found += [path for path in paths if path.suffix.lower() in SUFFIXES_IN]
        others += [path for path in paths if path.suffix.lower() in _NOT_READ]
    kinds = ', '.join(sorted({path.suffix.lower() for path in others}))
    if others:
        logging.warning(
            '%s: passed over what is not read (%d of %s): convert it to .png or .jpg',
            top,
            len(others),
            kinds,
        )
    if not found:
        instead = f' (but {len(others)} of {kinds})' if others else ''
        raise ImageError(f'{top}: holds no pictures{instead}; these are accepted: {known}')
    return sorted(found, key=lambda path: path.relative_to(top).as_posix())


def _reason(error: Exception) -> str:
    """The system's words for an error, without its number and path."""
    return getattr(error, 'strerror', None) or str(error) or type(error).__name__


def _stream(source: Source, label: str) -> BinaryIO:
    """Opens a path or wraps bytes, after the checks that need no decoding."""
    if isinstance(source, bytes):
        if not source:
            raise ImageError(f'{label}: has no bytes; save or download it again')
        return io.BytesIO(source)
    try:
        found = os.stat(source)
        if stat.S_ISREG(found.st_mode) and found.st_size:
            return Path(source).open('rb')
    except FileNotFoundError as error:
        raise ImageError(f'{label}: no such file; check the path') from error
    except PermissionError as error:
        raise ImageError(f'{label}: may not be read; change its permissions') from error
    except (OSError, ValueError) as error:
        raise ImageError(f'{label}: cannot be opened: {_reason(error)}; check the path') from error
    if stat.S_ISDIR(found.st_mode):
        raise ImageError(f'{label}: is a folder, where a picture is wanted; name a file in it')
    if not stat.S_ISREG(found.st_mode):
        raise ImageError(f'{label}: is not a regular file; save it to one first')
    raise ImageError(f'{label}: has no bytes; save or download it again')


@contextlib.contextmanager
def _opened(source: Source, name: str | None) -> Iterator[tuple[Image.Image, int, tuple[int, int]]]:
    """Yields image, EXIF orientation, upright size; what fails in the block is an ImageError."""
    label = name or ('picture' if isinstance(source, bytes) else os.fspath(source))
    with (
        _as_image_errors(label),
        pillow_modes.quiet(),
        _stream(source, label) as stream,
        Image.open(stream, formats=_DECODERS) as image,
    ):
        turn = pillow_modes.orientation(image, stream)
        size = pillow_modes.upright_size(image, turn)
        _check_size(*size, label)
        if image.format == 'GIF':
            _check_bytes(*size, stream, label)
        yield image, turn, size


@contextlib.contextmanager
def _as_image_errors(label: str) -> Iterator[None]:
    """Turns whatever fails in decoding into an ImageError."""
    try:
        yield
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError(
            f'{label}: is not a picture, or is damaged; these are read: {", ".join(SUFFIXES_IN)}'
        ) from error
    except Image.DecompressionBombError as error:
        raise ImageError(f'{label}: {_TOO_LARGE}') from error
    except MemoryError as error:
        raise ImageError(f'{label}: does not fit into memory; downscale it first') from error
    except Exception as error:
        # The one place that catches everything: on malformed input Pillow's decoders raise almost
        # any class (SyntaxError, struct.error, KeyError, AssertionError...), and list none.
        raise ImageError(
            f'{label}: is damaged or cut short ({_reason(error)}); save or download it again'
        ) from error


def _check_size(height: int, width: int, label: str) -> None:
    """Refuses pictures too small to style or too large to hold."""
    if height * width > MAX_PIXELS:
        raise ImageError(f'{label}: {_TOO_LARGE} (it is {width} x {height})')
    if min(height, width) < MIN_SIDE:
        raise ImageError(
            f'{label}: is {width} x {height} pixels; use one with at least {MIN_SIDE} a side'
        )


def _check_bytes(height: int, width: int, stream: BinaryIO, label: str) -> None:
    """Refuses a GIF that says it is larger than its bytes can be: most of it would be empty."""
    position = stream.tell()
    count = stream.seek(0, os.SEEK_END)
    stream.seek(position)
    if height * width > _GIF_PIXELS * count:
        raise ImageError(
            f'{label}: is damaged or cut short ({count:,} bytes for {width} x {height} pixels); '
            'save or download it again'
        )


def _decode(
    source: Source, name: str | None, min_side: int | None = None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Upright colour, [H, W, 3] uint8 or [H, W] float32, and alpha, [H, W] uint8 or None."""
    with _opened(source, name) as (image, turn, size):
        if min_side is not None and min(size) >= min_side > 0:
            image.draft(None, (min_side, min_side))  # JPEG only; else it does nothing
        image.load()
        return pillow_modes.channels(pillow_modes.upright(image, turn))


def _to_picture(colour: np.ndarray, alpha: np.ndarray | None) -> Picture:
    """Float32 in 0..1, composited on white."""
    scale = np.float32(255 if colour.dtype == np.uint8 else 1)
    rgb = np.divide(colour, scale, dtype=np.float32)
    if rgb.ndim == 2:
        rgb = np.repeat(rgb[..., np.newaxis], 3, axis=-1)
    if alpha is None:
        return Picture(rgb, None)
    opacity = alpha.astype(np.float32) / 255.0
    return Picture(_on_white(rgb, opacity), opacity)


def _on_white(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Composites in place, for memory's sake."""
    rgb -= 1
    rgb *= alpha[..., np.newaxis]
    rgb += 1
    return rgb


def _to_uint8(image: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(image, 0.0, 1.0) * 255.0).astype(np.uint8)


def _encode(path: Path, rgb: np.ndarray, alpha: np.ndarray | None, quality: int) -> bytes:
    """The bytes of a picture file, in memory so that a failure leaves nothing on disk."""
    encoder = _ENCODERS[path.suffix.lower()]
    picture = Image.fromarray(_to_uint8(_channels(path, encoder, rgb, alpha)))
    options = {
        'PNG': {},
        'JPEG': {'quality': quality, 'subsampling': 0},  # strokes have sharp coloured edges
        'WEBP': {'quality': quality, 'exact': True},  # colours under transparent pixels too
    }[encoder]
    return _saved(path, picture, encoder, **options)


def _channels(path: Path, encoder: str, rgb: np.ndarray, alpha: np.ndarray | None) -> np.ndarray:
    """`[H, W, 3]` float32, or with alpha `[H, W, 4]` where the format holds it."""
    rgb = _checked(path, 'rgb', rgb)
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.size == 0:
        raise ImageError(f'{path}: rgb has the shape {rgb.shape}; it must be [H, W, 3]')
    if alpha is None:
        return rgb
    alpha = _checked(path, 'alpha', alpha)
    if alpha.shape != rgb.shape[:2]:
        raise ImageError(f'{path}: alpha has the shape {alpha.shape}; it must be {rgb.shape[:2]}')
    if encoder in ('JPEG', 'GIF'):
        return _on_white(np.clip(rgb, 0.0, 1.0), np.clip(alpha, 0.0, 1.0))
    return np.concatenate([rgb, alpha[..., np.newaxis]], axis=-1)


def _saved(path: Path, picture: Image.Image, encoder: str, **options: Any) -> bytes:
    """What Pillow makes of a picture."""
    check_size(path, picture.height, picture.width)
    buffer = io.BytesIO()
    try:
        picture.save(buffer, encoder, **options)
    except (MemoryError, OSError, RuntimeError, TypeError, ValueError, struct.error) as error:
        raise ImageError(
            f'{path}: {picture.width} x {picture.height} pixels cannot be written as {encoder} '
            f'({_reason(error)}); try .png or a smaller size'
        ) from error
    return buffer.getvalue()


def _checked(path: Path, what: str, values: np.ndarray) -> np.ndarray:
    """Float32 values, all finite; whole numbers are refused, since their range is not 0..1."""
    values = np.asarray(values)
    if values.dtype.kind in 'biu':
        raise ImageError(f'{path}: {what} is {values.dtype}; it must be floating point in 0..1')
    values = values.astype(np.float32)
    bad = values.size - int(np.isfinite(values).sum())
    if bad:
        raise ImageError(
            f'{path}: {what} holds {bad} NaN or infinite values and is not written; '
            'check the weights and lower the learning rate'
        )
    return values
