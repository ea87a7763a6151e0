"""Reads and writes the directories of TIFF files and of EXIF data, which have the same format.

A directory is a list of tags. Pillow changes the types of some tags and replaces letters that are
not ASCII. This module keeps each value byte by byte.

Source: TIFF 6.0, section 2; EXIF 2.32, section 4.6.2.
"""

import io
import struct
import sys
from collections.abc import Iterable, Mapping
from typing import BinaryIO, NamedTuple, Union

# Bytes of a value, by the number of its type; 16 to 18 are those of BigTIFF.
_SIZES = {
    1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8,
    17: 8, 18: 8,
}  # fmt: skip
_FORMATS = {1: 'B', 3: 'H', 4: 'I', 6: 'b', 8: 'h', 9: 'i', 13: 'I', 16: 'Q', 17: 'q', 18: 'Q'}
ASCII, SHORT, LONG, RATIONAL = 2, 3, 4, 5
_MOST_TAGS = 4096


class TiffHeader(NamedTuple):
    """The header of a TIFF file.

    Attributes:
        order: byte order as in `struct`: '<' for little endian or '>' for big endian.
        is_big: whether offsets have eight bytes, as in BigTIFF.
        first: offset of the first directory in the file.
    """

    order: str
    is_big: bool
    first: int


class TiffTag(NamedTuple):
    """The content of a tag, which is one value or several of the same type.

    Attributes:
        kind: TIFF's number of the type, such as `SHORT`.
        values: number of values.
        data: bytes of the values, in the byte order of the file.
    """

    kind: int
    values: int
    data: bytes


# A directory; the value of a tag may be a directory itself.
Tags = Mapping[int, Union[TiffTag, 'Tags']]


def read_header(stream: BinaryIO) -> TiffHeader:
    """Reads the header of a TIFF, or of EXIF data without their first bytes `Exif`.

    Raises:
        ValueError: the data have no such header.
    """
    stream.seek(0)
    head = stream.read(16)
    order = {b'II': '<', b'MM': '>'}.get(head[:2])
    if order is None or len(head) < 8:
        raise ValueError('no TIFF')
    (version,) = struct.unpack_from(f'{order}H', head, 2)
    if version == 43 and len(head) == 16:
        return TiffHeader(order, True, struct.unpack_from(f'{order}Q', head, 8)[0])
    if version != 42:
        raise ValueError('no TIFF')
    return TiffHeader(order, False, struct.unpack_from(f'{order}I', head, 4)[0])


def read_directory(
    stream: BinaryIO, header: TiffHeader, place: int, *, limit: int
) -> tuple[dict[int, TiffTag], int, bool]:
    """Reads one directory.

    Args:
        stream: the file.
        header: header of the file.
        place: offset of the directory in the file.
        limit: a tag with more bytes than this is left out.

    Returns:
        Number -> content of the tags that can be read; offset of the next directory, 0 if there is
        none; and whether a tag, or the whole directory, is damaged.
    """
    count_format, entry_format, field, unit = (
        ('Q', 'HHQ', 8, 20) if header.is_big else ('H', 'HHI', 4, 12)
    )
    order = header.order
    head = _read_at(stream, place, struct.calcsize(f'={count_format}'))
    if place < 8 or len(head) < struct.calcsize(f'={count_format}'):
        return {}, 0, True
    (count,) = struct.unpack(order + count_format, head)
    table = stream.read(min(count, _MOST_TAGS) * unit + field)
    tags, is_damaged = {}, count > _MOST_TAGS or len(table) < count * unit
    for start in range(0, min(count, len(table) // unit) * unit, unit):
        number, kind, length = struct.unpack_from(order + entry_format, table, start)
        size = _SIZES.get(kind, 0) * length
        data = table[start + unit - field : start + unit]
        if size > limit:
            continue
        if size > field:
            offset = int.from_bytes(data, 'little' if order == '<' else 'big')
            data = _read_at(stream, offset, size)
        if not size or len(data) < size:
            is_damaged |= kind not in _SIZES or bool(size)
            continue
        tags[number] = TiffTag(kind, length, data[:size])
    following = table[count * unit : count * unit + field]
    is_whole = len(following) == field
    next_place = int.from_bytes(following, 'little' if order == '<' else 'big') if is_whole else 0
    return tags, next_place, is_damaged


def _read_at(stream: BinaryIO, place: int, size: int) -> bytes:
    """Reads bytes at an offset; returns b'' if a damaged BigTIFF names an impossible offset."""
    if place > sys.maxsize:
        return b''
    stream.seek(place)
    return stream.read(size)


def numbers(tag: TiffTag | None, order: str) -> tuple[int, ...]:
    """Returns the values of a tag of integers; () if the tag is missing or has another type."""
    if tag is None or tag.kind not in _FORMATS:
        return ()
    return struct.unpack(f'{order}{tag.values}{_FORMATS[tag.kind]}', tag.data)


def number(tags: Mapping[int, TiffTag], name: int, order: str, default: int) -> int:
    """Returns the first value of a tag of integers, or `default` as in `numbers`."""
    return next(iter(numbers(tags.get(name), order)), default)


def tag_of(order: str, kind: int, values: Iterable[int]) -> TiffTag:
    """Makes a tag of type SHORT, LONG or RATIONAL from integers; two integers make one RATIONAL."""
    values = tuple(values)
    letter = 'H' if kind == SHORT else 'I'
    data = struct.pack(f'{order}{len(values)}{letter}', *values)
    return TiffTag(kind, len(values) // (2 if kind == RATIONAL else 1), data)


def text_tag(text: str) -> TiffTag:
    """Makes a tag of text in UTF-8, as many programs do, although EXIF defines only ASCII."""
    data = text.encode('utf-8', 'replace') + b'\0'
    return TiffTag(ASCII, len(data), data)


def swapped(groups: Iterable[Mapping[int, TiffTag]]) -> list[dict[int, TiffTag]]:
    """Converts tags from little-endian to big-endian byte order, or back.

    Args:
        groups: directories, each number -> tag.

    Returns:
        The same directories, with the bytes of each value reversed.
    """
    widths = {3: 2, 4: 4, 5: 4, 8: 2, 9: 4, 10: 4, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}

    def turned(tag: TiffTag) -> TiffTag:
        width = widths.get(tag.kind, 1)
        parts = (tag.data[i : i + width][::-1] for i in range(0, len(tag.data), width))
        return tag._replace(data=b''.join(parts))

    return [{name: turned(tag) for name, tag in tags.items()} for tags in groups]


def to_bytes(order: str, tags: Tags, place: int) -> bytes:
    """Encodes a directory with the values of its tags, and the directories that it refers to.

    Args:
        order: byte order of the values.
        tags: the directory.
        place: offset in the file at which the bytes will be written; an even number.

    Returns:
        The bytes to write at this offset.
    """
    table, values = io.BytesIO(), io.BytesIO()
    after = place + 2 + 12 * len(tags) + 4
    table.write(struct.pack(f'{order}H', len(tags)))
    for name, value in sorted(tags.items()):
        end = after + values.tell()
        if isinstance(value, TiffTag):
            kind, count, data = value
        else:
            kind, count = LONG, 1
            values.write(to_bytes(order, value, end))
            data = struct.pack(f'{order}I', end)
        table.write(struct.pack(f'{order}HHI', name, kind, count))
        if len(data) > 4:
            values.write(data)
            data = struct.pack(f'{order}I', end)
        table.write(data.ljust(4, b'\0'))
        values.write(b'\0' * (values.tell() % 2))
    return table.getvalue() + bytes(4) + values.getvalue()


def file_of(order: str, tags: Tags, data: bytes = b'') -> bytes:
    """Encodes a TIFF file with one directory.

    Args:
        order: byte order.
        tags: the directory.
        data: bytes between the header and the directory, from offset 8 on; their number is even.

    Returns:
        The bytes of the file.
    """
    place = 8 + len(data)
    header = (b'II' if order == '<' else b'MM') + struct.pack(f'{order}HI', 42, place)
    return header + data + to_bytes(order, tags, place)
