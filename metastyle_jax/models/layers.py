"""Building blocks of the two networks: convolution, normalization, upsampling.

Every function is pure, takes channels-last arrays and follows the dtype of its input. Where one
backend needs another formulation of the same mathematics, it is chosen here, behind one name.
The larger ones are compiled as one program where they are called outside of `jax.jit`, and become
part of the caller's inside of it.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from metastyle_jax.core.errors import UserError
from metastyle_jax.core.types import Array
from metastyle_jax.models import cpu_convolution

EPSILON = 1e-5  # of instance norm
_LAYOUT = ('NHWC', 'HWIO', 'NHWC')
# Rows of kernel weights that each of the two phases of an upsampled image sees of the original:
# `_PHASES[phase, tap of two, tap of three]`.
_PHASES = np.array([[[1, 0, 0], [0, 1, 1]], [[1, 1, 0], [0, 0, 1]]])


@functools.partial(jax.jit, static_argnames=('stride', 'formulation'), inline=True)
def reflect_conv(
    x: Array, kernel: Array, bias: Array, *, stride: int = 1, formulation: str | None = None
) -> Array:
    """Convolution of an image extended by reflection, so that borders show no zeros.

    Args:
        x: `[N, H, W, C]`; both H and W larger than half the kernel.
        kernel: `[K, K, C, C']` with K odd.
        bias: `[C']`.
        stride: 1 or 2.
        formulation: one of three that are equal term by term. 'plain' convolves the extended image;
            'cropped' computes one more row and drops it; 'blocked' folds squares of 2×2 pixels
            into channels, at stride 1 and for even H and W only. None takes the fastest on the
            backend at hand.

    Returns:
        `[N, ceil(H / stride), ceil(W / stride), C']`.

    Raises:
        UserError: formulation 'blocked' at another stride or an odd size.
    """
    size = kernel.shape[0]
    even = stride == 1 and x.shape[1] % 2 == x.shape[2] % 2 == 0
    if formulation is None:
        formulation = 'plain'
        if jax.default_backend() == 'cpu':
            # Few channels and many taps are what XLA:CPU is slow at.
            formulation = 'blocked' if even and size > 3 else 'cropped'
    if formulation == 'blocked' and not even:
        raise UserError(
            f"formulation 'blocked' at stride {stride} on {x.shape[1]} x {x.shape[2]} pixels: "
            'it is for stride 1 and even sizes'
        )
    x = reflect(x, size // 2)
    if formulation == 'blocked':
        y = _unfold(cpu_convolution.convolve(_fold(x), _fold_kernel(kernel)))
    elif formulation == 'cropped':
        y = cpu_convolution.convolve(x, kernel, stride=stride)
    else:
        y = jax.lax.conv_general_dilated(
            x, kernel, (stride, stride), 'VALID', dimension_numbers=_LAYOUT
        )
    return y + bias[None, None, None]


@functools.partial(jax.jit, inline=True)
def zero_conv(x: Array, kernel: Array, bias: Array) -> Array:
    """Convolution of an image extended by zeros to keep its size.

    Args:
        x: `[N, H, W, C]`.
        kernel: `[K, K, C, C']` with K odd.
        bias: `[C']`.

    Returns:
        `[N, H, W, C']`.
    """
    if jax.default_backend() == 'cpu':
        y = cpu_convolution.convolve(x, kernel, padding=kernel.shape[0] // 2)
    else:
        y = jax.lax.conv_general_dilated(x, kernel, (1, 1), 'SAME', dimension_numbers=_LAYOUT)
    return y + bias[None, None, None]


@functools.partial(jax.jit, static_argnames=('height', 'width', 'formulation'), inline=True)
def upsample_conv(
    x: Array,
    kernel: Array,
    bias: Array,
    *,
    height: int,
    width: int,
    formulation: str | None = None,
) -> Array:
    """Nearest-neighbour upsampling by two, and a 3×3 convolution extended by reflection.

    Args:
        x: `[N, H, W, C]`.
        kernel: `[3, 3, C, C']`.
        bias: `[C']`.
        height: of the result: `2H` or `2H - 1`.
        width: of the result: `2W` or `2W - 1`.
        formulation: 'phases', for even sizes only, computes the four pixels that come of each one
            by four 2×2 convolutions of the small image, with 4/9 of the arithmetic, and is equal
            but for rounding; those of `reflect_conv` do the one and then the other. None takes
            the fastest on the backend at hand.

    Returns:
        `[N, height, width, C']`.

    Raises:
        UserError: formulation 'phases' at an odd size.

    Source: for 'phases', Shi et al. 2016, arXiv 1609.05158, whose sub-pixel convolution it is.
    """
    n, h, w, channels = x.shape
    even = (height, width) == (2 * h, 2 * w)
    if formulation is None and even and jax.default_backend() == 'cpu':
        formulation = 'phases'
    if formulation != 'phases':
        x = upsample(x, height=height, width=width)
        return reflect_conv(x, kernel, bias, formulation=formulation)
    if not even:
        raise UserError(
            f"formulation 'phases' from {h} x {w} to {height} x {width} pixels: "
            'it is for even sizes'
        )
    phases = _PHASES.astype(kernel.dtype)
    kernels = jnp.einsum('pai,qbj,ijcd->abcpqd', phases, phases, kernel)
    # Upsampled and then reflected, the border repeats its own pixels.
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode='edge')
    y = cpu_convolution.convolve(x, kernels.reshape(2, 2, channels, -1))
    y = y.reshape(n, h + 1, w + 1, 2, 2, -1)
    rows = [jnp.stack([y[:, p : p + h, q : q + w, p, q] for q in (0, 1)], 3) for p in (0, 1)]
    return jnp.stack(rows, 2).reshape(n, height, width, -1) + bias[None, None, None]


def reflect(x: Array, pad: int) -> Array:
    """Extends images by reflection; the gradient is faster than that of `jnp.pad`.

    Args:
        x: `[N, H, W, C]`.
        pad: pixels on each side, fewer than H and W.

    Returns:
        `[N, H + 2·pad, W + 2·pad, C]`.
    """
    for axis in (1, 2):
        size = x.shape[axis]
        before = jax.lax.slice_in_dim(x, 1, pad + 1, axis=axis)
        after = jax.lax.slice_in_dim(x, size - pad - 1, size - 1, axis=axis)
        before, after = (jax.lax.rev(part, (axis,)) for part in (before, after))
        x = jax.lax.concatenate([before, x, after], axis)
    return x


def _fold(x: Array) -> Array:
    """`[N, 2H, 2W, C]` to `[N, H, W, 4C]`: squares of 2×2 pixels into channels."""
    n, h, w, c = x.shape
    x = x.reshape(n, h // 2, 2, w // 2, 2, c)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(n, h // 2, w // 2, 4 * c)


def _unfold(x: Array) -> Array:
    """Inverse of `_fold`."""
    n, h, w, c = x.shape
    x = x.reshape(n, h, w, 2, 2, c // 4).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(n, 2 * h, 2 * w, c // 4)


def _fold_kernel(kernel: Array) -> Array:
    """`[K, K, C, C']` to `[(K+1)/2, (K+1)/2, 4C, 4C']`: the same convolution of folded images."""
    size, _, c, d = kernel.shape
    none = (0, 0)
    shifted = [
        [jnp.pad(kernel, ((p, 1 - p), (q, 1 - q), none, none)) for q in (0, 1)] for p in (0, 1)
    ]
    half = (size + 1) // 2
    kernels = jnp.stack([jnp.stack(row) for row in shifted]).reshape(2, 2, half, 2, half, 2, c, d)
    return kernels.transpose(2, 4, 3, 5, 6, 0, 1, 7).reshape(half, half, 4 * c, 4 * d)


@functools.partial(jax.jit, static_argnames='epsilon', inline=True)
def instance_norm(x: Array, scale: Array, bias: Array, *, epsilon: float = EPSILON) -> Array:
    """Normalizes each channel of each image over its pixels, then scales and shifts it.

    `x·rsqrt(var + ε)` keeps the gradient finite on constant channels, which `x/(std + ε)` does not.

    Args:
        x: `[N, H, W, C]`.
        scale: `[C]`, or `[N, C]` for each image its own.
        bias: likewise.
        epsilon: added to the variance.

    Returns:
        `[N, H, W, C]`.

    Source: Ulyanov et al. 2016, arXiv 1607.08022.
    """
    centered = x - jnp.mean(x, axis=(1, 2), keepdims=True)
    variance = jnp.mean(jnp.square(centered), axis=(1, 2), keepdims=True)
    normal = centered * jax.lax.rsqrt(variance + epsilon)
    scale, bias = (jnp.atleast_2d(leaf)[:, None, None] for leaf in (scale, bias))
    return normal * scale + bias


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
    return jax.lax.slice(x.reshape(n, 2 * h, 2 * w, c), (0,) * 4, (n, height, width, c))
