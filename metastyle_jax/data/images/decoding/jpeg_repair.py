"""Repairs JPEG files from which only the end marker is missing.

Source: ITU-T T.81, annexes B and G.
"""

import io
import struct
from typing import BinaryIO

from PIL import Image

_END = b'\xff\xd9'
# Appended to a cut file. If pixels are missing, the decoder makes them from these bytes.
_OTHER = bytes(range(1, 250)) * 16


def with_end_marker(stream: BinaryIO) -> io.BytesIO | None:
    """Appends the end marker to a JPEG whose pixels are all there.

    A progressive file has all pixels if its scans hold every coefficient in full precision. A
    baseline file has all pixels if bytes that are appended to it change no pixel.

    Args:
        stream: the file.

    Returns:
        A copy with the end marker; None if the file is not a JPEG, has an end marker already, or
        more than the marker is missing.
    """
    stream.seek(0)
    data = stream.read()
    if not data.startswith(b'\xff\xd8') or data.rstrip(b'\0').endswith(_END):
        return None
    is_complete = _has_all_scans(data) or _has_all_pixels(data)
    return io.BytesIO(data + _END) if is_complete else None


def _has_all_pixels(data: bytes) -> bool:
    """Whether a baseline JPEG without its end marker holds all of its pixels."""
    pixels = []
    for padding in (b'', _OTHER):
        try:
            with Image.open(io.BytesIO(data + padding + _END), formats=('JPEG',)) as image:
                if 'progressive' in image.info:
                    return False
                pixels.append(image.tobytes())
        except (OSError, SyntaxError, ValueError):
            return False
    return pixels[0] == pixels[1]


def _has_all_scans(data: bytes) -> bool:
    """Whether the scans of a progressive JPEG hold the last bit of every coefficient."""
    at, precision = 2, {}  # lowest bit that is still missing, by component and coefficient
    while at + 4 <= len(data):
        if data[at] != 0xFF or data[at + 1] in (0x00, 0xFF) or 0xD0 <= data[at + 1] <= 0xD7:
            at += 1  # entropy-coded data, or padding
            continue
        marker, (length,) = data[at + 1], struct.unpack_from('>H', data, at + 2)
        body = data[at + 4 : at + 2 + length]
        if marker == 0xC2 and len(body) >= 6:
            components = [body[6 + 3 * i] for i in range(body[5]) if 6 + 3 * i < len(body)]
            precision = {(name, k): 99 for name in components for k in range(64)}
        elif marker == 0xDA and precision and body and len(body) >= 4 + 2 * body[0]:
            names = [body[1 + 2 * i] for i in range(body[0])]
            first, last, approximation = body[1 + 2 * body[0] :][:3]
            for name in names:
                for k in range(first, min(last, 63) + 1):
                    precision[name, k] = approximation & 15
        at += 2 + length
    return bool(precision) and not any(precision.values())
