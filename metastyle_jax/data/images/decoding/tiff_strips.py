"""TIFF files in parts: levels of a pyramid, and strips or rows of tiles one after the other.

Pillow decodes a whole TIFF at once. Here, some strips of it are copied to a small file of their
own, which Pillow decodes, so that a large picture takes little memory.

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
# What a part needs to be decoded, with the tags above. Others, as orientation, belong to the whole.
_KEPT = (
    *(258, _COMPRESSION, _PHOTOMETRIC, 266, _SAMPLES, _PLANAR, 292, 293, 317, 320, 332, 338, 339),
    *(347, 529, 530, 531, 532),
)
_LIMIT = 2**24  # bytes of a tag
_MOST_DIRECTORIES = 64
_PART = 2**21  # least number of pixels in a part


class TiffPage(NamedTuple):
    """A picture in a TIFF.

    Attributes:
        order: byte order of the file.
        tags: its directory.
        width: in pixels.
        height: in pixels.
    """

    order: str
    tags: dict[int, tiff_directories.TiffTag]
    width: int
    height: int


def smallest_page(stream: BinaryIO, width: int, height: int) -> TiffPage | None:
    """Finds the smallest level of a pyramid that has some size.

    Args:
        stream: the file.
        width: least width, in pixels.
        height: least height.

    Returns:
        The first picture of the file, or a reduced copy of it; None if the file has another
        structure.
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
    """Whether a picture is a reduced copy of the first one, and large enough."""
    kind = tiff_directories.number(page.tags, _SUBFILE_TYPE, page.order, 0)
    if kind != 1 or page.width < width or page.height < height:
        return False
    # The levels are rounded to whole pixels.
    shape = abs(page.width * first.height - page.height * first.width)
    return shape <= first.width + first.height


def strips(stream: BinaryIO, page: TiffPage) -> Iterator[Image.Image] | None:
    """Decodes a picture from its top to its bottom, in parts that have its full width.

    Returns:
        An iterator of opened pictures; None if this kind of file cannot be divided.
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
