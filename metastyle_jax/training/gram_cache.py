"""Gram matrices of training styles, computed once for each and kept.

A style that always comes as the same pixels (`data.style_fit='squash'`) has the same Gram
matrices whenever it comes. At four times the area of the contents they cost a third of a step
of plain training.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metastyle_jax.core.types import Params
from metastyle_jax.data import batching
from metastyle_jax.models import gram


class Batch(NamedTuple):
    """A batch whose styles are known by their Gram matrices.

    Attributes:
        inner: `[S, T, N, H, W, 3] uint8`.
        outer: `[S, N, H, W, 3] uint8`.
        style_index: `[S] int32`.
        grams: L arrays `[S, C, C]` float32.
    """

    inner: np.ndarray
    outer: np.ndarray
    style_index: np.ndarray
    grams: tuple[np.ndarray, ...]


class GramCache:
    """Gives batches the Gram matrices of their styles, from memory where they were before.

    Each style is computed by itself, so that the numbers do not depend on which others came with
    it, nor on what is in memory: a run that was resumed goes on bit for bit.

    Args:
        vgg_params: weights of the loss network.
        gibibytes: of memory to use at most, in this process; styles beyond it are computed each
            time.
    """

    def __init__(self, vgg_params: Params, gibibytes: float) -> None:
        self._vgg = vgg_params
        self._left = gibibytes * 2**30
        self._found: dict[int, tuple[np.ndarray, ...]] = {}
        self._compute: Any = jax.jit(
            lambda params, style: gram.of_images(params, batching.as_float(style))
        )

    def __call__(self, batch: batching.MetaBatch) -> Batch:
        """The batch with Gram matrices in place of pixels of its styles."""
        pairs = zip(batch.style_index, batch.style, strict=True)
        each = [self._one(int(index), style) for index, style in pairs]
        found = tuple(np.stack(layer) for layer in zip(*each, strict=True))
        return Batch(batch.inner, batch.outer, batch.style_index, found)

    @property
    def count(self) -> int:
        """How many styles are in memory."""
        return len(self._found)

    def _one(self, index: int, style: np.ndarray) -> tuple[np.ndarray, ...]:
        """Gram matrices of one style, `[Hs, Ws, 3] uint8`."""
        if index in self._found:
            return self._found[index]
        grams = jax.device_get(self._compute(self._vgg, jnp.asarray(style[None])))
        found = tuple(layer[0] for layer in grams)
        if (size := sum(layer.nbytes for layer in found)) <= self._left:
            self._left -= size
            self._found[index] = found
        return found
