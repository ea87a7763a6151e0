"""The perceptual loss: what a stylized image keeps of its content and takes from a style.

    ℓ(c, s, y) = a · mean (φ(y) − φ(c))²  +  b · Σ_l mean (G_l(y) − G_l(s))²

φ is relu2_2 of VGG-16, G_l are the Gram matrices of relu1_2, relu2_2, relu3_3 and relu4_3. Nothing
is differentiated in the content c and the style s, so their side of the loss, `Targets`, is
computed once.

Source: Johnson et al. 2016, arXiv 1603.08155, section 3; Zhang et al. 2019, arXiv 1812.05233.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metastyle_jax.core.types import Array, Params
from metastyle_jax.models import gram, transformer, vgg

CONTENT_WEIGHT = 1.0
STYLE_WEIGHT = 1e5
PARTS = ('total', 'content', 'style')  # the fields of a `Loss` that are one number
CONTENT_LAYER = 1  # index of relu2_2 among the style layers


class LossWeights(NamedTuple):
    """Weights of the two parts of the loss.

    Attributes:
        content: a, a number or a scalar array.
        style: b, a number or a scalar array.
    """

    content: Any = CONTENT_WEIGHT
    style: Any = STYLE_WEIGHT


DEFAULT_WEIGHTS = LossWeights()


class Targets(NamedTuple):
    """What the loss compares a stylized image with.

    Attributes:
        content: `[N, h, w, C]`, relu2_2 of the content images.
        grams: L arrays `[C, C]`, Gram matrices of the style image.
    """

    content: Array
    grams: tuple[Array, ...]


class Loss(NamedTuple):
    """Loss of a batch. Every part is weighted already, and total = content + style.

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


def compute_targets(vgg_params: Params, contents: Array, grams: Sequence[Array]) -> Targets:
    """Targets of a content batch and a style.

    Args:
        vgg_params: weights of the loss network.
        contents: `[N, H, W, 3]` in 0..1.
        grams: L arrays `[C, C]`, see `gram.of_image`.
    """
    return Targets(vgg.content_features(vgg_params, contents), tuple(grams))


def of_features(feature_maps: Sequence[Array], targets: Targets, weights: LossWeights) -> Loss:
    """Loss of images whose features are known.

    Args:
        feature_maps: L arrays `[N, h, w, C]`, the style layers of the stylized images.
        targets: of the content batch and the style.
        weights: of the two parts.
    """
    content = jnp.mean(jnp.square(feature_maps[CONTENT_LAYER] - targets.content))
    style_layers = jnp.stack(
        [
            jnp.mean(jnp.square(gram.gram(layer) - style_gram[None]))
            for layer, style_gram in zip(feature_maps, targets.grams, strict=True)
        ]
    )
    content, style_layers = weights.content * content, weights.style * style_layers
    style = jnp.sum(style_layers)
    return Loss(content + style, content, style, style_layers)


def of_images(
    vgg_params: Params, images: Array, targets: Targets, weights: LossWeights = DEFAULT_WEIGHTS
) -> Loss:
    """Loss of stylized images.

    Args:
        vgg_params: weights of the loss network.
        images: `[N, H, W, 3]` in 0..1, y above.
        targets: of the content batch and the style.
        weights: of the two parts.
    """
    return of_features(vgg.features(vgg_params, images), targets, weights)


def of_network(
    params: Params,
    vgg_params: Params,
    contents: Array,
    targets: Targets,
    weights: LossWeights = DEFAULT_WEIGHTS,
) -> Loss:
    """Loss of what the transformer makes of a content batch.

    Args:
        params: of the transformer.
        vgg_params: weights of the loss network.
        contents: `[N, H, W, 3]` in 0..1, those of the targets.
        targets: of the content batch and the style.
        weights: of the two parts.
    """
    return of_images(vgg_params, transformer.apply(params, contents), targets, weights)


def of_styles(
    params: Params,
    vgg_params: Params,
    contents: Array,
    targets: Targets,
    weights: LossWeights = DEFAULT_WEIGHTS,
) -> Loss:
    """Loss of each of S styles, whose images go through the transformer in one batch.

    The styles differ in their instance norms alone, so the convolutions stay whole. `jax.vmap` over
    parameters would turn them into grouped convolutions, which are slow on CPU.

    Args:
        params: of the transformer; scales and biases of its norms are `[S·N, C]`, those of one
            style N times in a row.
        vgg_params: weights of the loss network.
        contents: `[S, N, H, W, 3]` in 0..1, or `[N, H, W, 3]` if all styles share them.
        targets: content features `[S, N, h, w, C]`, or `[N, h, w, C]` if they are shared; L Gram
            matrices `[S, C, C]`.
        weights: of the two parts.

    Returns:
        A `Loss` of leaves `[S, ...]`.
    """
    count, shared = len(targets.grams[0]), contents.ndim == 4
    each = contents.shape[0 if shared else 1]
    flat = jnp.tile(contents, (count, 1, 1, 1)) if shared else contents.reshape(
        count * each, *contents.shape[2:]
    )  # fmt: skip
    feature_maps = [
        layer.reshape(count, each, *layer.shape[1:])
        for layer in vgg.features(vgg_params, transformer.apply(params, flat))
    ]

    def one_style(feature_maps: Sequence[Array], content: Array, grams: tuple[Array, ...]) -> Loss:
        return of_features(feature_maps, Targets(content, grams), weights)

    per_style = jax.vmap(one_style, in_axes=(0, None if shared else 0, 0))
    return per_style(feature_maps, targets.content, targets.grams)
