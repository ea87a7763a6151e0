"""Picture files that tests make, part by part."""

import struct
import zlib


def chunk(kind, body):
    """A chunk of a PNG."""
    return struct.pack('>I', len(body)) + kind + body + struct.pack('>I', zlib.crc32(kind + body))
