"""Applies the transformer to pictures that are too large for one pass, strip by strip.

If tiles were stylized separately, they would differ in tone, because each instance norm would use
the mean and variance of one tile. So this module computes each layer for the whole picture before
the next layer:

1. The input of the layer, in main memory, is divided into strips of rows. Each strip is convolved
   together with the neighbouring rows that the kernel reaches, so borders of strips do not show.
2. Mean and variance of all strips are merged into those of the whole picture.
3. The normalization is applied when the next layer reads its input.

The result equals that of `transformer.apply` up to rounding, in half of the memory.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metastyle_jax.core.types import Array, Params
from metastyle_jax.models import cpu_convolution, layers

STRIP = 2**18  # pixels in a strip of a layer of full size
BYTES_PER_PIXEL = (
    400  # memory of one pass, divided by the pixels of the picture; XLA's count on CPU
)
ONE_PASS = 2 * 2**30  # bytes that one pass may take on a device that does not tell its memory


class _LayerOutput(NamedTuple):
    """Output of a layer whose norm is not applied yet.

    The value is `raw·scale + shift`, then a ReLU if `relu` is true.

    Attributes:
        raw: `[H, W, C]` float32, output of the convolution.
        scale: `[C]` float32.
        shift: `[C]` float32.
        relu: whether a ReLU follows.
    """

    raw: np.ndarray
    scale: np.ndarray
    shift: np.ndarray
    relu: bool


def fits(height: int, width: int) -> bool:
    """Whether one pass over a picture fits into memory.

    Args:
        height: height of the picture in pixels.
        width: width of the picture in pixels.

    Returns:
        True if the pass takes at most 60 % of the device's memory. If JAX does not know this
        memory, as on a CPU, the limit is `ONE_PASS` bytes.
    """
    stats = jax.devices()[0].memory_stats() or {}
    limit = int(0.6 * stats['bytes_limit']) if 'bytes_limit' in stats else ONE_PASS
    return height * width * BYTES_PER_PIXEL <= limit


def apply(
    params: Params,
    pixels: np.ndarray,
    *,
    strip: int = STRIP,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> np.ndarray:
    """Stylizes one picture strip by strip.

    Args:
        params: parameters of the transformer.
        pixels: `[H, W, 3]` float32 in 0..1.
        strip: number of pixels that are computed at once; rounded to whole rows.
        progress: function that is called after each strip, with the number of finished strips and
            the number of all strips.

    Returns:
        `[H, W, 3]` float32 in 0..1, equal to the result of `transformer.apply` up to rounding.
    """
    height, width = pixels.shape[:2]
    half, quarter = ((-(-height // n), -(-width // n)) for n in (2, 4))
    blocks = sum(name.startswith('block') for name in params)
    sizes = [(height, width), half, quarter, *[quarter] * 2 * blocks, half, *[(height, width)] * 2]
    total = sum(-(-rows // _rows(columns, strip)) for rows, columns in sizes)
    done = 0

    def tick() -> None:
        nonlocal done
        done += 1
        progress(done, total)

    layer = functools.partial(_layer, strip=strip, tick=tick)
    channels = pixels.shape[-1]
    x = _LayerOutput(
        pixels, np.ones(channels, np.float32), np.zeros(channels, np.float32), relu=False
    )
    x = layer(x, params['down1'], size=(height, width))
    x = layer(x, params['down2'], size=half, stride=2)
    x = layer(x, params['down3'], size=quarter, stride=2)
    for i in range(blocks):
        block = params[f'block{i + 1}']
        y = layer(layer(x, block['first'], size=quarter), block['second'], size=quarter)
        x = _add(x, y._replace(relu=False))
    x = layer(x, params['up1'], size=half, up=True)
    x = layer(x, params['up2'], size=(height, width), up=True)
    return layer(x, {'conv': params['out']}, size=(height, width)).raw


def _rows(columns: int, strip: int) -> int:
    """Returns the number of rows in a strip of `strip` pixels, for a layer of some width."""
    return max(1, strip // columns)


def _layer(
    x: _LayerOutput,
    params: Params,
    *,
    size: tuple[int, int],
    stride: int = 1,
    up: bool = False,
    strip: int,
    tick: Callable[[], None],
) -> _LayerOutput:
    """Computes one layer of the transformer for the whole picture, strip by strip.

    Args:
        x: input of the layer.
        params: `{'conv': …, 'norm': …}`; without 'norm' the layer is the last one, and a sigmoid
            follows its convolution.
        size: height and width of the output.
        stride: stride of the convolution.
        up: whether the input is upsampled by two before the convolution.
        strip: number of pixels in a strip.
        tick: function that is called after each strip.
    """
    kernel, bias = params['conv']['kernel'], params['conv']['bias']
    last = 'norm' not in params
    pad = kernel.shape[0] // 2
    height, width = size
    convolved = size if up else x.raw.shape[:2]  # size of the image that is padded and convolved

    def input_indices(begin: int, end: int, length: int) -> np.ndarray:
        """Returns the input indices along one axis that the outputs `begin` to `end` need."""
        indices = np.abs(np.arange(begin * stride - pad, (end - 1) * stride + pad + 1))
        # Reflection: an index beyond a border becomes its mirror image inside.
        indices = np.where(indices >= length, 2 * (length - 1) - indices, indices)
        return indices // 2 if up else indices

    columns = input_indices(0, width, convolved[1])
    out = np.empty((height, width, kernel.shape[-1]), np.float32)
    # Number, mean and squared deviations of the pixels so far, for each channel.
    count, mean, deviations = 0, np.zeros(kernel.shape[-1]), np.zeros(kernel.shape[-1])
    step = _rows(width, strip)
    for begin in range(0, height, step):
        end = min(height, begin + step)
        part = x.raw[np.ix_(input_indices(begin, end, convolved[0]), columns)]
        y, *moments = _convolve(
            part, x.scale, x.shift, kernel, bias, relu=x.relu, stride=stride, last=last
        )
        out[begin:end] = y
        # The formulas of Chan et al. 1983 merge the moments of two sets of pixels. The difference
        # E[y²] − E[y]² would lose its digits where the mean is much larger than the deviation.
        here, (strip_mean, strip_deviations) = (end - begin) * width, map(np.float64, moments)
        difference = strip_mean - mean
        deviations += strip_deviations + difference**2 * (count * here / (count + here))
        mean += difference * (here / (count + here))
        count += here
        tick()
    if last:
        return _LayerOutput(out, x.scale, x.shift, relu=False)
    # Normalization, scale and bias are one affine map of each channel.
    scale = np.asarray(params['norm']['scale']) / np.sqrt(deviations / count + layers.EPSILON)
    shift = np.asarray(params['norm']['bias']) - mean * scale
    return _LayerOutput(out, scale.astype(np.float32), shift.astype(np.float32), relu=True)


@functools.partial(jax.jit, static_argnames=('relu', 'stride', 'last'))
def _convolve(
    x: Array,
    scale: Array,
    shift: Array,
    kernel: Array,
    bias: Array,
    *,
    relu: bool,
    stride: int,
    last: bool,
) -> tuple[Array, Array, Array]:
    """Convolves one strip; `x` also has the rows and columns around it that the kernel reaches.

    Returns:
        The outputs `[h, w, C]`, their mean `[C]`, and the sum of their squared deviations from it.
    """
    x = x * scale[None, None] + shift[None, None]
    x = jax.nn.relu(x) if relu else x
    if jax.default_backend() == 'cpu':
        y = cpu_convolution.convolve(x[None], kernel, stride=stride)[0]
    else:
        y = jax.lax.conv_general_dilated(
            x[None], kernel, (stride, stride), 'VALID', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
        )[0]
    y = y + bias[None, None]
    y = jax.nn.sigmoid(y) if last else y
    mean = jnp.mean(y, (0, 1))
    return y, mean, jnp.sum(jnp.square(y - mean[None, None]), (0, 1))


def _add(x: _LayerOutput, y: _LayerOutput) -> _LayerOutput:
    """Adds y to x, and stores the sum in the memory of x; works on a few rows at a time."""
    for begin in range(0, len(x.raw), 256):
        rows = slice(begin, begin + 256)
        left = x.raw[rows] * x.scale + x.shift
        left = np.maximum(left, 0) if x.relu else left
        x.raw[rows] = left + (y.raw[rows] * y.scale + y.shift)
    return _LayerOutput(x.raw, np.ones_like(x.scale), np.zeros_like(x.shift), relu=False)
