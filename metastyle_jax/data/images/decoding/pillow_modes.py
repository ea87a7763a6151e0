"""Handles what Pillow does not: warnings, orientation, transparency, bit depth and colour spaces.

The functions work on pictures that `image_files` has opened.
"""

import contextlib
import struct
import threading
import warnings
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageCms

from metastyle_jax.data.images import colour_spaces
from metastyle_jax.data.images.decoding import icc_profiles, png_chunks, tiff_directories

PNG_COLOURS = 'metastyle_png_colours'  # key of `Image.info`, see `colour_spaces.png_colours`
_ORIENTATION = 0x0112  # the EXIF tag
# Tags of TIFF.
_NEW_SUBFILE_TYPE, _BITS_PER_SAMPLE, _PHOTOMETRIC = 254, 258, 262
_SUB_IFDS, _SAMPLE_FORMAT, _DNG_VERSION = 330, 339, 50706
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Errors that Pillow raises for broken metadata. They are ignored, because the pixels are intact.
METADATA_ERRORS = (
    *(AttributeError, LookupError, OSError, RuntimeError, SyntaxError, TypeError, ValueError),
    *(ImageCms.PyCMSError, struct.error),
)


_quiet_lock = threading.Lock()
_quiet_stack = contextlib.ExitStack()
_quiet_users = 0


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silences Pillow's warnings about malformed files while any thread is in such a block."""
    # The list of filters belongs to the process, and catch_warnings in overlapping threads can
    # restore it in the wrong order. So the first thread in sets the filter, the last one out
    # removes it, and it covers no module but Pillow's.
    global _quiet_users
    with _quiet_lock:
        if _quiet_users == 0:
            _quiet_stack.enter_context(warnings.catch_warnings())
            warnings.filterwarnings('ignore', module=r'PIL\.')
        _quiet_users += 1
    try:
        yield
    finally:
        with _quiet_lock:
            _quiet_users -= 1
            if _quiet_users == 0:
                _quiet_stack.close()


def orientation(image: Image.Image, stream: BinaryIO) -> int:
    """Reads the EXIF orientation without decoding pixels.

    Args:
        image: the image, opened by Pillow.
        stream: the file from which the image was opened; its position is kept.

    Returns:
        The orientation, 1 to 8; 1 (upright) if there is none or it cannot be read.
    """
    try:
        if image.format == 'PNG' and 'exif' not in image.info:
            late = _late_exif(stream)
            if late is not None:
                image.info['exif'] = late
        # The base class's method, since that of PNG files decodes the pixels.
        value = Image.Image.getexif(image).get(_ORIENTATION)
        return value if value in _TRANSPOSE else 1
    except METADATA_ERRORS:
        return 1


def upright_size(image: Image.Image, turn: int) -> tuple[int, int]:
    """Returns the height and width after EXIF orientation `turn` is applied, from the header."""
    width, height = image.size
    if image.format == 'TIFF':
        # Pillow's TIFF size is upright in some versions and stored in others; the tags are stored.
        tags = getattr(image, 'tag_v2', {})
        width, height = tags.get(256, width), tags.get(257, height)
    return (width, height) if turn >= 5 else (height, width)


def upright(image: Image.Image, turn: int) -> Image.Image:
    """Rotates and mirrors a loaded picture as EXIF orientation `turn` says."""
    # Pillow turns TIFF files upright while it loads them, and no others.
    if image.format == 'TIFF' or turn == 1:
        return image
    return image.transpose(_TRANSPOSE[turn])


def channels(image: Image.Image) -> tuple[np.ndarray, np.ndarray | None]:
    """Converts a loaded picture to arrays of colour and alpha.

    Args:
        image: picture of any mode; its embedded colour profile is applied.

    Returns:
        Colour in sRGB, `[H, W, 3]` uint8, or `[H, W]` float32 in 0..1 for grey of more than 8 bits;
        and alpha, `[H, W]` uint8, or None if every pixel is opaque.

    Raises:
        ValueError: floating-point grey holds NaN or infinite values.
    """
    if image.mode in ('I', 'F') or image.mode.startswith('I;16'):
        return _deep_grey(image)
    info, alpha = image.info, None
    profile = info.get('icc_profile')
    if image.has_transparency_data:
        if image.mode != 'LA':
            image = image.convert('RGBA')
        alpha = np.array(image.getchannel('A'))
        image = image.convert(image.mode[:-1])
        alpha = None if alpha.min() == 255 else alpha
    image.info = {**info, **image.info}  # `convert` may drop some
    return _srgb(image, profile), alpha


def _late_exif(stream: BinaryIO) -> bytes | None:
    """Finds EXIF data that follow the pixels in a PNG; returns None if there are none."""
    position = stream.tell()
    try:
        for chunk in png_chunks.chunks(stream):
            if chunk.kind == b'eXIf':
                return png_chunks.data_of(stream, chunk, chunk.length)
        return None
    finally:
        stream.seek(position)


def is_raw(image: Image.Image) -> bool:
    """Whether a TIFF is the RAW file of a camera; Pillow would show only its small preview."""
    tags = getattr(image, 'tag_v2', {})
    is_dng = _DNG_VERSION in tags
    return is_dng or (bool(tags.get(_NEW_SUBFILE_TYPE, 0) & 1) and _SUB_IFDS in tags)


def is_raw_file(stream: BinaryIO) -> bool:
    """Whether a TIFF that Pillow cannot open is the RAW file of a camera."""
    try:
        header = tiff_directories.read_header(stream)
        tags, _, _ = tiff_directories.read_directory(stream, header, header.first, limit=2**20)
    except (ValueError, struct.error, OSError):
        return False
    is_reduced = tiff_directories.number(tags, _NEW_SUBFILE_TYPE, header.order, 0) & 1
    return _DNG_VERSION in tags or (bool(is_reduced) and _SUB_IFDS in tags)


def png_colours_of(image: Image.Image) -> colour_spaces.PngColours:
    """Returns what a PNG says about its colours; empty for pictures of other formats."""
    return image.info.get(PNG_COLOURS, colour_spaces.PngColours())


def _deep_grey(image: Image.Image) -> tuple[np.ndarray, np.ndarray | None]:
    """Decodes grey of more than 8 bits: `[H, W]` float32 in 0..1, and alpha as in `channels`."""
    raw = np.array(image)
    if image.mode == 'F':
        grey = raw.astype(np.float32)
        if not np.isfinite(grey).all():
            raise ValueError('it holds NaN or infinite values')
        return np.clip(grey / max(1.0, float(grey.max())), 0.0, 1.0), None
    grey = _unit_grey(image, raw)
    colours = png_colours_of(image)
    if colours.cicp is None and (profile := image.info.get('icc_profile')):
        grey = icc_profiles.grey_from_profile(grey, profile)
    else:
        neutral = np.repeat(grey[..., None], 3, axis=-1)
        grey = colour_spaces.from_png(neutral, colours)[..., 0]
    clear = image.info.get('transparency')  # the grey level that stands for "see-through"
    if not isinstance(clear, int) or not (raw == clear).any():
        return grey, None
    return grey, np.where(raw == clear, 0, 255).astype(np.uint8)


def _unit_grey(image: Image.Image, raw: np.ndarray) -> np.ndarray:
    """Scales integer grey of more than 8 bits to float32 in 0..1, with black at 0."""
    white = 65535
    tags = getattr(image, 'tag_v2', {})
    if image.format == 'TIFF':
        (bits, *_), (kind, *_) = tags.get(_BITS_PER_SAMPLE, (16,)), tags.get(_SAMPLE_FORMAT, (1,))
        # Pillow gives 32 bits as signed ones, whatever they are.
        raw = raw.view(np.uint32) if (bits, kind) == (32, 1) else raw
        # Programs store 16 bits in integers of 32 bits, so that the values decide.
        if bits <= 16 or raw.max() > white:
            white = 2 ** (bits - (kind == 2)) - 1
    grey = np.clip(raw.astype(np.float64) / white, 0.0, 1.0).astype(np.float32)
    # Pillow inverts pictures of 8 bits in which 0 is white, and no others.
    is_inverted = image.format == 'TIFF' and tags.get(_PHOTOMETRIC) == 0
    return 1 - grey if is_inverted else grey


def _srgb(image: Image.Image, profile: bytes | None) -> np.ndarray:
    """Converts an 8-bit image to `[H, W, 3]` uint8 in sRGB, as its profile or PNG chunks say."""
    if image.mode == 'LAB':
        lab = ImageCms.ImageCmsProfile(ImageCms.createProfile('LAB'))
        return np.array(icc_profiles.convert_by_profile(image, lab))
    if image.mode in ('1', 'P'):
        image = image.convert('RGB')
    colours = png_colours_of(image)
    if profile and colours.cicp is None:
        converted = icc_profiles.from_profile(image, profile)
        if converted is not None:
            return np.array(converted)
        colours = colours._replace(gamma=None)
    return colour_spaces.from_png(np.array(image.convert('RGB')), colours)
