"""Gram matrices of training styles, computed once for each and kept.

A style that always comes as the same pixels (`data.style_fit='squash'`) has the same Gram
matrices whenever it comes. At four times the area of the contents they cost half of a step of
plain training.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metastyle_jax import data, layers, vgg
from metastyle_jax.types import Array, Params


def of_styles(vgg_params: Params, styles: Array) -> tuple[Array, ...]:
    """Gram matrices of several styles.

    Args:
        vgg_params: weights of the loss network.
        styles: `[S, Hs, Ws, 3]` in 0..1.

    Returns:
        L arrays `[S, C, C]`.
    """
    return tuple(layers.gram(layer) for layer in vgg.features(vgg_params, styles))


class Kept:
    """Adds to batches the Gram matrices of their styles, from memory where they were before.

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
        self._compute: Any = jax.jit(lambda params, style: of_styles(params, data.as_float(style)))

    def add(self, batch: data.MetaBatch) -> data.MetaBatch:
        """The batch with its `grams`."""
        pairs = zip(batch.style_index, batch.style, strict=True)
        each = [self._one(int(index), style) for index, style in pairs]
        return batch._replace(grams=tuple(np.stack(layer) for layer in zip(*each, strict=True)))

    @property
    def count(self) -> int:
        """How many styles are in memory."""
        return len(self._found)

    def _one(self, index: int, style: np.ndarray) -> tuple[np.ndarray, ...]:
        """Gram matrices of one style, `[Hs, Ws, 3] uint8`."""
        if index in self._found:
            return self._found[index]
        grams = jax.device_get(self._compute(self._vgg, jnp.asarray(style[None])))
        found = tuple(gram[0] for gram in grams)
        if (size := sum(gram.nbytes for gram in found)) <= self._left:
            self._left -= size
            self._found[index] = found
        return found
