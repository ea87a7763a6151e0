"""Lists and reads the chunks of a PNG file.

Source: PNG specification, third edition, section 5.
"""

import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

SIGNATURE = b'\x89PNG\r\n\x1a\n'
TEXTS = (b'tEXt', b'zTXt', b'iTXt')  # kinds of chunks that hold texts
_OVERHEAD = 12  # bytes of a chunk besides its data: length, name, checksum


class PngChunk(NamedTuple):
    """Where a chunk is in a file.

    Attributes:
        kind: name of the chunk, four letters.
        start: offset in the file at which the data of the chunk begin.
        length: number of bytes of the data.
    """

    kind: bytes
    start: int
    length: int


def chunks(stream: BinaryIO) -> Iterator[PngChunk]:
    """Yields the chunks of a PNG in the order of the file; checksums are not verified.

    The caller may move the stream between two chunks.

    Args:
        stream: the file.

    Yields:
        Each chunk up to IEND, or up to the end of an incomplete file; nothing if the file is not a
        PNG.
    """
    stream.seek(0)
    if stream.read(8) != SIGNATURE:
        return
    place = 8
    kind = b''
    while kind != b'IEND':
        stream.seek(place)
        head = stream.read(8)
        if len(head) < 8:
            return
        length, kind = struct.unpack('>I4s', head)
        yield PngChunk(kind, place + 8, length)
        place += length + _OVERHEAD


def data_of(stream: BinaryIO, chunk: PngChunk, limit: int) -> bytes:
    """Reads the data of a chunk; returns b'' if the chunk has more than `limit` bytes."""
    if chunk.length > limit:
        return b''
    stream.seek(chunk.start)
    return stream.read(chunk.length)


def whole(stream: BinaryIO, chunk: PngChunk) -> bytes:
    """Reads a chunk together with its length, name and checksum."""
    stream.seek(chunk.start - 8)
    return stream.read(chunk.length + _OVERHEAD)
