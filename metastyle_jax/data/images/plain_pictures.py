"""Finds pictures that have one colour, or only noise, because their results surprise users.

The network's instance norms divide by standard deviations, so they amplify small differences. Faint
shading becomes visible, and noise becomes a pattern of the style.
"""

import numpy as np
from PIL import Image

from metastyle_jax.data.images import pixel_values

_CELLS = 24  # along the longer side; the mean of a cell has hardly any noise
_SHADING = 4.0  # levels by which cells differ before a picture shows in the result
_NOISE = 0.6  # below this standard deviation, in levels, a picture has no noise
_TEXTURE = 2.5  # below this standard deviation, a painting has no texture to learn

ONE_COLOUR = 'one colour, so that there is nothing to stylize: the result has one colour too'
NOISE_ALONE = (
    'nearly one colour, without any shape: the result shows the texture of the style and nothing '
    'of the photograph'
)
NO_TEXTURE = (
    'one colour, or nearly, so that there is no texture to learn: the style is little more than a '
    'tint'
)


def of_photograph(rgb: np.ndarray) -> str:
    """Returns a warning about a photograph that will be stylized; '' for an ordinary one.

    Args:
        rgb: `[H, W, 3]` float32 in 0..1.
    """
    height, width = rgb.shape[:2]
    factor = max(1, min(max(height, width) // _CELLS, min(height, width) // 4))
    pixels = Image.fromarray(pixel_values.to_bytes(rgb))
    box = (0, 0, width // factor * factor, height // factor * factor)
    cells = np.asarray(pixels.reduce(factor, box), np.float32).reshape(-1, 3)
    if np.ptp(cells, axis=0).max() >= _SHADING:
        return ''
    return ONE_COLOUR if _spread(pixels) < _NOISE else NOISE_ALONE


def of_painting(rgb: np.ndarray) -> str:
    """Returns a warning about a style image without texture; '' for an ordinary one.

    Args:
        rgb: `[H, W, 3]` float32 in 0..1.
    """
    return NO_TEXTURE if _spread(Image.fromarray(pixel_values.to_bytes(rgb))) < _TEXTURE else ''


def _spread(image: Image.Image) -> float:
    """Returns the largest standard deviation of a channel, for values in 0..255."""
    return max(float(np.std(np.asarray(band, np.float32))) for band in image.split())
