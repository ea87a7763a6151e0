"""Converts pixel values between uint8 and float32, and blends transparent pixels with white."""

from typing import NamedTuple

import numpy as np


class Picture(NamedTuple):
    """A decoded picture.

    Attributes:
        rgb: `[H, W, 3]` float32 in 0..1, sRGB; transparent pixels are blended with white.
        alpha: `[H, W]` float32 in 0..1, or None when every pixel is opaque.
    """

    rgb: np.ndarray
    alpha: np.ndarray | None


def to_picture(colour: np.ndarray, alpha: np.ndarray | None) -> Picture:
    """Converts decoded channels to a picture on a white background.

    Args:
        colour: `[H, W, 3]` uint8, or grey `[H, W]` float32 in 0..1.
        alpha: `[H, W]` uint8, or None when every pixel is opaque.
    """
    scale = np.float32(255 if colour.dtype == np.uint8 else 1)
    rgb = np.divide(colour, scale, dtype=np.float32)
    if rgb.ndim == 2:
        rgb = np.repeat(rgb[..., np.newaxis], 3, axis=-1)
    if alpha is None:
        return Picture(rgb, None)
    opacity = alpha.astype(np.float32) / 255.0
    return Picture(blend_with_white(rgb, opacity), opacity)


def blend_with_white(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Computes `alpha * rgb + (1 - alpha) * white`, in place.

    Args:
        rgb: `[H, W, 3]` float32 in 0..1; it is overwritten.
        alpha: `[H, W]` float32 in 0..1.

    Returns:
        `rgb`.
    """
    # In place, because a large picture in float32 takes gigabytes: 1 + alpha * (rgb - 1).
    rgb -= 1
    rgb *= alpha[..., np.newaxis]
    rgb += 1
    return rgb


def to_bytes(image: np.ndarray) -> np.ndarray:
    """Clips floats of any shape to 0..1, and rounds them to the nearest of 256 levels, uint8."""
    return np.rint(np.clip(image, 0.0, 1.0) * 255.0).astype(np.uint8)
