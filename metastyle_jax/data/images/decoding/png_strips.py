"""Decodes a PNG file in parts of some rows each, so that a large picture takes little memory.

Pillow can only decode a whole PNG at once. So this module decompresses some rows, and writes them
to a small PNG file in memory, which Pillow decodes. The filter of each row refers to the row above,
so the last row of the part before is written there too.

Source: PNG specification, third edition, sections 7 to 10.
"""

import io
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageFile

from metastyle_jax.data.images.decoding import png_chunks

_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
_TYPES = {1: (0, 'L'), 2: (4, 'LA'), 3: (2, 'RGB'), 4: (6, 'RGBA')}  # by bytes of a pixel
_PART = 2**21  # bytes that are decoded at a time, about
_READ = 2**18  # compressed bytes that are read at a time


def strips(stream: BinaryIO, image: ImageFile.ImageFile) -> Iterator[Image.Image] | None:
    """Decodes a picture from top to bottom, in parts of its full width.

    Args:
        stream: the file.
        image: the same file, opened by Pillow and not yet loaded.

    Returns:
        An iterator of pictures in the mode of `image`; None if the file is interlaced, or is not
        stored in another way that this module can divide.
    """
    header = next(png_chunks.chunks(stream), None)
    if header is None or header.kind != b'IHDR' or header.length != 13 or len(image.tile) != 1:
        return None
    width, height, depth, kind, *_, interlaced = struct.unpack(
        '>IIBBBBB', png_chunks.data_of(stream, header, 13)
    )
    if interlaced or kind not in _SAMPLES or image.size != (width, height):
        return None
    return _parts(stream, image, width, depth, _SAMPLES[kind])


def _parts(
    stream: BinaryIO, image: ImageFile.ImageFile, width: int, depth: int, samples: int
) -> Iterator[Image.Image]:
    """Yields some rows at a time; see `strips`."""
    pixel = max(1, depth * samples // 8)  # distance of the bytes that a filter compares
    length = (width * depth * samples + 7) // 8
    # The filters work on each byte of a pixel by itself. Of 16 bits, Pillow takes the upper byte
    # of all colours but plain grey.
    is_halved = depth == 16 and samples > 1
    pixel, kept = (pixel // 2, length // 2) if is_halved else (pixel, length)
    above = bytes(kept)
    for rows in _filtered_rows(stream, length + 1, image.height):
        bare = rows[:, 1::2] if is_halved else rows[:, 1:]
        image_rows = _without_filters(above, rows[:, :1], bare, pixel)
        above = image_rows[-kept:]
        mode, raw = image.mode, image.tile[0].args
        if is_halved:
            mode = raw = _TYPES[pixel][1]
        part = Image.frombytes(mode, (width, len(rows)), image_rows, 'raw', raw)
        if mode == 'P' and image.palette is not None:
            part.putpalette(image.palette.palette, image.palette.rawmode or 'RGB')
        yield part if part.mode == image.mode else part.convert(image.mode)


def _filtered_rows(stream: BinaryIO, length: int, height: int) -> Iterator[np.ndarray]:
    """Yields decompressed rows, `[N, length]` uint8; the first byte of a row is its filter type."""
    engine, pending, size, done = zlib.decompressobj(), [], 0, 0
    step = min(height, max(1, _PART // length)) * length
    for data in _compressed(stream):
        piece = b'start'
        while done < height and (data or piece) and not engine.eof:
            piece = engine.decompress(data, step - size)
            data = engine.unconsumed_tail
            pending.append(piece)
            size += len(piece)
            if size == step:
                yield np.frombuffer(b''.join(pending), np.uint8).reshape(-1, length)
                done, pending, size = done + size // length, [], 0
                step = min(step, (height - done) * length)
    if done < height:
        raise OSError('image file is truncated')


def _compressed(stream: BinaryIO) -> Iterator[bytes]:
    """Yields the compressed data of the picture: the data of the first consecutive IDAT chunks."""
    found = False
    for chunk in png_chunks.chunks(stream):
        if chunk.kind != b'IDAT':
            if found:
                return
            continue
        found = True
        for start in range(0, chunk.length, _READ):
            stream.seek(chunk.start + start)
            yield stream.read(min(_READ, chunk.length - start))


def _without_filters(above: bytes, filters: np.ndarray, rows: np.ndarray, pixel: int) -> bytes:
    """Undoes the filters of some rows.

    Args:
        above: the row above the first of them, unfiltered; L bytes.
        filters: `[N, 1]` uint8, filter type of each row.
        rows: `[N, L]` uint8, the filtered rows.
        pixel: number of bytes of a pixel.

    Returns:
        The N · L bytes of the unfiltered rows.
    """
    kind, mode = _TYPES[pixel]
    first = np.frombuffer(b'\0' + above, np.uint8)[None]
    data = np.concatenate([first, np.concatenate([filters, rows], 1)]).tobytes()
    header = struct.pack('>IIBBBBB', len(above) // pixel, len(rows) + 1, 8, kind, 0, 0, 0)
    file = png_chunks.SIGNATURE + b''.join(
        struct.pack('>I', len(body)) + name + body + struct.pack('>I', zlib.crc32(name + body))
        for name, body in (*((b'IHDR', header), (b'IDAT', zlib.compress(data, 0)), (b'IEND', b'')),)
    )
    with Image.open(io.BytesIO(file), formats=('PNG',)) as image:
        if image.mode != mode:
            raise ValueError(f'{mode} expected')
        return image.tobytes()[len(above) :]
