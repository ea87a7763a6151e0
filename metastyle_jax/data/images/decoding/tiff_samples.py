"""Decodes TIFF files whose samples Pillow cannot read: 10, 12, 14, 32 or 64 bits, floating point.

The file is copied with changed tags, which say that each byte is a grey pixel. So Pillow only
decompresses the bytes, and this module takes the samples from them.

Source: TIFF 6.0, sections 7, 14 and 19; Adobe's TIFF Technical Note 3 for floating point.
"""

import math
import struct
from collections.abc import Callable
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image

from metastyle_jax.data.images.decoding import pillow_modes, tiff_directories, tiff_strips

_BITS, _COMPRESSION, _PHOTOMETRIC, _ORIENTATION, _SAMPLES = 258, 259, 262, 274, 277
_WIDTH, _HEIGHT, _PLANAR, _PREDICTOR = 256, 257, 284, 317
_TILE_WIDTH, _EXTRA, _FORMAT, _PROFILE = 322, 338, 339, 34675
# Compressions that do not know pixels: none, LZW, deflate, PackBits, LZMA, Zstandard.
_OF_BYTES = (1, 5, 8, 32946, 32773, 34925, 50000)
_UNSIGNED, _SIGNED, _FLOAT = 1, 2, 3
_VALUES = 2**20  # samples that are unpacked at a time


class _Layout(NamedTuple):
    """How the samples of a file are stored.

    Attributes:
        order: byte order as in `struct`, '<' or '>'.
        width: width in pixels.
        samples: number of samples of a pixel.
        bits: number of bits of a sample.
        kind: `_UNSIGNED`, `_SIGNED` or `_FLOAT`.
        predictor: TIFF's number of the predictor; 1 for none.
    """

    order: str
    width: int
    samples: int
    bits: int
    kind: int
    predictor: int


def read(stream: BinaryIO, check: Callable[[int, int], None]) -> Image.Image | None:
    """Decodes a TIFF that Pillow cannot open.

    Args:
        stream: the file.
        check: called with height and width before memory is allocated; it may raise an error.

    Returns:
        The upright picture, of mode I;16, RGB or RGBA; None if this module cannot decode the file
        either.

    Raises:
        ValueError: the picture holds NaN or infinite values.
        OSError: the file is cut off.
    """
    try:
        header = tiff_directories.read_header(stream)
        tags, _, _ = tiff_directories.read_directory(stream, header, header.first, limit=2**24)
        layout = _layout(header.order, tags)
    except (OSError, ValueError, struct.error):
        return None
    if layout is None:
        return None
    height = tiff_directories.number(tags, _HEIGHT, header.order, 0)
    check(height, layout.width)
    values = _values(stream, tags, layout, height)
    if values is None:
        return None
    image = _to_image(values, layout, tags)
    if _PROFILE in tags:
        image.info['icc_profile'] = tags[_PROFILE].data
    turn = tiff_directories.number(tags, _ORIENTATION, header.order, 1)
    return pillow_modes.upright(image, turn if 1 <= turn <= 8 else 1)


def _layout(order: str, tags: dict[int, tiff_directories.TiffTag]) -> _Layout | None:
    """Reads from the tags how samples are stored; returns None for an unsupported layout."""
    bits = tiff_directories.numbers(tags.get(_BITS), order) or (1,)
    width, samples, kind, predictor, planar, compression, photometric = (
        tiff_directories.number(tags, name, order, default)
        for name, default in (
            *((_WIDTH, 0), (_SAMPLES, 1), (_FORMAT, 1), (_PREDICTOR, 1), (_PLANAR, 1)),
            *((_COMPRESSION, 1), (_PHOTOMETRIC, -1)),
        )
    )
    colours = {0: 1, 1: 1, 2: 3}.get(photometric)
    is_known = (
        len({*bits}) == 1
        and colours is not None
        and colours <= samples <= 8
        and (planar == 1 or samples == 1)
        and compression in _OF_BYTES
        and kind in (_UNSIGNED, _SIGNED, _FLOAT)
        and (bits[0] in (16, 32, 64) if kind == _FLOAT else 1 < bits[0] <= 32 or bits[0] == 64)
        and (
            predictor == 1
            or (predictor == 2 and bits[0] in (8, 16, 32))
            or (predictor == 3 and kind == _FLOAT)
        )
        and width > 0
    )
    return _Layout(order, width, samples, bits[0], kind, predictor) if is_known else None


def _values(
    stream: BinaryIO, tags: dict[int, tiff_directories.TiffTag], layout: _Layout, height: int
) -> np.ndarray | None:
    """Decodes the samples, `[H, W, at most 4]` float32; integers are scaled to 0..1."""
    depth = layout.samples * layout.bits
    tile = tiff_directories.number(tags, _TILE_WIDTH, layout.order, 0)
    length = math.ceil(layout.width * depth / 8)
    width = math.ceil(layout.width / tile) * tile * depth // 8 if tile else length
    changed = {_WIDTH: width, _BITS: 8, _SAMPLES: 1, _PHOTOMETRIC: 1, _FORMAT: 1, _PREDICTOR: 1}
    if tile:
        changed[_TILE_WIDTH] = tile * depth // 8
    bytewise = {name: tag for name, tag in tags.items() if name != _EXTRA}
    bytewise |= {
        name: tiff_directories.tag_of(layout.order, tiff_directories.LONG, [value])
        for name, value in changed.items()
    }
    parts = tiff_strips.strips(stream, tiff_strips.TiffPage(layout.order, bytewise, width, height))
    if parts is None:
        return None
    # Grey of one sample, colours of three, and one more for transparency; others say nothing.
    kept = min(layout.samples, 4)
    result = np.empty((height, layout.width, kept), np.float32)
    top = 0
    for part in parts:
        rows = np.asarray(part)[:, :length]
        step = max(1, _VALUES // (layout.width * layout.samples))
        for start in range(0, len(rows), step):
            found = _unpacked(rows[start : start + step], layout)[..., :kept]
            result[top : top + len(found)] = found
            top += len(found)
    if top != height:
        raise OSError('image file is truncated')
    return result


def _unpacked(rows: np.ndarray, layout: _Layout) -> np.ndarray:
    """Converts N rows of bytes, `[N, L]` uint8, to samples `[N, W, samples]` float32."""
    bits, shape = layout.bits, (len(rows), layout.width, layout.samples)
    if bits in (8, 16, 32, 64):
        letter = {_UNSIGNED: 'u', _SIGNED: 'i', _FLOAT: 'f'}[layout.kind]
        order = layout.order
        if layout.predictor == 3:
            rows, order = _without_float_predictor(rows, layout), '>'
        raw = np.ascontiguousarray(rows).view(f'{order}{letter}{bits // 8}').reshape(shape)
        if layout.predictor == 2:
            whole = raw.view(f'{layout.order}u{bits // 8}')
            whole = np.cumsum(whole, axis=1, dtype=whole.dtype.newbyteorder('='))
            raw = whole.view(f'{letter}{bits // 8}')
    else:
        count = layout.width * layout.samples
        each = np.unpackbits(rows, axis=1)[:, : count * bits].reshape(len(rows), count, bits)
        powers = (1 << np.arange(bits - 1, -1, -1)).astype(np.float64)
        raw = (each @ powers).reshape(shape)
    if layout.kind == _FLOAT:
        return raw.astype(np.float32)
    white = 2.0 ** (bits - (layout.kind == _SIGNED)) - 1
    return np.clip(raw / white, 0.0, 1.0).astype(np.float32)


def _without_float_predictor(rows: np.ndarray, layout: _Layout) -> np.ndarray:
    """Undoes the predictor for floating point, which stores differences of bytes.

    It stores the highest bytes of all samples first, then the next lower ones.
    """
    count = layout.width * layout.samples
    steps = rows.reshape(len(rows), -1, layout.samples)
    planes = np.cumsum(steps, axis=1, dtype=np.uint8).reshape(len(rows), -1, count)
    return planes.transpose(0, 2, 1).reshape(len(rows), -1)


def _to_image(
    values: np.ndarray, layout: _Layout, tags: dict[int, tiff_directories.TiffTag]
) -> Image.Image:
    """Makes a picture from samples; values above 1 are scaled as in `image_files.read`."""
    if not np.isfinite(values).all():
        raise ValueError('it holds NaN or infinite values')
    photometric = tiff_directories.number(tags, _PHOTOMETRIC, layout.order, 1)
    colours = 3 if photometric == 2 else 1
    colour, rest = values[..., :colours], values[..., colours:]
    if layout.kind == _FLOAT:
        colour = np.clip(colour / max(1.0, float(colour.max())), 0.0, 1.0)
    colour = 1 - colour if photometric == 0 else colour
    extra = tiff_directories.number(tags, _EXTRA, layout.order, 0)
    has_alpha = rest.shape[-1] > 0 and extra in (1, 2)
    if colours == 1 and not has_alpha:
        return Image.fromarray(np.round(colour[..., 0] * 65535).astype(np.uint16))
    if not has_alpha:
        return Image.fromarray(np.round(colour * 255).astype(np.uint8))
    alpha = np.clip(rest[..., :1], 0.0, 1.0)
    if extra == 1:  # colours are multiplied by it
        colour = np.clip(colour / np.maximum(alpha, 1e-6), 0.0, 1.0)
    colour = np.broadcast_to(colour, (*colour.shape[:2], 3))
    return Image.fromarray(np.round(np.concatenate([colour, alpha], -1) * 255).astype(np.uint8))
