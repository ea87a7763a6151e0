"""A cache of the Gram matrices of training styles.

With `data.style_fit='squash'`, a style image has the same pixels whenever it is drawn, so its Gram
matrices are always the same. If style images have four times the area of content images, computing
them takes a third of a training step without inner steps.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metastyle_jax.core.types import Params
from metastyle_jax.data import batching
from metastyle_jax.models import gram


class GramBatch(NamedTuple):
    """A batch that holds Gram matrices instead of style images.

    Attributes:
        inner: `[S, T, N, H, W, 3]` uint8, content images of the inner steps.
        outer: `[S, N, H, W, 3]` uint8, content images of the outer loss.
        style_index: `[S]` int32, indices of the styles in their source.
        grams: L arrays `[S, C, C]` float32, Gram matrices of the styles.
    """

    inner: np.ndarray
    outer: np.ndarray
    style_index: np.ndarray
    grams: tuple[np.ndarray, ...]


class GramCache:
    """Replaces the style images of batches by their Gram matrices, and caches these.

    The Gram matrices of each style are computed alone. So they depend neither on the other styles
    of a batch nor on the contents of the cache, and a resumed run gets bitwise equal numbers.

    Args:
        vgg_params: weights of the loss network.
        gibibytes: memory limit of the cache in this process. If it is full, the Gram matrices of
            further styles are computed each time.
    """

    def __init__(self, vgg_params: Params, gibibytes: float) -> None:
        self._vgg = vgg_params
        self._free_bytes = gibibytes * 2**30
        self._cached: dict[int, tuple[np.ndarray, ...]] = {}
        self._compute: Any = jax.jit(
            lambda params, style: gram.of_images(params, batching.as_float(style))
        )

    def __call__(self, batch: batching.MetaBatch) -> GramBatch:
        """Returns the batch with Gram matrices instead of style images."""
        pairs = zip(batch.style_index, batch.style, strict=True)
        by_style = [self._grams_of(int(index), style) for index, style in pairs]
        grams = tuple(np.stack(layer) for layer in zip(*by_style, strict=True))
        return GramBatch(batch.inner, batch.outer, batch.style_index, grams)

    @property
    def count(self) -> int:
        """Number of styles in the cache."""
        return len(self._cached)

    def _grams_of(self, index: int, style: np.ndarray) -> tuple[np.ndarray, ...]:
        """Returns the Gram matrices of one style image, `[Hs, Ws, 3]` uint8."""
        if index in self._cached:
            return self._cached[index]
        layers = jax.device_get(self._compute(self._vgg, jnp.asarray(style[None])))
        grams = tuple(layer[0] for layer in layers)
        if (size := sum(layer.nbytes for layer in grams)) <= self._free_bytes:
            self._free_bytes -= size
            self._cached[index] = grams
        return grams
