"""Keeps the colours of a photograph, by a change of the stylized picture or of the painting.

Source: Gatys et al. 2016, Preserving Color in Neural Artistic Style Transfer, arXiv 1606.05897.
"""

import numpy as np

from metastyle_jax.core.errors import UserError


def keep(stylized: np.ndarray, photo: np.ndarray) -> np.ndarray:
    """Combines the brightness of a stylized picture with the colours of its photograph.

    Args:
        stylized: `[H, W, 3]` float32 in 0..1.
        photo: the photograph, of the same shape, type and range.

    Returns:
        `[H, W, 3]` float32, clipped to 0..1. Where nothing is clipped, Y of the colour space YIQ is
        that of `stylized`, and I and Q are those of `photo`.

    Raises:
        UserError: the shapes differ.
    """
    if stylized.shape != photo.shape:
        raise UserError(
            f'the picture has shape {stylized.shape} and its photograph {photo.shape}: both must '
            'have the same size'
        )
    from skimage import color  # slow to import, and rarely needed

    yiq = color.rgb2yiq(photo)
    yiq[..., 0] = color.rgb2yiq(stylized)[..., 0]
    return np.clip(color.yiq2rgb(yiq), 0.0, 1.0).astype(np.float32)


def match(painting: np.ndarray, photo: np.ndarray) -> np.ndarray:
    """Gives each channel of a painting the histogram of a photograph.

    A style that is adapted to the result has the colours of the photograph.

    Args:
        painting: `[H, W, 3]` float32 in 0..1.
        photo: `[H', W', 3]` float32 in 0..1.

    Returns:
        `[H, W, 3]` float32 in 0..1, the painting in the new colours.
    """
    from skimage import exposure  # slow to import, and rarely needed

    matched = exposure.match_histograms(painting, photo, channel_axis=-1)
    return np.clip(matched, 0.0, 1.0).astype(np.float32)
