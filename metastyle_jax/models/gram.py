"""Gram matrices: how strongly channels of the loss network are active together in an image.

They are sums over all positions, so they describe colours and textures but not where these lie.

Source: Gatys, Ecker and Bethge 2016; Johnson et al. 2016, arXiv 1603.08155, section 3.2.
"""

import jax.numpy as jnp

from metastyle_jax.core.types import Array, Params
from metastyle_jax.models import vgg


def gram(features: Array) -> Array:
    """Computes the Gram matrices of feature maps.

        G = ψ ψᵀ / (C·H·W),    ψ: the C channels of an image as rows of H·W values

    Args:
        features: `[N, H, W, C]`.

    Returns:
        `[N, C, C]`.
    """
    # Division by H·W makes a mean over positions, so images of different sizes are comparable.
    # Division by C keeps the entries of layers with many channels from growing with them.
    n, h, w, c = features.shape
    flat = features.reshape(n, h * w, c)
    return jnp.einsum('npc,npd->ncd', flat, flat) / (c * h * w)


def of_images(vgg_params: Params, images: Array) -> tuple[Array, ...]:
    """Computes the Gram matrices of several images in every style layer.

    Args:
        vgg_params: weights of the loss network.
        images: `[S, H, W, 3]` in 0..1.

    Returns:
        L arrays `[S, C, C]`.
    """
    return tuple(gram(layer) for layer in vgg.features(vgg_params, images))


def of_image(vgg_params: Params, image: Array) -> tuple[Array, ...]:
    """Computes the Gram matrices of one image in every style layer.

    Args:
        vgg_params: weights of the loss network.
        image: `[H, W, 3]` in 0..1.

    Returns:
        L arrays `[C, C]`.
    """
    return tuple(layer[0] for layer in of_images(vgg_params, image[None]))


def of_padded_images(vgg_params: Params, canvases: Array, sizes: Array) -> tuple[Array, ...]:
    """Computes the Gram matrices of images of different sizes on canvases of equal size.

    The results equal those of `of_image` for each image without its canvas. So images of different
    sizes share one compiled program.

    Args:
        vgg_params: weights of the loss network.
        canvases: `[S, H, W, 3]` in 0..1, with each image at the top left of its canvas.
        sizes: `[S, 2]` integers, height and width of each image, at least 8.

    Returns:
        L arrays `[S, C, C]`.
    """
    grams = []
    for depth, layer in enumerate(vgg.masked_features(vgg_params, canvases, sizes)):
        # Features outside of an image are zero, so the sum is right. But `gram` divides by the area
        # of the canvas instead of that of the image.
        pixels = jnp.prod(sizes // 2**depth, axis=1).astype(layer.dtype)
        area = layer.shape[1] * layer.shape[2]
        grams.append(gram(layer) * (area / pixels)[:, None, None])
    return tuple(grams)
