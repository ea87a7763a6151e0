"""Pictures without anything to see: of one colour, or with noise alone.

The instance norms of the network divide by the standard deviation of the picture. So they bring up
whatever differs in it: the faintest shading is enough to be seen in the result, and where there is
nothing but noise, the result is a pattern of the style.
"""

import numpy as np
from PIL import Image

from metastyle_jax.data.images import pixel_values

_CELLS = 24  # along the longer side; the mean of a cell has hardly any noise
_SHADING = 4.0  # levels by which cells differ before a picture shows in the result
_NOISE = 0.6  # standard deviation, in levels, of a picture that has not even noise
_TEXTURE = 2.5  # the same, of a painting that has a texture to learn

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
    """What is to be said about a photograph before it is stylized, '' for nothing.

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
    """What is to be said about a painting before it is adapted to, '' for nothing.

    Args:
        rgb: `[H, W, 3]` float32 in 0..1.
    """
    return NO_TEXTURE if _spread(Image.fromarray(pixel_values.to_bytes(rgb))) < _TEXTURE else ''


def _spread(image: Image.Image) -> float:
    """The largest standard deviation of a channel, in levels."""
    return max(float(np.std(np.asarray(band, np.float32))) for band in image.split())
