"""Reads the texts in PNG files: title, author, description and others.

Source: PNG specification, third edition, section 11.3.3.
"""

import binascii
import contextlib
import zlib
from typing import BinaryIO

from metastyle_jax.data.images.decoding import png_chunks

_LIMIT = 2**21  # bytes of a text, compressed or not
_XMP = 'XML:com.adobe.xmp'
_RAW = 'Raw profile type '  # how ImageMagick writes EXIF, IPTC and XMP, in hexadecimal digits
TITLES = ('Title', 'Author', 'Description', 'Copyright', 'Comment')


def read(stream: BinaryIO) -> dict[str, bytes]:
    """Reads the texts of a PNG; texts that cannot be read are left out.

    Args:
        stream: the file.

    Returns:
        Keyword -> text in UTF-8. XMP data are under 'xmp', and EXIF and IPTC data that ImageMagick
        wrote as texts are under 'exif' and 'iptc'.
    """
    found: dict[str, bytes] = {}
    for chunk in png_chunks.chunks(stream):
        if chunk.kind not in png_chunks.TEXTS:
            continue
        with contextlib.suppress(ValueError, IndexError, zlib.error):
            keyword, text = _parsed(chunk.kind, png_chunks.data_of(stream, chunk, _LIMIT))
            if keyword == _XMP:
                found.setdefault('xmp', text)
            elif keyword.startswith(_RAW):
                name = {'APP1': 'exif', 'icm': 'icc'}.get(keyword.removeprefix(_RAW))
                found.setdefault(name or keyword.removeprefix(_RAW), _raw(text))
            else:
                found.setdefault(keyword, text)
    return found


def _parsed(kind: bytes, data: bytes) -> tuple[str, bytes]:
    """Returns keyword and text of a chunk; a broken chunk raises ValueError or zlib.error."""
    keyword, rest = data.split(b'\0', 1)
    is_compressed = kind == b'zTXt'
    if kind == b'iTXt':
        is_compressed = rest[0] == 1
        _, _, rest = rest[2:].split(b'\0', 2)
    elif kind == b'zTXt':
        rest = rest[1:]
    if is_compressed:
        engine = zlib.decompressobj()
        rest = engine.decompress(rest, _LIMIT)
        if engine.unconsumed_tail:
            raise ValueError('too large')
    text = rest if kind == b'iTXt' else rest.decode('latin-1').encode()
    return keyword.decode('latin-1'), text


def _raw(text: bytes) -> bytes:
    """Decodes data that ImageMagick writes as a name, a number of bytes, and hexadecimal digits."""
    _, _, digits = text.strip().split(maxsplit=2)
    return binascii.unhexlify(b''.join(digits.split()))
