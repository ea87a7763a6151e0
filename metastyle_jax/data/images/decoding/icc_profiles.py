"""Converts pictures with an embedded ICC profile to sRGB.

Pillow converts 8-bit pictures with littleCMS. This module converts grey of more bits itself, by the
tone curve of the profile. The name of a profile is not used, because it may be wrong.

Source: ICC.1:2022, sections 10.6 and 10.18, for curves.
"""

import contextlib
import functools
import io
import struct
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageCms

from metastyle_jax.data.images import colour_spaces

# Errors that Pillow raises for a broken profile. Such a profile is ignored.
_PROFILE_ERRORS = (AttributeError, LookupError, OSError, TypeError, ValueError, ImageCms.PyCMSError)
_LEVELS = 2  # how far apart colours of two spaces may be for the spaces to count as one


def from_profile(image: Image.Image, profile: bytes) -> Image.Image | None:
    """Converts an 8-bit image to sRGB by its embedded ICC profile.

    Args:
        image: image of mode RGB, L or CMYK.
        profile: the contents of an ICC profile.

    Returns:
        An image of mode RGB in sRGB; None if the profile is broken, belongs to another colour
        model, or is the one of sRGB.
    """
    with contextlib.suppress(*_PROFILE_ERRORS):
        if image.mode == 'RGB' and _is_srgb(profile):
            return None
        embedded = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        model = {'RGB': 'RGB ', 'L': 'GRAY', 'CMYK': 'CMYK'}.get(image.mode)
        if embedded.profile.xcolor_space == model:
            return convert_by_profile(image, embedded)
    return None


def convert_by_profile(image: Image.Image, profile: ImageCms.ImageCmsProfile) -> Image.Image:
    """Converts an image from the colour space of a profile to sRGB; white stays white.

    Args:
        image: image in the colour model of the profile.
        profile: the profile, opened by Pillow.

    Raises:
        PIL.ImageCms.PyCMSError: the profile cannot be applied.
    """
    converted = ImageCms.profileToProfile(
        image,
        profile,
        ImageCms.createProfile('sRGB'),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        outputMode='RGB',
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    assert converted is not None  # it is None only for conversions in place
    return converted


def grey_from_profile(grey: np.ndarray, profile: bytes) -> np.ndarray:
    """Converts grey of more than 8 bits to sRGB by its embedded ICC profile.

    Pillow's interface of littleCMS supports only 8 bits, so this function applies the tone curve of
    the profile itself.

    Args:
        grey: `[H, W]` float32 in 0..1.
        profile: the contents of an ICC profile.

    Returns:
        sRGB-encoded grey of the same shape; `grey` itself if the profile has no grey curve.
    """
    curve = _grey_curve(profile)
    if curve is None:
        return grey
    table = colour_spaces.encode_srgb(curve(np.linspace(0.0, 1.0, 65536)))
    return table[np.round(grey * 65535).astype(np.int64)].astype(np.float32)


@functools.lru_cache(maxsize=16)
def _is_srgb(profile: bytes) -> bool:
    """Whether a profile is sRGB: it changes all test colours by less than `_LEVELS` levels."""
    steps = np.linspace(0, 255, 17).round().astype(np.uint8)
    grid = np.stack(np.meshgrid(steps, steps, steps, indexing='ij'), -1).reshape(1, -1, 3)
    image = Image.fromarray(grid)
    converted = convert_by_profile(image, ImageCms.ImageCmsProfile(io.BytesIO(profile)))
    return int(np.abs(np.asarray(converted).astype(int) - grid).max()) < _LEVELS


def _grey_curve(profile: bytes) -> Callable[[np.ndarray], np.ndarray] | None:
    """Returns the tone curve `kTRC` of a grey profile, which maps 0..1 to linear light in 0..1.

    None if the profile is not grey, is broken, or has no such curve.
    """
    try:
        if profile[16:20] != b'GRAY':
            return None
        (count,) = struct.unpack_from('>I', profile, 128)
        for i in range(min(count, 100)):
            name, offset, _ = struct.unpack_from('>4sII', profile, 132 + 12 * i)
            if name == b'kTRC':
                return _curve(profile[offset:])
    except (struct.error, ValueError):
        pass
    return None


def _curve(data: bytes) -> Callable[[np.ndarray], np.ndarray] | None:
    """Makes a function from the data of an ICC curve; None unless its type is `curv` or `para`."""
    if data[:4] == b'curv':
        (count,) = struct.unpack_from('>I', data, 8)
        if count == 0:
            return lambda x: x
        values = np.frombuffer(data, '>u2', count, 12)
        if count == 1:
            exponent = float(values[0]) / 256
            return lambda x: x**exponent
        places = np.linspace(0.0, 1.0, count)
        return lambda x: np.interp(x, places, values / 65535)
    if data[:4] == b'para':
        (kind,) = struct.unpack_from('>H', data, 8)
        numbers = np.frombuffer(data, '>i4', {0: 1, 1: 3, 2: 4, 3: 5, 4: 7}[kind], 12) / 65536
        g, a, b, c, d, e, f = {
            0: lambda g: (g, 1, 0, 0, 0, 0, 0),
            1: lambda g, a, b: (g, a, b, 0, -b / a, 0, 0),
            2: lambda g, a, b, c: (g, a, b, 0, -b / a, c, c),
            3: lambda g, a, b, c, d: (g, a, b, c, d, 0, 0),
            4: lambda *all_seven: all_seven,
        }[kind](*map(float, numbers))  # type: ignore[operator]
        return lambda x: np.where(x >= d, np.maximum(a * x + b, 0) ** g + e, c * x + f)
    return None
