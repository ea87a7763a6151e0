"""A convolution whose derivatives of every order and mode are fast on XLA:CPU.

An image x, a kernel k and a cotangent g define a trilinear form,

    F(x, k, g) = Σ x[n, s·i + p, s·j + q, c] · k[p, q, c, d] · g[n, i, j, d],

where s is the stride and x is zero beyond its borders. The derivatives of F with respect to g, x
and k are the convolution, the image gradient and the kernel gradient.

Each of these three operations is bilinear, and its two transposes are the two other operations. So,
with the three as JAX primitives, derivatives of every order consist of the same three operations.
This module has one fast computation for each. XLA:CPU alone would compute the kernel gradient at a
fifth of the speed of the others.
"""

import jax
import jax.numpy as jnp

from metastyle_jax.core import jax_compat
from metastyle_jax.core.types import Array

_LAYOUT = ('NHWC', 'HWIO', 'NHWC')
_ROWS = ('NWC', 'WIO', 'NWC')
_FEW = 32  # with fewer channels than this, a matrix product with one column a channel is slow


def convolve(x: Array, kernel: Array, *, stride: int = 1, padding: int = 0) -> Array:
    """Convolves images: the derivative of F with respect to g.

    Args:
        x: `[N, H, W, C]`.
        kernel: `[K, K, C, D]`, no larger than the padded image.
        stride: s, for both axes.
        padding: number of zeros added on each side of x, at most K - 1.

    Returns:
        `[N, h, w, D]` with `h = (H + 2·padding - K) // s + 1` and `w` likewise.
    """
    return _convolve_p.bind(x, kernel, stride=stride, padding=padding)


def image_gradient(
    g: Array, kernel: Array, *, stride: int, padding: int, height: int, width: int
) -> Array:
    """Computes the derivative of F with respect to x.

    Args:
        g: `[N, h, w, D]`.
        kernel: `[K, K, C, D]`.
        stride: see `convolve`.
        padding: see `convolve`.
        height: height of x.
        width: width of x.

    Returns:
        `[N, height, width, C]`.
    """
    options = {'stride': stride, 'padding': padding, 'height': height, 'width': width}
    return _image_gradient_p.bind(g, kernel, **options)


def kernel_gradient(x: Array, g: Array, *, stride: int, padding: int, size: int) -> Array:
    """Computes the derivative of F with respect to k.

    Args:
        x: `[N, H, W, C]`.
        g: `[N, h, w, D]`.
        stride: see `convolve`.
        padding: see `convolve`.
        size: height and width of the kernel.

    Returns:
        `[size, size, C, D]`.
    """
    return _kernel_gradient_p.bind(x, g, stride=stride, padding=padding, size=size)


def _convolve(x: Array, kernel: Array, *, stride: int, padding: int) -> Array:
    """Computes `convolve` by XLA."""
    # XLA:CPU has a fast routine that it takes only if there is some padding. A convolution without
    # any ('VALID') may be 25 times slower. One row of zeros is added, and the row of results that
    # comes from it is dropped.
    rows = (padding, padding or 1)
    y = jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), (rows, (padding, padding)), dimension_numbers=_LAYOUT
    )
    return y[:, : (x.shape[1] + 2 * padding - kernel.shape[0]) // stride + 1]


def _image_gradient(
    g: Array, kernel: Array, *, stride: int, padding: int, height: int, width: int
) -> Array:
    """Computes `image_gradient` as a convolution of g with the flipped kernel.

    At a stride s, pixels of the image whose rows and columns have the same remainders modulo s form
    a phase. Each phase uses different taps of the kernel. One convolution computes all s² phases.
    """
    # JAX's own transpose of a convolution inserts zeros into g and multiplies by them. It also
    # swaps channels of the kernel by relabelling its axes, which XLA:CPU computes nine times slower
    # inside of a loop. Here the kernel is transposed as an array.
    size, _, channels, _ = kernel.shape
    taps = -(-size // stride)  # tap p of the kernel is tap p // stride of phase p % stride
    end = (0, stride * taps - size)
    phases = jnp.pad(kernel, (end, end, (0, 0), (0, 0)))
    phases = phases.reshape(taps, stride, taps, stride, channels, -1)[::-1, :, ::-1]
    turned = phases.transpose(0, 2, 5, 1, 3, 4).reshape(taps, taps, -1, stride**2 * channels)
    # The result consists of squares of s × s pixels. Squares that lie wholly in the padding of the
    # image are skipped; what else lies in the padding is cut off at the end.
    skipped, cut = divmod(padding, stride)
    rows, columns = (-(-(cut + side) // stride) for side in (height, width))
    low = taps - 1 - skipped
    pads = [
        (low, squares - small + skipped)
        for squares, small in zip((rows, columns), g.shape[1:3], strict=True)
    ]
    y = jax.lax.conv_general_dilated(g, turned, (1, 1), pads, dimension_numbers=_LAYOUT)
    y = y.reshape(-1, rows, columns, stride, stride, channels).transpose(0, 1, 3, 2, 4, 5)
    y = y.reshape(-1, stride * rows, stride * columns, channels)
    return y[:, cut : cut + height, cut : cut + width]


def _kernel_gradient(x: Array, g: Array, *, stride: int, padding: int, size: int) -> Array:
    """Computes `kernel_gradient` by a convolution along rows, with matrix products for the rest."""
    if padding:
        x = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    if stride == 1 and g.shape[3] < min(_FEW, x.shape[3]):
        return _slide_gradient(x, g, size)
    return _slide_image(x, g, stride, size)


def _slide_image(x: Array, g: Array, stride: int, size: int) -> Array:
    """Computes the kernel gradient by moving g over the rows of x.

    It is a one-dimensional convolution along the height: its batch are the channels of x, repeated
    for each column of the kernel; its channels are the pixels of one row in all images; its kernel
    is g.
    """
    n, h, w, d = g.shape
    rows = _channels_first(x)
    shifted = [rows[..., q : q + stride * (w - 1) + 1 : stride] for q in range(size)]
    moving = jnp.stack(shifted).reshape(size * x.shape[3], x.shape[1], n * w)
    y = jax.lax.conv_general_dilated(
        moving, _as_kernel(g), (1,), ((0, 0),), rhs_dilation=(stride,), dimension_numbers=_ROWS
    )
    return y[:, :size].reshape(size, x.shape[3], size, d).transpose(2, 0, 1, 3)


def _slide_gradient(x: Array, g: Array, size: int) -> Array:
    """Computes the kernel gradient by moving the rows of x over g, if g has few channels.

    The kernel of the one-dimensional convolution is x, whose many channels make a matrix product
    with enough columns.
    """
    n, h, w, d = g.shape
    _, height, width, channels = x.shape
    rows = _channels_first(g)
    edge = (size - 1, size - 1)
    shifted = [jnp.pad(rows, ((0, 0), edge, (0, 0), (q, width - w - q))) for q in range(size)]
    moving = jnp.stack(shifted).reshape(size * d, height + size - 1, n * width)
    y = jax.lax.conv_general_dilated(
        moving, _as_kernel(x), (1,), ((0, 0),), dimension_numbers=_ROWS
    )
    return y.reshape(size, d, size, channels)[:, :, ::-1].transpose(2, 0, 3, 1)


def _channels_first(x: Array) -> Array:
    """Transposes `[N, H, W, C]` to `[C, H, N, W]`."""
    # XLA:CPU fuses a plain transposition into the loop that reads the result, and that loop then
    # takes longer than the convolution itself. A product with the identity is not fused.
    identity = jnp.eye(x.shape[3], dtype=x.dtype)
    return jnp.einsum('dc,hnwc->dhnw', identity, x.transpose(1, 0, 2, 3), precision='highest')


def _as_kernel(x: Array) -> Array:
    """Transposes `[N, H, W, C]` to `[H, N·W, C]`, the kernel of a convolution along the height."""
    n, h, w, channels = x.shape
    return x.transpose(1, 0, 2, 3).reshape(h, n * w, channels)


_convolve_p = jax_compat.bilinear_primitive(_convolve)
_image_gradient_p = jax_compat.bilinear_primitive(_image_gradient)
_kernel_gradient_p = jax_compat.bilinear_primitive(_kernel_gradient)


def _image(g, k, x, stride, padding, **_):
    """Computes the image gradient; x is a placeholder that has only a shape."""
    height, width = x.aval.shape[1:3]
    return image_gradient(g, k, stride=stride, padding=padding, height=height, width=width)


def _kernel(x, g, k, stride, padding, **_):
    """Computes the kernel gradient; k is a placeholder that has only a shape."""
    return kernel_gradient(x, g, stride=stride, padding=padding, size=k.aval.shape[0])


def _forward(x, k, stride, padding, **_):
    """Convolves x with k; ignores the options that only gradients need."""
    return convolve(x, k, stride=stride, padding=padding)


# Rules for the derivatives. Each receives the cotangent of the result and both arguments. The
# argument whose cotangent it returns is a placeholder that has only a shape.
jax_compat.define_transposes(
    _convolve_p,
    lambda g, x, k, **options: _image(g, k, x, **options),
    lambda g, x, k, **options: _kernel(x, g, k, **options),
)
jax_compat.define_transposes(
    _image_gradient_p,
    lambda x, g, k, **options: _forward(x, k, **options),
    lambda x, g, k, **options: _kernel(x, g, k, **options),
)
jax_compat.define_transposes(
    _kernel_gradient_p,
    lambda k, x, g, **options: _image(g, k, x, **options),
    lambda k, x, g, **options: _forward(x, k, **options),
)
