"""The transformer on pictures of any size: layer by layer, strip by strip, with exact statistics.

Tiles that are stylized each by itself differ in tone, since instance norm takes its statistics from
what it sees. Here every layer is computed on strips of its whole input, with the neighbouring
rows that its kernel reaches, and kept in main memory; the statistics of all strips are merged, and
applied when the next layer reads. The result is that of one pass, at half of its memory.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metastyle_jax.core.types import Array, Params
from metastyle_jax.models import cpu_convolution, layers

STRIP = 2**18  # pixels of the largest layer that a strip has
BYTES_PER_PIXEL = 400  # of temporaries of one pass over a whole picture, by XLA's count on CPU
ONE_PASS = 2 * 2**30  # bytes that one pass may take


class _Map(NamedTuple):
    """A layer's output before its norm: `[H, W, C]`, to be read as `relu(raw·scale + shift)`."""

    raw: np.ndarray
    scale: np.ndarray
    shift: np.ndarray
    relu: bool


def fits(height: int, width: int) -> bool:
    """Whether one pass over a picture is within `ONE_PASS`, or within most of a GPU's memory."""
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
    """Stylizes one picture with bounded memory: about 190 bytes a pixel.

    Args:
        params: of the transformer.
        pixels: `[H, W, 3]` float32 in 0..1.
        strip: pixels that are computed at once, in whole rows.
        progress: is told after each strip how many are done, and how many there are.

    Returns:
        `[H, W, 3]` float32 in 0..1, what `transformer.apply` returns but for rounding.
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
    x = _Map(pixels, np.ones(channels, np.float32), np.zeros(channels, np.float32), relu=False)
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
    """Rows of a strip."""
    return max(1, strip // columns)


def _layer(
    x: _Map,
    params: Params,
    *,
    size: tuple[int, int],
    stride: int = 1,
    up: bool = False,
    strip: int,
    tick: Callable[[], None],
) -> _Map:
    """Reflection-padded convolution, after upsampling by two if asked for, and instance norm.

    Without parameters of a norm, the sigmoid of the convolution instead.
    """
    kernel, bias = params['conv']['kernel'], params['conv']['bias']
    last = 'norm' not in params
    pad = kernel.shape[0] // 2
    height, width = size
    seen = size if up else x.raw.shape[:2]  # of the image that is reflected

    def source(begin: int, end: int, length: int) -> np.ndarray:
        """Where outputs from begin to end find their inputs along an axis."""
        places = np.abs(np.arange(begin * stride - pad, (end - 1) * stride + pad + 1))
        places = np.where(places >= length, 2 * (length - 1) - places, places)
        return places // 2 if up else places

    columns = source(0, width, seen[1])
    out = np.empty((height, width, kernel.shape[-1]), np.float32)
    count, mean, spread = 0, np.zeros(kernel.shape[-1]), np.zeros(kernel.shape[-1])
    step = _rows(width, strip)
    for begin in range(0, height, step):
        end = min(height, begin + step)
        part = x.raw[np.ix_(source(begin, end, seen[0]), columns)]
        y, *moments = _convolve(
            part, x.scale, x.shift, kernel, bias, relu=x.relu, stride=stride, last=last
        )
        out[begin:end] = y
        # Chan et al.: the moments of strips make those of the whole, without cancellation.
        here, (middle, around) = (end - begin) * width, map(np.float64, moments)
        apart = middle - mean
        spread += around + apart**2 * (count * here / (count + here))
        mean += apart * (here / (count + here))
        count += here
        tick()
    if last:
        return _Map(out, x.scale, x.shift, relu=False)
    scale = np.asarray(params['norm']['scale']) / np.sqrt(spread / count + layers.EPSILON)
    shift = np.asarray(params['norm']['bias']) - mean * scale
    return _Map(out, scale.astype(np.float32), shift.astype(np.float32), relu=True)


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
    """One strip with its surroundings; also the mean and the squared deviations of its outputs."""
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


def _add(x: _Map, y: _Map) -> _Map:
    """The residual sum, in the memory of x."""
    for begin in range(0, len(x.raw), 256):
        rows = slice(begin, begin + 256)
        left = x.raw[rows] * x.scale + x.shift
        left = np.maximum(left, 0) if x.relu else left
        x.raw[rows] = left + (y.raw[rows] * y.scale + y.shift)
    return _Map(x.raw, np.ones_like(x.scale), np.zeros_like(x.shift), relu=False)
