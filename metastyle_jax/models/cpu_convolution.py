"""A convolution for XLA:CPU that is fast, and so are its derivatives of every order and mode.

An image x, a kernel k and a gradient g enter one trilinear form,

    F(x, k, g) = Σ x[n, s·i + p, s·j + q, c] · k[p, q, c, d] · g[n, i, j, d],

where x is zero beyond its borders. Its derivatives in g, x and k are the convolution, the image
gradient and the kernel gradient.
Each of the three is bilinear, and its transposes are the two others. As JAX primitives they stay
among themselves under any differentiation, so it is enough to say for each how it is computed:
XLA:CPU leaves the kernel gradient at a fifth of the rate of the others.
"""

import jax
import jax.numpy as jnp

from metastyle_jax.core import jax_compat
from metastyle_jax.core.types import Array

_LAYOUT = ('NHWC', 'HWIO', 'NHWC')
_ROWS = ('NWC', 'WIO', 'NWC')
_FEW = 32  # channels that are too few to be the columns of a matrix product


def convolve(x: Array, kernel: Array, *, stride: int = 1, padding: int = 0) -> Array:
    """Convolution: the derivative of F in g.

    Args:
        x: `[N, H, W, C]`.
        kernel: `[K, K, C, D]`, no larger than the extended image.
        stride: s, of both axes.
        padding: zeros that extend x on each side, at most K - 1.

    Returns:
        `[N, h, w, D]` with `h = (H + 2·padding - K) // s + 1` and `w` likewise.
    """
    return _convolve_p.bind(x, kernel, stride=stride, padding=padding)


def image_gradient(
    g: Array, kernel: Array, *, stride: int, padding: int, height: int, width: int
) -> Array:
    """The derivative of F in x: `[N, height, width, C]` of `[N, h, w, D]` and `[K, K, C, D]`."""
    options = {'stride': stride, 'padding': padding, 'height': height, 'width': width}
    return _image_gradient_p.bind(g, kernel, **options)


def kernel_gradient(x: Array, g: Array, *, stride: int, padding: int, size: int) -> Array:
    """The derivative of F in k: `[size, size, C, D]` of `[N, H, W, C]` and `[N, h, w, D]`."""
    return _kernel_gradient_p.bind(x, g, stride=stride, padding=padding, size=size)


def _convolve(x: Array, kernel: Array, *, stride: int, padding: int) -> Array:
    """Adds a row of zeros where there is no padding: XLA:CPU is up to 25 times slower without."""
    rows = (padding, padding or 1)
    y = jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), (rows, (padding, padding)), dimension_numbers=_LAYOUT
    )
    return y[:, : (x.shape[1] + 2 * padding - kernel.shape[0]) // stride + 1]


def _image_gradient(
    g: Array, kernel: Array, *, stride: int, padding: int, height: int, width: int
) -> Array:
    """Convolves with the kernel turned around, for each of the stride² phases of the image at once.

    JAX's own transpose swaps the kernel's channels by naming its axes otherwise, which makes
    XLA:CPU nine times slower inside of a compiled loop, and it multiplies by zeros.
    """
    size, _, channels, _ = kernel.shape
    taps = -(-size // stride)  # tap p of the kernel is tap p // stride of phase p % stride
    end = (0, stride * taps - size)
    phases = jnp.pad(kernel, (end, end, (0, 0), (0, 0)))
    phases = phases.reshape(taps, stride, taps, stride, channels, -1)[::-1, :, ::-1]
    turned = phases.transpose(0, 2, 5, 1, 3, 4).reshape(taps, taps, -1, stride**2 * channels)
    # Squares of stride² pixels that the image needs, but for those wholly in the padding.
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
    """Slides the rows of one array over those of the other, all else a matrix product."""
    if padding:
        x = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    if stride == 1 and g.shape[3] < min(_FEW, x.shape[3]):
        return _slide_gradient(x, g, size)
    return _slide_image(x, g, stride, size)


def _slide_image(x: Array, g: Array, stride: int, size: int) -> Array:
    """Kernel gradient as a convolution along the rows of x, with g for its kernel.

    Its batch are the channels of x, once for each column of the kernel; a row's pixels in all
    images are its channels.
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
    """The same with the roles exchanged, for a g of few channels."""
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
    """`[N, H, W, C]` to `[C, H, N, W]`.

    By a product with the identity: of a transposition XLA:CPU makes a part of the loop that reads
    the result, which then takes twice as long as the convolution itself.
    """
    identity = jnp.eye(x.shape[3], dtype=x.dtype)
    return jnp.einsum('dc,hnwc->dhnw', identity, x.transpose(1, 0, 2, 3), precision='highest')


def _as_kernel(x: Array) -> Array:
    """`[N, H, W, C]` to `[H, N·W, C]`, the kernel of a convolution along rows."""
    n, h, w, channels = x.shape
    return x.transpose(1, 0, 2, 3).reshape(h, n * w, channels)


_convolve_p = jax_compat.bilinear_primitive(_convolve)
_image_gradient_p = jax_compat.bilinear_primitive(_image_gradient)
_kernel_gradient_p = jax_compat.bilinear_primitive(_kernel_gradient)


def _image(g, k, x, stride, padding, **_):
    """Image gradient for an image that is known by its shape alone."""
    height, width = x.aval.shape[1:3]
    return image_gradient(g, k, stride=stride, padding=padding, height=height, width=width)


def _kernel(x, g, k, stride, padding, **_):
    """Kernel gradient for a kernel that is known by its shape alone."""
    return kernel_gradient(x, g, stride=stride, padding=padding, size=k.aval.shape[0])


def _forward(x, k, stride, padding, **_):
    """Convolution with the options of a gradient."""
    return convolve(x, k, stride=stride, padding=padding)


# Each rule gets the cotangent of the result and both arguments; the one that it transposes in is a
# placeholder with a shape.
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
