"""Reads and writes IPTC data: captions, names and places that agencies and picture editors write.

Source: IPTC Information Interchange Model 4.2, chapters 3 and 6.
"""

import struct

from metastyle_jax.data.images.metadata import exif_tags

_MARK = 0x1C
_APPLICATION = 2  # the record of captions and names
_CAPTION, _AUTHOR, _COPYRIGHT, _TITLE = 120, 80, 116, 5
# Places; and previews, which show the old picture.
_PLACES, _PREVIEWS = frozenset((26, 27, 90, 92, 95, 100, 101)), frozenset((200, 201, 202))
_RESOURCE = 0x0404  # number of IPTC among the resources of Photoshop

Record = tuple[int, int, bytes]


def parse(data: bytes, *, keep_location: bool) -> tuple[list[Record], bool]:
    """Reads the records that are copied to a stylized picture; previews are left out.

    Args:
        data: IPTC data.
        keep_location: whether to keep records that name places.

    Returns:
        The records as (number of the record, number of the data set, value), and whether some data
        are damaged.
    """
    records: list[Record] = []
    at = 0
    while at + 5 <= len(data) and data[at] == _MARK:
        record, name, length = struct.unpack_from('>BBH', data, at + 1)
        value = data[at + 5 : at + 5 + length]
        if length & 0x8000 or len(value) < length:  # longer than any caption, or cut off
            return records, True
        at += 5 + length
        is_place = record == _APPLICATION and name in _PLACES
        if (record == _APPLICATION and name in _PREVIEWS) or (is_place and not keep_location):
            continue
        records.append((record, name, value))
    return records, bool(data[at:].strip(b'\0'))


def to_bytes(records: list[Record]) -> bytes:
    """Encodes records as IPTC data."""
    return b''.join(
        struct.pack('>BBBH', _MARK, record, name, len(value)) + value
        for record, name, value in records
    )


def texts(records: list[Record]) -> dict[str, str]:
    """Returns the texts that exist among 'Description', 'Author', 'Copyright' and 'Title'."""
    names = {'Description': _CAPTION, 'Author': _AUTHOR, 'Copyright': _COPYRIGHT, 'Title': _TITLE}
    found = {}
    for title, name in names.items():
        values = [value for record, each, value in records if (record, each) == (2, name)]
        if values and (text := exif_tags.text_of(values[0])):
            found[title] = text
    return found


def from_photoshop(data: bytes) -> bytes:
    """Finds IPTC data among Photoshop's image resources; returns b'' if there are none."""
    at = 0
    while data[at : at + 4] == b'8BIM' and at + 8 <= len(data):
        (kind,) = struct.unpack_from('>H', data, at + 4)
        at += 6 + (data[at + 6] + 2) // 2 * 2  # behind the name, of an even number of bytes
        if at + 4 > len(data):
            break
        (length,) = struct.unpack_from('>I', data, at)
        if kind == _RESOURCE:
            return data[at + 4 : at + 4 + length]
        at += 4 + (length + 1) // 2 * 2
    return b''


def to_jpeg_segment(records: list[Record]) -> bytes:
    """Encodes records as the segment APP13 of a JPEG; returns b'' if they are too long for it."""
    data = to_bytes(records)
    resource = (
        b'8BIM' + struct.pack('>HHI', _RESOURCE, 0, len(data)) + data + b'\0' * (len(data) % 2)
    )
    body = b'Photoshop 3.0\0' + resource
    return b'\xff\xed' + struct.pack('>H', len(body) + 2) + body if len(body) < 65_500 else b''
