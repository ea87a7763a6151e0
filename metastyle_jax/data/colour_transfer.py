"""Keeping the colours of a photograph: after stylizing, or before adapting.

Source: Gatys et al. 2016, Preserving Color in Neural Artistic Style Transfer, arXiv 1606.05897.
"""

import numpy as np

from metastyle_jax.core.errors import UserError


def keep(stylized: np.ndarray, photo: np.ndarray) -> np.ndarray:
    """Takes the brightness of a stylized picture and the colours of its photograph.

    Args:
        stylized: `[H, W, 3]` float32 in 0..1.
        photo: the same shape.

    Returns:
        The same shape; its luma (Y of YIQ) is that of `stylized` wherever 0..1 can hold it.
    """
    if stylized.shape != photo.shape:
        raise UserError(
            f'the picture has shape {stylized.shape} and its photograph {photo.shape}: both must '
            'be of one size'
        )
    from skimage import color  # slow to import, and rarely needed

    yiq = color.rgb2yiq(photo)
    yiq[..., 0] = color.rgb2yiq(stylized)[..., 0]
    return np.clip(color.yiq2rgb(yiq), 0.0, 1.0).astype(np.float32)


def match(painting: np.ndarray, photo: np.ndarray) -> np.ndarray:
    """Gives a painting the histogram of a photograph in each channel, before it is adapted to.

    Args:
        painting: `[H, W, 3]` float32 in 0..1.
        photo: `[H', W', 3]` float32 in 0..1.

    Returns:
        The shape of `painting`.
    """
    from skimage import exposure  # slow to import, and rarely needed

    matched = exposure.match_histograms(painting, photo, channel_axis=-1)
    return np.clip(matched, 0.0, 1.0).astype(np.float32)
