"""The style transformer as a `flax.linen` module.

The module declares the parameters under the names that the whole package uses, and computes with
`transformer.apply`. So its `variables['params']` can be passed to the pure functions, and a θ of
this package can be passed to the module. Any program that trains Flax modules can train it.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax

from metastyle_jax.core.types import Array, Params
from metastyle_jax.models import transformer


class StyleTransformer(nn.Module):
    """The feed-forward style transformer, see `transformer`.

    `StyleTransformer().init(rng, images)['params']` equals `transformer.init(rng)`.

    Attributes:
        width: channels of the first convolution.
        blocks: number of residual blocks.
        formulation: how convolutions are computed, see `transformer.apply`.
    """

    width: int = transformer.WIDTH
    blocks: int = transformer.BLOCKS
    formulation: str | None = None

    @nn.compact
    def __call__(self, images: Array) -> Array:
        """Stylizes images.

        Args:
            images: `[N, H, W, 3]` floating in 0..1, H and W at least 16.

        Returns:
            `[N, H, W, 3]` in 0..1.

        Raises:
            UserError: see `transformer.apply`.
        """
        params: Params = {}
        shapes = transformer.parameter_shapes(self.width, self.blocks)
        for layer in dict.fromkeys(name.partition('/')[0] for name in shapes):
            inner = _inside(shapes, layer)
            params[layer] = _Layer(inner, name=layer)()
        return transformer.apply(params, images, formulation=self.formulation)


class _Layer(nn.Module):
    """Declares parameters by their shapes, and returns them as nested dicts."""

    shapes: Mapping[str, tuple[int, ...]]

    @nn.compact
    def __call__(self) -> dict[str, Any]:
        params: dict[str, Any] = {}
        for name in dict.fromkeys(name.partition('/')[0] for name in self.shapes):
            if name in self.shapes:
                params[name] = self.param(name, self._initial, name, self.shapes[name])
            else:
                params[name] = _Layer(_inside(self.shapes, name), name=name)()
        return params

    def _initial(self, rng: Array, name: str, shape: tuple[int, ...]) -> Array:
        """Draws one parameter; for a convolution, the shape of its kernel gives the fan-in."""
        kernel = self.shapes.get('kernel')
        if kernel is None:  # an instance norm
            return jax.numpy.ones(shape) if name == 'scale' else jax.numpy.zeros(shape)
        return transformer.uniform_by_fan_in(rng, shape, kernel)


def _inside(shapes: Mapping[str, tuple[int, ...]], scope: str) -> dict[str, tuple[int, ...]]:
    """Selects the shapes of one layer's parameters, and removes the layer from their names."""
    start = f'{scope}/'
    return {
        name.removeprefix(start): shape for name, shape in shapes.items() if name.startswith(start)
    }
