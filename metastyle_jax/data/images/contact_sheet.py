"""Draws contact sheets: images in a grid, each with a caption below it."""

import math
import unicodedata
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from metastyle_jax.data.images import image_files, resizing

_Font: TypeAlias = ImageFont.ImageFont | ImageFont.FreeTypeFont
_ASCII_MARKS = str.maketrans('–—‘’“”', '--\'\'""')


def contact_sheet(
    rows: Sequence[Sequence[np.ndarray]], *, captions: Sequence[Sequence[str]], cell: int
) -> np.ndarray:
    """Arranges images in a grid on a white background, each with a caption below it.

    Args:
        rows: images, `[H, W, 3]` float32 in 0..1 of any size; large ones are downscaled to fit
            their cell. A row is as high as its tallest image.
        captions: a caption for each image, shortened to the width of the cell; '' for no caption.
        cell: largest width and height of an image in the sheet, in pixels.

    Returns:
        `[H, W, 3]` float32 in 0..1. Short rows are padded with white.

    Raises:
        ImageError: there is no image, or `captions` has another layout than `rows`.
    """
    layout = [len(row) for row in rows]
    if not any(layout) or cell < 1:
        raise image_files.ImageError(
            'a contact sheet needs at least one picture and a cell of 1 pixel or more'
        )
    if layout != [len(row) for row in captions]:
        raise image_files.ImageError(
            'a contact sheet needs as many captions as pictures, row by row'
        )
    font = ImageFont.load_default(size=max(10, cell // 14))
    strip = math.ceil(font.getbbox('Ag')[3]) + 2 if any(any(row) for row in captions) else 0
    gap = max(4, cell // 32)
    smalls = [[resizing.fit(image, cell) for image in row] for row in rows]
    heights = [max((len(image) for image in row), default=0) for row in smalls]
    pitch = cell + gap
    shape = (sum(heights) + len(rows) * (strip + gap) + gap, max(layout) * pitch + gap, 3)
    sheet, y = np.ones(shape, np.float32), gap
    for row, words, tallest in zip(smalls, captions, heights, strict=True):
        for j, (small, caption) in enumerate(zip(row, words, strict=True)):
            x = gap + j * pitch
            height, width = small.shape[:2]
            top, left = y + (tallest - height) // 2, x + (cell - width) // 2
            sheet[top : top + height, left : left + width] = small
            if caption:
                below = _caption(caption, font, cell, strip)
                sheet[y + tallest : y + tallest + strip, x : x + cell] = below[..., np.newaxis]
        y += tallest + strip + gap
    return sheet


def _caption(text: str, font: _Font, width: int, height: int) -> np.ndarray:
    """Draws a caption in black, centred on white; shortens it with dots if it is too long.

    Returns:
        `[height, width]` float32 in 0..1.
    """
    strip = Image.new('L', (width, height), 255)
    draw = ImageDraw.Draw(strip)
    # Pillow measures single lines only, and its font has few letters beyond ASCII, so line breaks
    # become spaces and accents are removed.
    plain = unicodedata.normalize('NFKD', ' '.join(text.split())).translate(_ASCII_MARKS)
    plain = ''.join(letter for letter in plain if not unicodedata.combining(letter))
    shown = plain.encode('ascii', 'replace').decode()
    kept = shown[:width]
    while kept and draw.textlength(shown, font) > width:
        shown, kept = kept + '…', kept[:-1]
    draw.text(((width - draw.textlength(shown, font)) / 2, 0), shown, fill=0, font=font)
    return np.asarray(strip, np.float32) / 255.0
