"""Writes arrays to picture files; no other module does this."""

import importlib.util
import io
import os
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from metastyle_jax.core import checks, files
from metastyle_jax.data.images import image_files, pixel_values
from metastyle_jax.data.images.metadata import embedding, photo_metadata

# A folder keeps these formats; a picture in another one becomes a PNG.
SUFFIXES_KEPT = ('.png', '.jpg', '.jpeg', '.webp')
# An older Pillow lacks AVIF, and HEIC needs the extra heif.
SUFFIXES_OUT = (
    *(*SUFFIXES_KEPT, '.tif', '.tiff'),
    *(('.avif',) if 'AVIF' in Image.SAVE else ()),
    *(('.heic', '.heif') if importlib.util.find_spec('pillow_heif') else ()),
)
SUFFIXES_MOVING = ('.webp', '.gif', '.png')
_ENCODERS = {
    '.png': 'PNG', '.jpg': 'JPEG', '.jpeg': 'JPEG', '.webp': 'WEBP', '.gif': 'GIF',
    '.tif': 'TIFF', '.tiff': 'TIFF', '.avif': 'AVIF', '.heic': 'HEIF', '.heif': 'HEIF',
}  # fmt: skip
_WITHOUT_ALPHA = ('JPEG', 'GIF')
_LIMITS = {'JPEG': 65500, 'WEBP': 16383, 'GIF': 65535}  # most pixels a side, by format


def write(
    path: str | os.PathLike[str],
    rgb: np.ndarray,
    *,
    alpha: np.ndarray | None = None,
    overwrite: bool = False,
    quality: int = 95,
    metadata: photo_metadata.PhotoMetadata | None = None,
) -> list[str]:
    """Writes a picture file, completely or not at all; the suffix decides the format.

    Args:
        path: the file to write; its suffix must be one of `SUFFIXES_OUT`.
        rgb: `[H, W, 3]` floating point, clipped to 0..1 and rounded to the nearest of 256 levels.
        alpha: `[H, W]` floating point in 0..1; None if every pixel is opaque. JPEG cannot hold it,
            so the picture is blended with white there.
        overwrite: whether an existing file may be replaced.
        quality: quality of JPEG, WebP, AVIF and HEIC, 1 to 100.
        metadata: metadata of the photograph from which the picture was made; None for none.

    Returns:
        The kinds of metadata that are left out because they are too large for the format, such as
        'EXIF', for a warning.

    Raises:
        ImageError: the path cannot be used, see `check_output`; a value is NaN or infinite; an
            array has the wrong shape; the picture is too large for the format; the disk is full or
            fails.
    """
    check_output(path, overwrite=overwrite)
    path = Path(path)
    encoded, left_out = _encode(path, rgb, alpha, quality, metadata)
    files.write_whole(path, encoded, image_files.ImageError)
    return left_out


def write_animation(
    path: str | os.PathLike[str],
    frames: Iterable[np.ndarray],
    *,
    milliseconds: int,
    alpha: np.ndarray | None = None,
    overwrite: bool = False,
) -> None:
    """Writes an animation that repeats for ever; the file is written completely or not at all.

    Args:
        path: the file to write; its suffix must be one of `SUFFIXES_MOVING`.
        frames: at least one frame, `[H, W, 3]` floating point in 0..1, all of the same size. Each
            frame is converted to uint8 before the next one is requested, so an iterator saves
            memory.
        milliseconds: how long each frame is shown, at least 1.
        alpha: transparency of all frames, `[H, W]` floating point in 0..1; None if every pixel is
            opaque. GIF files do not keep it: the frames are blended with white.
        overwrite: whether an existing file may be replaced.

    Raises:
        ImageError: as for `write`, or there is no frame.
    """
    check_output(path, overwrite=overwrite, suffixes=SUFFIXES_MOVING)
    path = Path(path)
    checks.whole_number('milliseconds', milliseconds, 1, error=image_files.ImageError)
    encoder = _ENCODERS[path.suffix.lower()]
    images = [
        Image.fromarray(pixel_values.to_bytes(_with_alpha(path, encoder, frame, alpha)))
        for frame in frames
    ]
    if not images:
        raise image_files.ImageError(f'{path}: there is no frame; at least one is needed')
    options: dict[str, Any] = {'quality': 90} if encoder == 'WEBP' else {}
    encoded = _save(
        path, images[0], encoder, save_all=True, append_images=images[1:], duration=milliseconds,
        loop=0, **options,
    )  # fmt: skip
    files.write_whole(path, encoded, image_files.ImageError)


def check_output(
    path: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    suffixes: Sequence[str] = SUFFIXES_OUT,
    source: str | os.PathLike[str] | None = None,
) -> None:
    """Raises ImageError if a file cannot be written; called before any work is done.

    Args:
        path: the file to be written later.
        overwrite: whether an existing file may be replaced.
        suffixes: the suffixes that are allowed.
        source: the file that the picture is made from; it is never replaced.

    Raises:
        ImageError: the suffix is not allowed; `path` is `source`; the file exists and `overwrite`
            is False; its folder does not exist or is not writable.
    """
    path = Path(path)
    if path.suffix.lower() not in suffixes:
        known = ', '.join(suffixes)
        raise image_files.ImageError(
            f'{path}: cannot write {path.suffix or "no suffix"!r}; use one of {known}'
        )
    if source is not None and path.exists() and os.path.exists(source) and path.samefile(source):
        raise image_files.ImageError(f'output={path}: it is the input itself; choose another name')
    files.check_target(path, image_files.ImageError, overwrite=overwrite)


def holds_alpha(path: str | os.PathLike[str]) -> bool:
    """Whether the format that the suffix of a file names can hold transparency."""
    return _ENCODERS[Path(path).suffix.lower()] not in _WITHOUT_ALPHA


def check_format_holds(path: str | os.PathLike[str], height: int, width: int) -> None:
    """Raises ImageError if a side of a picture is too long for the format of `path`."""
    encoder = _ENCODERS[Path(path).suffix.lower()]
    limit = _LIMITS.get(encoder)
    if limit is not None and max(height, width) > limit:
        raise image_files.ImageError(
            f'{path}: {width} x {height} pixels cannot be written as {encoder} (no side may have '
            f'more than {limit}); try .png or a smaller size'
        )


def _encode(
    path: Path,
    rgb: np.ndarray,
    alpha: np.ndarray | None,
    quality: int,
    metadata: photo_metadata.PhotoMetadata | None,
) -> tuple[bytes, list[str]]:
    """Encodes a picture in memory; returns the bytes and the kinds of metadata left out."""
    encoder = _ENCODERS[path.suffix.lower()]
    picture = Image.fromarray(pixel_values.to_bytes(_with_alpha(path, encoder, rgb, alpha)))
    every: dict[str, dict[str, Any]] = {
        'PNG': {},
        'TIFF': {'compression': 'tiff_adobe_deflate'},
        'AVIF': {'quality': quality, 'subsampling': '4:4:4'},
        'HEIF': {'quality': quality, 'chroma': 444},
        # No chroma subsampling: brush strokes have sharp coloured edges.
        'JPEG': {'quality': quality, 'subsampling': 0},
        # Colours of transparent pixels are kept too, so that alpha can be edited later.
        'WEBP': {'quality': quality, 'exact': True},
    }
    options = every[encoder]
    if encoder == 'HEIF':
        import pillow_heif

        pillow_heif.register_heif_opener()
    if metadata is None:
        return _save(path, picture, encoder, **options), []
    size = (picture.height, picture.width)
    told, left_out = embedding.options(metadata, encoder, size)
    encoded = _save(path, picture, encoder, **options, **told)
    if encoder == 'TIFF':
        encoded = embedding.with_directory(encoded, metadata, size)
    return encoded, left_out


def _with_alpha(path: Path, encoder: str, rgb: np.ndarray, alpha: np.ndarray | None) -> np.ndarray:
    """Joins colour and alpha to `[H, W, 4]` if the format holds alpha, else to `[H, W, 3]`."""
    rgb = _checked(path, 'rgb', rgb)
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.size == 0:
        raise image_files.ImageError(f'{path}: rgb has the shape {rgb.shape}; it must be [H, W, 3]')
    if alpha is None:
        return rgb
    alpha = _checked(path, 'alpha', alpha)
    if alpha.shape != rgb.shape[:2]:
        raise image_files.ImageError(
            f'{path}: alpha has the shape {alpha.shape}; it must be {rgb.shape[:2]}'
        )
    if encoder in _WITHOUT_ALPHA:
        return pixel_values.blend_with_white(np.clip(rgb, 0.0, 1.0), np.clip(alpha, 0.0, 1.0))
    return np.concatenate([rgb, alpha[..., np.newaxis]], axis=-1)


def _save(path: Path, picture: Image.Image, encoder: str, **options: Any) -> bytes:
    """Encodes a picture with Pillow, and turns its errors into `ImageError`."""
    check_format_holds(path, picture.height, picture.width)
    buffer = io.BytesIO()
    try:
        picture.save(buffer, encoder, **options)
    except (MemoryError, OSError, RuntimeError, TypeError, ValueError, struct.error) as error:
        raise image_files.ImageError(
            f'{path}: {picture.width} x {picture.height} pixels cannot be written as {encoder} '
            f'({files.reason(error)}); try .png or a smaller size'
        ) from error
    return buffer.getvalue()


def _checked(path: Path, what: str, values: np.ndarray) -> np.ndarray:
    """Converts values to float32; raises ImageError for integers, NaN and infinite values."""
    values = np.asarray(values)
    if values.dtype.kind in 'biu':  # their range is not 0..1
        raise image_files.ImageError(
            f'{path}: {what} is {values.dtype}; it must be floating point in 0..1'
        )
    values = values.astype(np.float32)
    bad = values.size - int(np.isfinite(values).sum())
    if bad:
        raise image_files.ImageError(
            f'{path}: {what} holds {bad} NaN or infinite values and is not written; '
            'check the weights and lower the learning rate'
        )
    return values
