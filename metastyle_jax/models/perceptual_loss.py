"""The perceptual loss of a stylized image y, given its content image c and the style image s.

    ℓ(c, s, y) = a · mean (φ(y) − φ(c))²  +  b · Σ_l mean (G_l(y) − G_l(s))²

φ is the layer relu2_2 of VGG-16. G_l are the Gram matrices of the style layers relu1_2, relu2_2,
relu3_3 and relu4_3. The first term is the content loss, the second the style loss. φ(c) and G_l(s)
do not depend on the stylized image, so they are computed once, as `Targets`.

Source: Johnson et al. 2016, arXiv 1603.08155, section 3; Zhang et al. 2019, arXiv 1812.05233.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metastyle_jax.core import loss_weights
from metastyle_jax.core.types import Array, Params
from metastyle_jax.models import gram, transformer, vgg

PARTS = ('total', 'content', 'style')  # the scalar fields of a `Loss`
CONTENT_LAYER = 1  # index of relu2_2 among the style layers


class LossWeights(NamedTuple):
    """Weights of the two parts of the loss.

    Attributes:
        content: a, a number or a scalar array.
        style: b, a number or a scalar array.
    """

    content: Any = loss_weights.CONTENT_WEIGHT
    style: Any = loss_weights.STYLE_WEIGHT


DEFAULT_WEIGHTS = LossWeights()


class Targets(NamedTuple):
    """Features of the content images and the style image that the loss compares against.

    Attributes:
        content: `[N, h, w, C]`, relu2_2 of the content images.
        grams: L arrays `[C, C]`, Gram matrices of the style image.
    """

    content: Array
    grams: tuple[Array, ...]


class Loss(NamedTuple):
    """Loss of a batch, and its parts. The parts include their weights.

    Attributes:
        total: scalar, the sum of content and style.
        content: scalar, the weighted content loss.
        style: scalar, the weighted style loss.
        style_layers: `[L]`, the style loss of each style layer.
    """

    total: Array
    content: Array
    style: Array
    style_layers: Array


def compute_targets(vgg_params: Params, contents: Array, grams: Sequence[Array]) -> Targets:
    """Computes the targets of a content batch and a style.

    Args:
        vgg_params: weights of the loss network.
        contents: `[N, H, W, 3]` in 0..1.
        grams: L arrays `[C, C]`, see `gram.of_image`.
    """
    return Targets(vgg.content_features(vgg_params, contents), tuple(grams))


def of_features(feature_maps: Sequence[Array], targets: Targets, weights: LossWeights) -> Loss:
    """Computes the loss of stylized images from their features.

    Args:
        feature_maps: L arrays `[N, h, w, C]`, the style layers of the stylized images.
        targets: targets of the content batch and the style.
        weights: weights of content and style.
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
    """Computes the loss of stylized images.

    Args:
        vgg_params: weights of the loss network.
        images: `[N, H, W, 3]` in 0..1, stylized images in the order of their contents.
        targets: targets of the content batch and the style.
        weights: weights of content and style.
    """
    return of_features(vgg.features(vgg_params, images), targets, weights)


def of_network(
    params: Params,
    vgg_params: Params,
    contents: Array,
    targets: Targets,
    weights: LossWeights = DEFAULT_WEIGHTS,
) -> Loss:
    """Stylizes a content batch and computes the loss of the result.

    Args:
        params: parameters of the transformer.
        vgg_params: weights of the loss network.
        contents: `[N, H, W, 3]` in 0..1, the content batch of the targets.
        targets: targets of the content batch and the style.
        weights: weights of content and style.
    """
    return of_images(vgg_params, transformer.apply(params, contents), targets, weights)


def of_styles(
    params: Params,
    vgg_params: Params,
    contents: Array,
    targets: Targets,
    weights: LossWeights = DEFAULT_WEIGHTS,
) -> Loss:
    """Stylizes contents in S styles that differ only in instance norms, and computes their losses.

    All images pass through the transformer in one batch, so all styles share the convolutions.
    `jax.vmap` over parameters would make grouped convolutions, which are slow on CPU.

    Args:
        params: parameters of the transformer. Scales and biases of its norms are `[S·N, C]`: the
            values of each style, repeated for its N images.
        vgg_params: weights of the loss network.
        contents: `[S, N, H, W, 3]` in 0..1, or `[N, H, W, 3]` if all styles share them.
        targets: content features `[S, N, h, w, C]`, or `[N, h, w, C]` if contents are shared; and L
            arrays of Gram matrices `[S, C, C]`.
        weights: weights of content and style.

    Returns:
        A `Loss` whose arrays have a leading axis for the styles, `[S, ...]`.
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
