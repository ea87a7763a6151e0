"""Gram matrices: which channels of the loss network are active together in an image.

They describe a style without saying where anything lies, so the style loss compares them.

Source: Gatys, Ecker and Bethge 2016; Johnson et al. 2016, arXiv 1603.08155, section 3.2.
"""

import jax.numpy as jnp

from metastyle_jax.core.types import Array, Params
from metastyle_jax.models import vgg


def gram(features: Array) -> Array:
    """Gram matrices of feature maps, `ψψᵀ / (C·H·W)`.

    The division makes images of all sizes comparable: the result is a mean over positions.

    Args:
        features: `[N, H, W, C]`.

    Returns:
        `[N, C, C]`.
    """
    n, h, w, c = features.shape
    flat = features.reshape(n, h * w, c)
    return jnp.einsum('npc,npd->ncd', flat, flat) / (c * h * w)


def of_images(vgg_params: Params, images: Array) -> tuple[Array, ...]:
    """Gram matrices of several images in every style layer.

    Args:
        vgg_params: weights of the loss network.
        images: `[S, H, W, 3]` in 0..1.

    Returns:
        L arrays `[S, C, C]`.
    """
    return tuple(gram(layer) for layer in vgg.features(vgg_params, images))


def of_image(vgg_params: Params, image: Array) -> tuple[Array, ...]:
    """Gram matrices of one image in every style layer.

    Args:
        vgg_params: weights of the loss network.
        image: `[H, W, 3]` in 0..1.

    Returns:
        L arrays `[C, C]`.
    """
    return tuple(layer[0] for layer in of_images(vgg_params, image[None]))


def of_padded_images(vgg_params: Params, canvases: Array, sizes: Array) -> tuple[Array, ...]:
    """Gram matrices of images of several sizes that lie on canvases of one size.

    The result is that of each image alone, so images of many sizes share one compiled program.

    Args:
        vgg_params: weights of the loss network.
        canvases: `[S, H, W, 3]` in 0..1, with each image at the top left.
        sizes: `[S, 2]` integers, height and width of each image, at least 8.

    Returns:
        L arrays `[S, C, C]`.
    """
    grams = []
    for depth, layer in enumerate(vgg.masked_features(vgg_params, canvases, sizes)):
        # The features outside an image are zero and add nothing, but `gram` divides by the area of
        # the canvas.
        pixels = jnp.prod(sizes // 2**depth, axis=1).astype(layer.dtype)
        area = layer.shape[1] * layer.shape[2]
        grams.append(gram(layer) * (area / pixels)[:, None, None])
    return tuple(grams)
