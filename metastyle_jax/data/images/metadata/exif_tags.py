"""Chooses which EXIF tags are copied from a photograph to its stylized picture.

Values are copied byte by byte. Tags that concern the old pixels are left out: thumbnail, maker
notes, size, orientation and colour space.

Source: EXIF 2.32 (CIPA DC-008-2019).
"""

import io
import struct
from typing import BinaryIO, NamedTuple

from PIL import ExifTags

from metastyle_jax.data.images.decoding import tiff_directories

PREFIX = b'Exif\0\0'
_LIMIT = 2**20  # bytes of one value
_PHOTO, _PLACE = 34665, 34853  # directories below the first one
_DESCRIPTION, _ARTIST, _COPYRIGHT = 270, 315, 33432
_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 282, 283, 296
_COLOUR_SPACE, _WIDTH, _HEIGHT = 40961, 40962, 40963
# Of the first directory: name, camera, program, dates, people, rating; and the tags of exposure and
# date that some programs write there.
_KEPT = frozenset(
    (*(269, _DESCRIPTION, 271, 272, 305, 306, _ARTIST, 316, _COPYRIGHT, 18246, 18249),
     *(40091, 40092, 40093, 40094, 40095, 33434, 33437, 34850, 34855, 36867, 36868, 37386))
)  # fmt: skip
# Of the second one, all that is known but: notes of the maker, padding, the structure and size of
# the pixels, places in the picture, its number, and other files.
_LEFT_OUT = frozenset(
    (*(37500, 37121, 37122, 37396, _COLOUR_SPACE, _WIDTH, _HEIGHT, 40964, 40965, 41484, 41492),
     *(41730, 41995, 42016, 42240, _PHOTO, _PLACE))
)  # fmt: skip


class ExifData(NamedTuple):
    """The EXIF tags of a photograph that are copied.

    Attributes:
        order: byte order of the values as in `struct`, '<' or '>'.
        image: number -> tag of the first directory, such as camera and description.
        photo: number -> tag of the directory with exposure, lens and date.
        place: number -> tag of the directory with the GPS position.
    """

    order: str
    image: dict[int, tiff_directories.TiffTag]
    photo: dict[int, tiff_directories.TiffTag]
    place: dict[int, tiff_directories.TiffTag]

    def text(self, tag: int) -> str:
        """Returns the text of a tag in the first directory; '' if the tag is missing."""
        return text_of(self.image[tag].data) if tag in self.image else ''

    @property
    def texts(self) -> dict[str, str]:
        """Returns the texts that exist among 'Description', 'Author' and 'Copyright'."""
        names = {'Description': _DESCRIPTION, 'Author': _ARTIST, 'Copyright': _COPYRIGHT}
        return {name: text for name, tag in names.items() if (text := self.text(tag))}


EMPTY = ExifData('<', {}, {}, {})


def parse(stream: BinaryIO, *, keep_location: bool) -> tuple[ExifData, bool]:
    """Reads EXIF data, as far as they can be read.

    Args:
        stream: the data without their first bytes `Exif`, or a TIFF file, which holds EXIF tags in
            its directories.
        keep_location: whether to keep the GPS position.

    Returns:
        The tags that are copied, and whether some data are damaged.
    """
    try:
        header = tiff_directories.read_header(stream)
    except (ValueError, struct.error):
        return EMPTY, True
    is_damaged = False
    found: list[dict[int, tiff_directories.TiffTag]] = []
    places = [header.first]
    for name in (None, _PHOTO, _PLACE):
        if name is not None:
            places = list(tiff_directories.numbers(found[0].get(name), header.order)[:1])
        tags: dict[int, tiff_directories.TiffTag] = {}
        if places:
            tags, _, broken = tiff_directories.read_directory(
                stream, header, places[0], limit=_LIMIT
            )
            is_damaged |= broken
        found.append(tags)
    image, photo, place = found
    data = ExifData(
        header.order,
        {name: tag for name, tag in image.items() if name in _KEPT},
        {
            name: tag
            for name, tag in photo.items()
            if name in ExifTags.TAGS and name not in _LEFT_OUT
        },
        place if keep_location else {},
    )
    return data, is_damaged


def parse_bytes(data: bytes, *, keep_location: bool) -> tuple[ExifData, bool]:
    """Does the same as `parse` for the bytes that a JPEG, PNG or WebP file holds."""
    return parse(io.BytesIO(data.removeprefix(PREFIX)), keep_location=keep_location)


def directory(
    data: ExifData,
    *,
    texts: dict[str, str],
    dpi: tuple[float, float] | None,
    size: tuple[int, int],
) -> dict[int, tiff_directories.TiffTag | tiff_directories.Tags]:
    """Makes the first EXIF directory for a picture, and the directories that it refers to.

    Args:
        data: EXIF data of the photograph.
        texts: texts from other metadata under 'Description', 'Author' and 'Copyright'; each is
            used only if the tag is missing in `data`.
        dpi: pixels per inch in x and y; None if unknown.
        size: height and width of the picture.

    Returns:
        Number -> tag or directory; empty if there is nothing to write.
    """
    order, height, width = data.order, *size
    tags: dict[int, tiff_directories.TiffTag | tiff_directories.Tags] = {**data.image}
    names = {'Description': _DESCRIPTION, 'Author': _ARTIST, 'Copyright': _COPYRIGHT}
    for name, tag in names.items():
        if name in texts and not data.text(tag):
            tags[tag] = tiff_directories.text_tag(texts[name])
    if dpi is not None:
        for tag, value in zip((_X_RESOLUTION, _Y_RESOLUTION), dpi, strict=True):
            ratio = (round(value * 1000), 1000) if value % 1 else (round(value), 1)
            tags[tag] = tiff_directories.tag_of(order, tiff_directories.RATIONAL, ratio)
        tags[_RESOLUTION_UNIT] = tiff_directories.tag_of(order, tiff_directories.SHORT, [2])
    if data.photo or data.place or tags:
        sides = {_WIDTH: width, _HEIGHT: height}
        tags[_PHOTO] = {
            **data.photo,
            **{
                tag: tiff_directories.tag_of(order, tiff_directories.LONG, [side])
                for tag, side in sides.items()
            },
            _COLOUR_SPACE: tiff_directories.tag_of(order, tiff_directories.SHORT, [1]),
        }
    if data.place:
        tags[_PLACE] = dict(data.place)
    return tags


def without_largest(data: ExifData) -> ExifData:
    """Returns the data without their largest tag."""
    groups = (data.image, data.photo, data.place)
    _, number, tag = max(
        (len(value.data), number, tag)
        for number, tags in enumerate(groups)
        for tag, value in tags.items()
    )
    rest = [
        {name: value for name, value in tags.items() if (i, name) != (number, tag)}
        for i, tags in enumerate(groups)
    ]
    return ExifData(data.order, *rest)


def text_of(data: bytes) -> str:
    """Decodes a text up to its first zero byte, as UTF-8 if it is valid, else as Latin-1."""
    data = data.split(b'\0')[0]
    try:
        return data.decode().strip()
    except UnicodeDecodeError:
        return data.decode('latin-1').strip()
