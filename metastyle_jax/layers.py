"""Building blocks of the two networks: convolution, normalization, upsampling, Gram matrix.

Every function is pure, takes channels-last arrays and follows the dtype of its input. Where one
backend needs another formulation of the same mathematics, it is chosen here, behind one name.
"""

import jax
import jax.numpy as jnp

from metastyle_jax.types import Array, UserError

_LAYOUT = ('NHWC', 'HWIO', 'NHWC')


def reflect_conv(
    x: Array, kernel: Array, bias: Array, *, stride: int = 1, formulation: str | None = None
) -> Array:
    """Convolution of an image extended by reflection, so that borders show no zeros.

    Args:
        x: `[N, H, W, C]`; both H and W larger than half the kernel.
        kernel: `[K, K, C, C']` with K odd.
        bias: `[C']`.
        stride: 1 or 2.
        formulation: 'valid' convolves the extended image, 'same' pads it once more with zeros and
            crops, at stride 1 only. They are equal term by term; None takes the faster on the
            backend at hand.

    Returns:
        `[N, ceil(H / stride), ceil(W / stride), C']`.

    Raises:
        UserError: formulation 'same' at another stride than 1.
    """
    pad = kernel.shape[0] // 2
    x = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)), mode='reflect')
    if formulation is None:
        # XLA:CPU runs a stride-1 convolution without padding 2 to 30 times slower.
        formulation = 'same' if jax.default_backend() == 'cpu' and stride == 1 else 'valid'
    if formulation == 'same' and stride != 1:
        raise UserError(f"formulation 'same' at stride {stride}: it is for stride 1")
    padding = 'SAME' if formulation == 'same' else 'VALID'
    y = jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, dimension_numbers=_LAYOUT
    )
    if formulation == 'same':
        y = y[:, pad : y.shape[1] - pad, pad : y.shape[2] - pad]
    return y + bias[None, None, None]


def instance_norm(x: Array, scale: Array, bias: Array, *, epsilon: float = 1e-5) -> Array:
    """Normalizes each channel of each image over its pixels, then scales and shifts it.

    `x·rsqrt(var + ε)` keeps the gradient finite on constant channels, which `x/(std + ε)` does not.

    Args:
        x: `[N, H, W, C]`.
        scale: `[C]`.
        bias: `[C]`.
        epsilon: added to the variance.

    Returns:
        `[N, H, W, C]`.

    Source: Ulyanov et al. 2016, arXiv 1607.08022.
    """
    centered = x - jnp.mean(x, axis=(1, 2), keepdims=True)
    variance = jnp.mean(jnp.square(centered), axis=(1, 2), keepdims=True)
    normal = centered * jax.lax.rsqrt(variance + epsilon)
    return normal * scale[None, None, None] + bias[None, None, None]


def upsample(x: Array, *, height: int, width: int) -> Array:
    """Nearest-neighbour upsampling by two, cropped to the size asked for.

    Args:
        x: `[N, H, W, C]`.
        height: `2H` or `2H - 1`.
        width: `2W` or `2W - 1`.

    Returns:
        `[N, height, width, C]`.
    """
    n, h, w, c = x.shape
    x = jnp.broadcast_to(x[:, :, None, :, None], (n, h, 2, w, 2, c))
    return x.reshape(n, 2 * h, 2 * w, c)[:, :height, :width]


def gram(features: Array) -> Array:
    """Gram matrices `ψψᵀ / (C·H·W)` of feature maps: which channels fire together.

    Args:
        features: `[N, H, W, C]`.

    Returns:
        `[N, C, C]`.

    Source: Johnson et al. 2016, arXiv 1603.08155, section 3.2.
    """
    n, h, w, c = features.shape
    flat = features.reshape(n, h * w, c)
    return jnp.einsum('npc,npd->ncd', flat, flat) / (c * h * w)
