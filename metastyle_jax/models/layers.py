"""Layers of the two networks: convolutions, instance norm, upsampling.

Every function is pure, takes arrays `[N, H, W, C]` and keeps their dtype. A formulation is one of
several ways to compute the same result; which one is fastest depends on the backend. A layer that
is called outside of `jax.jit` is compiled as its own program; inside of `jax.jit`, it becomes part
of the caller's program.
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
# In an image upsampled by two, even and odd rows are two phases. Three rows of the upsampled image
# repeat two rows of the original, so three taps of a kernel add up to two.
# `_PHASES[phase, tap of two, tap of three]` is 1 where a tap of three belongs to a tap of two.
_PHASES = np.array([[[1, 0, 0], [0, 1, 1]], [[1, 1, 0], [0, 0, 1]]])


@functools.partial(jax.jit, static_argnames=('stride', 'formulation'), inline=True)
def reflect_conv(
    x: Array, kernel: Array, bias: Array, *, stride: int = 1, formulation: str | None = None
) -> Array:
    """Convolves images that are extended by reflection.

    With zero padding a stylized image would show a frame, since zeros are black.

    Args:
        x: `[N, H, W, C]`; both H and W larger than K / 2.
        kernel: `[K, K, C, C']` with K odd.
        bias: `[C']`.
        stride: 1 or 2.
        formulation: how the same result is computed. 'plain' convolves the extended image;
            'cropped' computes one row too many and drops it; 'blocked' moves squares of 2 × 2
            pixels into channels, for stride 1 and even H and W only. None chooses the fastest one
            on the current backend.

    Returns:
        `[N, ceil(H / stride), ceil(W / stride), C']`.

    Raises:
        UserError: the formulation is 'blocked', and the stride is 2 or H or W is odd.
    """
    size = kernel.shape[0]
    even = stride == 1 and x.shape[1] % 2 == x.shape[2] % 2 == 0
    if formulation is None:
        formulation = 'plain'
        if jax.default_backend() == 'cpu':
            # XLA:CPU is slow where a kernel has many taps and few channels. Folding turns it into a
            # kernel of fewer taps and four times the channels.
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
    """Convolves images that are extended by zeros, so that they keep their size.

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
    """Upsamples by two (nearest neighbour), then convolves with reflection padding.

    Args:
        x: `[N, H, W, C]`.
        kernel: `[3, 3, C, C']`.
        bias: `[C']`.
        height: height of the result, `2H` or `2H - 1`.
        width: width of the result, `2W` or `2W - 1`.
        formulation: how the same result is computed. 'phases', for even sizes only, computes the
            four pixels that replace each pixel by four 2×2 convolutions of the small image. It
            needs 4/9 of the arithmetic, and differs only by rounding. The formulations of
            `reflect_conv` upsample first and then convolve. None chooses the fastest one on the
            current backend.

    Returns:
        `[N, height, width, C']`.

    Raises:
        UserError: the formulation is 'phases', and the height or width is odd.

    Source: 'phases' is the sub-pixel convolution of Shi et al. 2016, arXiv 1609.05158.
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
    # Beyond the border, reflection of the upsampled image repeats its second row. That row equals
    # the first one, so in the small image the border pixels repeat themselves.
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode='edge')
    y = cpu_convolution.convolve(x, kernels.reshape(2, 2, channels, -1))
    y = y.reshape(n, h + 1, w + 1, 2, 2, -1)
    rows = [jnp.stack([y[:, p : p + h, q : q + w, p, q] for q in (0, 1)], 3) for p in (0, 1)]
    return jnp.stack(rows, 2).reshape(n, height, width, -1) + bias[None, None, None]


def reflect(x: Array, pad: int) -> Array:
    """Extends images by reflection, without repeating the border pixels.

    Args:
        x: `[N, H, W, C]`.
        pad: number of pixels to add on each side, less than H and W.

    Returns:
        `[N, H + 2·pad, W + 2·pad, C]`.
    """
    # Slices and a concatenation, since their gradient is faster than the gradient of `jnp.pad`.
    for axis in (1, 2):
        size = x.shape[axis]
        before = jax.lax.slice_in_dim(x, 1, pad + 1, axis=axis)
        after = jax.lax.slice_in_dim(x, size - pad - 1, size - 1, axis=axis)
        before, after = (jax.lax.rev(part, (axis,)) for part in (before, after))
        x = jax.lax.concatenate([before, x, after], axis)
    return x


def _fold(x: Array) -> Array:
    """Moves each square of 2 × 2 pixels into channels: `[N, 2H, 2W, C]` to `[N, H, W, 4C]`."""
    n, h, w, c = x.shape
    x = x.reshape(n, h // 2, 2, w // 2, 2, c)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(n, h // 2, w // 2, 4 * c)


def _unfold(x: Array) -> Array:
    """Moves channels back into squares of 2 × 2 pixels: the inverse of `_fold`."""
    n, h, w, c = x.shape
    x = x.reshape(n, h, w, 2, 2, c // 4).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(n, 2 * h, 2 * w, c // 4)


def _fold_kernel(kernel: Array) -> Array:
    """Converts a kernel for images to the equivalent kernel for images from `_fold`.

    Returns:
        `[(K+1)/2, (K+1)/2, 4C, 4C']`.
    """
    # The four output pixels (p, q) of a square see the kernel shifted by p rows and q columns.
    # Padded to an even size, each shifted kernel folds like an image.
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

        y = scale · (x − mean) / √(var + ε) + bias

    Args:
        x: `[N, H, W, C]`.
        scale: `[C]`, or `[N, C]` for a different scale of each image.
        bias: `[C]`, or `[N, C]` for a different bias of each image.
        epsilon: ε, added to the variance.

    Returns:
        `[N, H, W, C]`.

    Source: Ulyanov et al. 2016, arXiv 1607.08022.
    """
    centered = x - jnp.mean(x, axis=(1, 2), keepdims=True)
    variance = jnp.mean(jnp.square(centered), axis=(1, 2), keepdims=True)
    # ε stands under the root. In `x / (std + ε)` the gradient of the root would be infinite on a
    # constant channel.
    normal = centered * jax.lax.rsqrt(variance + epsilon)
    scale, bias = (jnp.atleast_2d(leaf)[:, None, None] for leaf in (scale, bias))
    return normal * scale + bias


def upsample(x: Array, *, height: int, width: int) -> Array:
    """Repeats each pixel twice along both axes, and crops the result to a size.

    Args:
        x: `[N, H, W, C]`.
        height: height of the result, `2H` or `2H - 1`.
        width: width of the result, `2W` or `2W - 1`.

    Returns:
        `[N, height, width, C]`.
    """
    n, h, w, c = x.shape
    x = jnp.broadcast_to(x[:, :, None, :, None], (n, h, 2, w, 2, c))
    return jax.lax.slice(x.reshape(n, 2 * h, 2 * w, c), (0,) * 4, (n, height, width, c))
