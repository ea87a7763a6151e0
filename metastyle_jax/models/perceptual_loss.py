"""Perceptual losses: what a stylized image should keep of its content and take from a style.

The loss network enters as a callable that returns its style layers in order, so that any feature
extractor can be used.

Source: Johnson et al. 2016, arXiv 1603.08155, section 3; Zhang et al. 2019, arXiv 1812.05233.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp

from metastyle_jax.core.types import Array
from metastyle_jax.models import layers

CONTENT_WEIGHT = 1.0
STYLE_WEIGHT = 1e5
PARTS = ('total', 'content', 'style')  # of a `Loss`, those that are one number
CONTENT_LAYER = 1  # relu2_2, the second of the style layers relu1_2, relu2_2, relu3_3, relu4_3


class Targets(NamedTuple):
    """What the losses compare with; computed once, outside any loop.

    Attributes:
        content: `[N, h, w, C]`, content-layer features of the content images.
        grams: L arrays `[C, C]`, Gram matrices of the style image.
    """

    content: Array
    grams: tuple[Array, ...]


class Loss(NamedTuple):
    """Loss of a batch; every part is already weighted, and total = content + style.

    Attributes:
        total: scalar.
        content: scalar.
        style: scalar, the sum of `style_layers`.
        style_layers: `[L]`.
    """

    total: Array
    content: Array
    style: Array
    style_layers: Array


def style_grams(features: Sequence[Array]) -> tuple[Array, ...]:
    """Gram matrices of one style image.

    Args:
        features: L arrays `[1, h, w, C]`, the style layers of the loss network.

    Returns:
        L arrays `[C, C]`.
    """
    return tuple(layers.gram(layer)[0] for layer in features)


def perceptual_loss(
    features: Callable[[Array], Sequence[Array]],
    images: Array,
    targets: Targets,
    *,
    content_weight: float = CONTENT_WEIGHT,
    style_weight: float = STYLE_WEIGHT,
) -> Loss:
    """Weighted content and style loss, averaged over the batch.

        ℓ = a·mean (φ(y) − φ(c))² + b·Σ_l mean (G_l(y) − G_l(s))²

    Args:
        features: `[N, H, W, 3]` in 0..1 to L arrays `[N, h, w, C]`.
        images: `[N, H, W, 3]` in 0..1, y above.
        targets: of the contents c and the style s.
        content_weight: a.
        style_weight: b.

    Returns:
        A `Loss`.
    """
    return compare(
        features(images), targets, content_weight=content_weight, style_weight=style_weight
    )


def compare(
    maps: Sequence[Array], targets: Targets, *, content_weight: Any, style_weight: Any
) -> Loss:
    """`perceptual_loss` of features that are there already: L arrays `[N, h, w, C]`."""
    content = content_weight * jnp.mean(jnp.square(maps[CONTENT_LAYER] - targets.content))
    style_layers = style_weight * jnp.stack(
        [
            jnp.mean(jnp.square(layers.gram(layer) - gram[None]))
            for layer, gram in zip(maps, targets.grams, strict=True)
        ]
    )
    style = jnp.sum(style_layers)
    return Loss(content + style, content, style, style_layers)
