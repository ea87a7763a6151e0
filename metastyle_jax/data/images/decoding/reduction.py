"""Decodes large pictures at a reduced size, to save time and memory.

A picture is reduced in two steps. While it is decoded, its width and height are divided by a whole
number, so that they are still at least `GAP` times the wanted size. A good filter then reduces it
to the wanted size. The result is nearly the same as with the filter alone. Colours are converted to
sRGB after the first step, which is cheaper. If the encoding of the picture differs so much from
sRGB that averages of its values would be wrong, colours are converted before the first step.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple, TypeAlias

import numpy as np
from PIL import Image, PngImagePlugin

from metastyle_jax.data.images.decoding import (
    jpeg2000_levels,
    pillow_modes,
    png_strips,
    tiff_strips,
)

# A function from the upright (height, width) of a picture to the wanted (height, width).
TargetSize: TypeAlias = Callable[[int, int], tuple[int, int]]
GAP = 2.0
_BEND = 24  # how far from a straight line, in levels, the middle of a nearly linear curve may be
_DEEP = ('I;16', 'I;16L', 'I;16B', 'I;16N')  # modes of 16 bits


_Box: TypeAlias = tuple[float, float, float, float]


class _Reduced(NamedTuple):
    """A picture after the first reduction, before its EXIF orientation is applied.

    Attributes:
        image: the reduced pixels.
        box: left, top, right and bottom of the whole picture in pixels of `image`. They may be
            fractions, because the last row and column may cover fewer of the original pixels.
        is_converted: whether the colours have been converted to sRGB.
    """

    image: Image.Image
    box: _Box
    is_converted: bool


def decode(
    image: Image.Image,
    turn: int,
    size: tuple[int, int],
    target: TargetSize | None,
    *,
    exact: bool = True,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Decodes colour and alpha, at a reduced size if possible.

    Args:
        image: the picture, opened by Pillow and not yet loaded.
        turn: EXIF orientation of the picture, 1 to 8.
        size: height and width of the upright picture.
        target: the wanted size; None for the full size.
        exact: if True, a picture that can be reduced gets exactly the wanted size. If False, it
            gets at least the wanted size, which is faster for JPEG.

    Returns:
        Colour and alpha of the upright picture, see `pillow_modes.channels`.

    Raises:
        Exception: almost any class, see `image_files.as_image_errors`.
    """
    if target is None:
        image.load()
        return pillow_modes.channels(pillow_modes.upright(image, turn))
    least = _least_size(size, turn, target, GAP)
    info: dict = image.info
    box: _Box | None = None
    if image.format in ('JPEG', 'MPO'):
        drafted = image.draft(None, _least_size(size, turn, target, GAP if exact else 1.0))
        box = drafted[1] if drafted else None
    elif image.format == 'JPEG2000':
        box = jpeg2000_levels.skip_levels(image, _factor(image.size, least))
    reduced = _reduced_in_parts(image, turn, size, least)
    if reduced is None:
        image.load()
        if image.format == 'TIFF':  # Pillow turned it while it loaded it
            least, turn = least if turn < 5 else least[::-1], 1
        reduced = _reduced_whole(image, least, box)
    if reduced is None:
        return pillow_modes.channels(pillow_modes.upright(image, turn))
    wanted = _least_size(size, turn, target, 1.0) if exact else None
    return _channels(reduced, wanted, turn, info)


def decode_loaded(
    image: Image.Image, turn: int, target: TargetSize | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Does the same as `decode` for a picture that Pillow has already loaded.

    Args:
        image: the picture; it is not changed. Pillow has already turned a TIFF upright.
        turn: EXIF orientation of the picture, 1 to 8.
        target: the wanted size; None for the full size.
    """
    if target is None:
        return pillow_modes.channels(pillow_modes.upright(image, turn))
    turn = 1 if image.format == 'TIFF' else turn
    size = upright_size_of_loaded(image, turn)
    reduced = _reduced_whole(image, _least_size(size, turn, target, GAP))
    if reduced is None:
        return pillow_modes.channels(pillow_modes.upright(image, turn))
    return _channels(reduced, _least_size(size, turn, target, 1.0), turn, image.info)


def upright_size_of_loaded(image: Image.Image, turn: int) -> tuple[int, int]:
    """Returns the height and width of a loaded picture after EXIF orientation `turn` is applied."""
    is_turned = turn >= 5 and image.format != 'TIFF'
    return (image.width, image.height) if is_turned else (image.height, image.width)


def _least_size(
    size: tuple[int, int], turn: int, target: TargetSize, gap: float
) -> tuple[int, int]:
    """Returns `gap` times the wanted width and height, for the picture before it is turned."""
    height, width = (max(1, int(side * gap)) for side in target(*size))
    return (width, height) if turn < 5 else (height, width)


def _channels(
    reduced: _Reduced, wanted: tuple[int, int] | None, turn: int, info: dict
) -> tuple[np.ndarray, np.ndarray | None]:
    """Resizes a reduced picture to the width and height `wanted`, turns it, and decodes it."""
    small = reduced.image
    if wanted is not None:
        small = _padded(small, reduced.box)
        small = small.resize(wanted, Image.Resampling.LANCZOS, reduced.box)
    small.info = {**info, **small.info}
    turned = pillow_modes.upright(small, turn)
    if not reduced.is_converted:
        return pillow_modes.channels(turned)
    if turned.mode == 'RGBA':
        colour, alpha = np.array(turned.convert('RGB')), np.array(turned.getchannel('A'))
        return colour, None if alpha.min() == 255 else alpha
    return np.array(turned), None


def _is_indivisible(image: Image.Image) -> bool:
    """Whether parts of a picture cannot be decoded separately.

    In these modes, the scale of grey values or the transparent value depends on all pixels.
    """
    return image.mode in ('I', 'F') or (image.mode in _DEEP and 'transparency' in image.info)


def _factor(size: tuple[int, int], least: tuple[int, int]) -> int:
    """Returns the largest whole number that divides `size` and leaves at least `least`."""
    return max(1, min(size[0] // least[0], size[1] // least[1]))


def _reduced_in_parts(
    image: Image.Image, turn: int, upright: tuple[int, int], least: tuple[int, int]
) -> _Reduced | None:
    """Decodes and reduces a file part by part; returns None if this is impossible or useless."""
    # Pillow's size of a TIFF is upright or not, by its version. That of others may be a draft's.
    stored = (upright[::-1] if turn < 5 else upright) if image.format == 'TIFF' else image.size
    stream: BinaryIO | None = getattr(image, 'fp', None)
    if stream is None or _factor(stored, least) == 1 or _is_indivisible(image):
        return None
    position = stream.tell()
    # Whatever is wrong with the file, decoding it as a whole finds it, or can do without.
    with contextlib.suppress(Exception):
        size, parts = _parts(image, stored, least)
        if parts is not None:
            convert = _is_converted_first(image)
            prepared = (_prepared(part, image, convert=convert) for part in parts)
            factor = _factor(size, least)
            return _Reduced(
                _joined(prepared, size, factor), (0, 0, size[0] / factor, size[1] / factor), convert
            )
    stream.seek(position)
    return None


def _reduced_whole(
    image: Image.Image, least: tuple[int, int], box: _Box | None = None
) -> _Reduced | None:
    """Reduces a loaded picture; returns None if this is impossible or useless.

    Args:
        image: the picture, loaded.
        least: smallest allowed width and height of the result.
        box: if the decoder has reduced the picture already: the `box` of `_Reduced` for `image`.
    """
    factor = _factor(image.size, least)
    if (factor == 1 and box is None) or _is_indivisible(image):
        return None
    convert = _is_converted_first(image)
    small = _prepared(image, image, convert=convert)
    left, top, right, bottom = (side / factor for side in box or (0, 0, *image.size))
    return _Reduced(Image.Image.reduce(small, factor), (left, top, right, bottom), convert)


def _padded(image: Image.Image, box: _Box) -> Image.Image:
    """Repeats the last column and row of a picture if the box reaches beyond them."""
    width, height = image.size
    if box[2] <= width and box[3] <= height:
        return image
    wide = image.crop((0, 0, width + 1, height + 1))
    wide.paste(wide.crop((width - 1, 0, width, height + 1)), (width, 0))
    wide.paste(wide.crop((0, height - 1, width + 1, height)), (0, height))
    wide.info = image.info
    return wide


def _parts(
    image: Image.Image, size: tuple[int, int], least: tuple[int, int]
) -> tuple[tuple[int, int], Iterator[Image.Image] | None]:
    """Chooses the full picture or a reduced copy that its file holds.

    Returns:
        Width and height of the chosen one, and an iterator over its parts; None instead of the
        iterator if it cannot be decoded in parts.
    """
    stream: BinaryIO | None = getattr(image, 'fp', None)
    if stream is not None and isinstance(image, PngImagePlugin.PngImageFile):
        return size, png_strips.strips(stream, image)
    if stream is not None and image.format == 'TIFF':
        page = tiff_strips.smallest_page(stream, *least)
        if page is not None:
            return (page.width, page.height), tiff_strips.strips(stream, page)
    return size, None


def _joined(parts: Iterator[Image.Image], size: tuple[int, int], factor: int) -> Image.Image:
    """Reduces the parts of a picture by `factor`, from top to bottom, and joins them."""
    width, height = size
    result: Image.Image | None = None
    rest: Image.Image | None = None
    done = 0
    for part in parts:
        if rest is not None:
            both = Image.new(part.mode, (width, rest.height + part.height))
            both.paste(rest, (0, 0))
            both.paste(part, (0, rest.height))
            part = both
        if part.width != width:
            raise ValueError('parts differ in width')
        is_last = done + part.height >= height
        ready = part.height if is_last else part.height // factor * factor
        rest = None if ready == part.height else part.crop((0, ready, width, part.height))
        if ready:
            small = part.reduce(factor, (0, 0, width, ready))
            if result is None:
                result = Image.new(part.mode, (-(-width // factor), -(-height // factor)))
            result.paste(small, (0, done // factor))
            done += ready
    if result is None or done != height:
        raise OSError('image file is truncated')
    return result


def _prepared(part: Image.Image, whole: Image.Image, *, convert: bool) -> Image.Image:
    """Converts a part to a mode of Pillow whose pixels may be averaged.

    Args:
        part: some rows of the picture, or all.
        whole: the picture, for its information about colours and transparency.
        convert: whether to convert the colours to sRGB.
    """
    if part is not whole:
        part.info = {**whole.info, **part.info}
    if not convert:
        if part.has_transparency_data and part.mode != 'LA':
            return part.convert('RGBA')
        return part.convert({'1': 'L', 'P': 'RGB'}.get(part.mode, part.mode))
    colour, alpha = pillow_modes.channels(part)
    picture = Image.fromarray(colour)
    if whole.has_transparency_data and colour.ndim == 3:
        clear = Image.new('L', picture.size, 255) if alpha is None else Image.fromarray(alpha)
        picture.putalpha(clear)
    return picture


def _is_converted_first(image: Image.Image) -> bool:
    """Whether averages of the stored values would differ visibly from averages in sRGB."""
    if image.mode in _DEEP:
        return True
    mode = {'LA': 'L', '1': 'L'}.get(image.mode, image.mode)
    mode = 'RGB' if mode in ('P', 'RGBA', 'PA') else mode
    if mode not in ('L', 'RGB'):
        return False
    ramp = Image.new(mode, (3, 1))
    for x, level in enumerate((0, 128, 255)):
        ramp.putpixel((x, 0), (level,) * 3 if mode == 'RGB' else level)
    ramp.info = {key: value for key, value in image.info.items() if key != 'transparency'}
    black, middle, white = pillow_modes.channels(ramp)[0][0].astype(np.float32)
    return bool(np.abs(middle - (black + white) / 2).max() > _BEND)
