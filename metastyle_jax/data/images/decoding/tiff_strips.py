"""Decodes a TIFF file in parts, or from a reduced copy in the file, to save memory.

Pillow can only decode a whole TIFF at once. So this module copies some strips, or rows of tiles, to
a small TIFF file in memory, which Pillow decodes. A TIFF may also hold a pyramid: reduced copies of
its picture.

Source: TIFF 6.0, sections 8 and 15; TIFF Technical Note 1 for directories below a directory.
"""

import io
import math
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from PIL import Image

from metastyle_jax.data.images.decoding import tiff_directories

# Tags.
_SUBFILE_TYPE, _WIDTH, _HEIGHT, _COMPRESSION, _PHOTOMETRIC = 254, 256, 257, 259, 262
_STRIP_OFFSETS, _SAMPLES, _ROWS_PER_STRIP, _STRIP_BYTES, _PLANAR = 273, 277, 278, 279, 284
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_BYTES, _SUB_DIRECTORIES = 322, 323, 324, 325, 330
# Tags that are copied to each part. Others, such as orientation, concern the whole picture.
_KEPT = (
    *(258, _COMPRESSION, _PHOTOMETRIC, 266, _SAMPLES, _PLANAR, 292, 293, 317, 320, 332, 338, 339),
    *(347, 529, 530, 531, 532),
)
_LIMIT = 2**24  # bytes of a tag
_MOST_DIRECTORIES = 64
_PART = 2**21  # least number of pixels in a part


class TiffPage(NamedTuple):
    """One of the pictures in a TIFF file.

    Attributes:
        order: byte order of the file as in `struct`, '<' or '>'.
        tags: directory of the picture.
        width: width in pixels.
        height: height in pixels.
    """

    order: str
    tags: dict[int, tiff_directories.TiffTag]
    width: int
    height: int


def smallest_page(stream: BinaryIO, width: int, height: int) -> TiffPage | None:
    """Finds the smallest copy of a TIFF's picture that has at least a given size.

    Args:
        stream: the file.
        width: least width of the copy in pixels.
        height: least height of the copy in pixels.

    Returns:
        A reduced copy of the first picture if the file holds one that is large enough, else the
        first picture; None if the size of the first picture is unknown.
    """
    header = tiff_directories.read_header(stream)
    pages: list[TiffPage] = []
    places = [header.first]
    while places and len(pages) < _MOST_DIRECTORIES:
        place = places.pop(0)
        tags, following, _ = tiff_directories.read_directory(stream, header, place, limit=_LIMIT)
        size = [tiff_directories.number(tags, name, header.order, 0) for name in (_WIDTH, _HEIGHT)]
        pages.append(TiffPage(header.order, tags, *size))
        places += tiff_directories.numbers(tags.get(_SUB_DIRECTORIES), header.order)
        places += [following] if following else []
    first, *others = pages
    if not first.width or not first.height:
        return None
    return min((first, *(page for page in others if _is_level(page, first, width, height))),
               key=lambda page: page.width)  # fmt: skip


def _is_level(page: TiffPage, first: TiffPage, width: int, height: int) -> bool:
    """Whether a picture is a reduced copy of the first one, and has the given size at least."""
    kind = tiff_directories.number(page.tags, _SUBFILE_TYPE, page.order, 0)
    if kind != 1 or page.width < width or page.height < height:
        return False
    # The levels are rounded to whole pixels.
    shape = abs(page.width * first.height - page.height * first.width)
    return shape <= first.width + first.height


def strips(stream: BinaryIO, page: TiffPage) -> Iterator[Image.Image] | None:
    """Decodes a picture from top to bottom, in parts of its full width.

    Args:
        stream: the file.
        page: the picture.

    Returns:
        An iterator of loaded pictures; None if the picture is not stored in strips or tiles that
        can be decoded alone.
    """
    number = {
        name: tiff_directories.number(page.tags, name, page.order, default)
        for name, default in (
            *((_COMPRESSION, 1), (_PLANAR, 1), (_SAMPLES, 1), (_ROWS_PER_STRIP, page.height)),
            *((_TILE_WIDTH, 0), (_TILE_HEIGHT, 0)),
        )
    }
    old_jpeg = 6  # its tables lie anywhere in the file
    if number[_COMPRESSION] == old_jpeg or (number[_PLANAR] != 1 and number[_SAMPLES] > 1):
        return None
    if _TILE_OFFSETS in page.tags:
        names, rows = (_TILE_OFFSETS, _TILE_BYTES), number[_TILE_HEIGHT]
        across = math.ceil(page.width / max(1, number[_TILE_WIDTH]))
    else:
        names, rows, across = (_STRIP_OFFSETS, _STRIP_BYTES), number[_ROWS_PER_STRIP], 1
    places, lengths = (tiff_directories.numbers(page.tags.get(name), page.order) for name in names)
    rows = min(rows, page.height)
    if rows < 1 or len(places) != len(lengths) or len(places) != across * -(-page.height // rows):
        return None
    if number[_COMPRESSION] == 1 and len(places) == 1 and lengths[0] % page.height == 0:
        row = lengths[0] // page.height  # one strip of raw rows, which can be cut anywhere
        places = tuple(places[0] + row * y for y in range(page.height))
        lengths, rows = (row,) * page.height, 1
    return _parts(stream, page, names, list(zip(places, lengths, strict=True)), rows, across)


def _parts(
    stream: BinaryIO,
    page: TiffPage,
    names: tuple[int, int],
    blocks: list[tuple[int, int]],
    rows: int,
    across: int,
) -> Iterator[Image.Image]:
    """Yields some rows of blocks at a time; see `strips`."""
    step = max(1, _PART // (page.width * rows))
    tile = {name: page.tags[name] for name in (_TILE_WIDTH, _TILE_HEIGHT) if name in page.tags}
    kept = {name: page.tags[name] for name in _KEPT if name in page.tags}
    for first in range(0, len(blocks) // across, step):
        part = blocks[first * across : (first + step) * across]
        data, places = io.BytesIO(), []
        for place, length in part:
            stream.seek(place)
            places.append(8 + data.tell())
            data.write(stream.read(length))
            data.write(b'\0' * (data.tell() % 2))
        height = min(page.height - first * rows, rows * (len(part) // across))
        numbers = {
            _WIDTH: [page.width], _HEIGHT: [height], names[0]: places,
            names[1]: [length for _, length in part],
            **({} if tile else {_ROWS_PER_STRIP: [rows]}),
        }  # fmt: skip
        tags = {
            name: tiff_directories.tag_of(page.order, tiff_directories.LONG, values)
            for name, values in numbers.items()
        }
        file = tiff_directories.file_of(page.order, {**kept, **tile, **tags}, data.getvalue())
        with Image.open(io.BytesIO(file), formats=('TIFF',)) as image:
            image.load()
            yield image
