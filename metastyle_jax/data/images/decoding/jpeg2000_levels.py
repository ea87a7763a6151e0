"""Lets Pillow decode JPEG 2000 files at 1/2, 1/4, … of their size.

A JPEG 2000 file holds a picture as resolution levels. A reduced picture needs only the coarse ones.

Source: ITU-T T.800, annexes A and F.
"""

from typing import Any, BinaryIO

from PIL import Image

_START, _CODING_STYLE = b'\xff\x4f\xff\x51', b'\xff\x52'  # markers SOC with SIZ, and COD


def skip_levels(image: Image.Image, factor: int) -> tuple[float, float, float, float] | None:
    """Sets an opened JPEG 2000 image so that Pillow decodes it without its finest levels.

    Args:
        image: the image, opened and not yet loaded; it is changed.
        factor: largest allowed reduction of width and height.

    Returns:
        Left, top, right and bottom of the whole picture in pixels of the reduced image, which are
        usually fractions; None if no level can be left out.
    """
    levels = min(factor.bit_length() - 1, _levels(getattr(image, 'fp', None)))
    if levels < 1:
        return None
    reducible: Any = image  # the attribute hides a method of the class Image
    reducible.reduce = levels
    # A pixel of a level lies on the first of the pixels of which it is a mean, not between them.
    scale = 2**levels
    start = 0.5 - 0.5 / scale
    return start, start, start + image.width / scale, start + image.height / scale


def _levels(stream: BinaryIO | None) -> int:
    """Returns how often the decoder can halve the picture of a file; 0 if this is not found."""
    if stream is None:
        return 0
    position = stream.tell()
    stream.seek(0)
    head = stream.read(2**16)
    stream.seek(position)
    start = head.find(_START)
    place = head.find(_CODING_STYLE, start)
    if start < 0 or place < 0 or place + 9 >= len(head):
        return 0
    return min(head[place + 9], 32)
