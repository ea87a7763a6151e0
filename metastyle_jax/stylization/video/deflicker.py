"""Reduces the flicker of a stylized video: brush strokes move with the filmed objects.

Each output frame is mixed with the output frame before it, which is first warped along the motion
of the *input* video. The input is used because the stylized frames flicker, so their own motion
cannot be estimated well. Where the motion is not trusted, the network's output is not changed.

Strokes that do not lie exactly on each other blur when they are mixed. Each band of detail is
therefore amplified until its local contrast is that of the network's own output.
"""

import concurrent.futures
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metastyle_jax.core import checks
from metastyle_jax.core.types import Array
from metastyle_jax.stylization.video import optical_flow, pipeline

MOTION_SIDE = 240  # pixels of the longer side of the frames on which motion is estimated
BANDS = (1.0, 2.0)  # standard deviations, in pixels, of the Gaussians that separate the bands
MAX_GAIN = 2.5  # limit of the amplification of a band
# Where the brightness around a pixel differs by more than this after warping, the two frames show
# different things there, and the motion is not trusted.
MAX_CHANGE = 0.06
_POOL = 4  # contrast is averaged over squares of this side before it is smoothed


class LastFrame(NamedTuple):
    """What `Deflicker` remembers of a frame to compute the next one.

    Attributes:
        output: `[H, W, 3]` float32 in 0..1, the output frame after mixing.
        grey: `[h, w]` float32 in 0..1, brightness of the input frame at reduced size.
    """

    output: np.ndarray
    grey: np.ndarray


class Deflicker:
    """Wraps a renderer of frames, and mixes each output frame with the one before it.

    Args:
        render: renders consecutive frames; maps `[N, H, W, 3]` float32 in 0..1 to an array of the
            same shape, type and range.
        steady: share of the frame before in each output frame, from 0 to below 1.

    Raises:
        UserError: `steady` is out of range.
    """

    def __init__(self, render: pipeline.FrameRenderer, steady: float) -> None:
        checks.real_number('steady', steady, least=0, below=1)
        self._render, self._steady = render, steady
        self._last: LastFrame | None = None

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Renders the frames that follow those of the last call."""
        greys = [optical_flow.reduce_to_grey(frame, MOTION_SIDE) for frame in pixels]
        if self._last is not None:
            greys.insert(0, self._last.grey)
        # The motion needs the input alone, so it is estimated while the network runs.
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            futures = [
                pool.submit(optical_flow.estimate_motion, *pair, max_change=MAX_CHANGE)
                for pair in zip(greys, greys[1:], strict=False)
            ]
            outputs = list(np.asarray(self._render(pixels), np.float32))
            motions = [future.result() for future in futures]
        if self._last is not None:
            outputs.insert(0, self._last.output)
        for i, motion in enumerate(motions):
            outputs[i + 1] = np.asarray(
                mix_with_last(outputs[i], outputs[i + 1], motion, self._steady)
            )
        self._last = LastFrame(outputs[-1], greys[-1])
        return np.stack(outputs[-len(pixels) :])

    def state(self) -> dict[str, np.ndarray]:
        """Returns the arrays from which `restore` continues; none before the first frame."""
        return {} if self._last is None else self._last._asdict()

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Continues after the frame at which the method `state` returned the given state."""
        self._last = LastFrame(**state) if state else None


@functools.partial(jax.jit, inline=False)
def mix_with_last(last: Array, output: Array, motion: optical_flow.Motion, steady: float) -> Array:
    """Mixes a frame with the frame before it.

    Args:
        last: `[H, W, 3]` in 0..1, the frame before, as it was shown.
        output: `[H, W, 3]` in 0..1, the network's output for the frame.
        motion: motion of the input video, from this frame back to the one before.
        steady: share of the frame before, where the motion is trusted.

    Returns:
        `[H, W, 3]` in 0..1; `output` itself where the motion is not trusted.
    """
    flow, trust = optical_flow.enlarge_motion(motion, *output.shape[:2])
    share = (steady * trust)[..., None]
    mixed = (1 - share) * output + share * optical_flow.warp(last, flow)
    result = jnp.zeros_like(output)
    for sigma in BANDS:
        # The difference to the blurred image is one band of detail; the blurred image goes on to
        # the next, coarser band.
        mixed_below, output_below = _blur(mixed, sigma), _blur(output, sigma)
        detail, wanted = mixed - mixed_below, output - output_below
        gain = jnp.sqrt((_contrast(wanted) + 1e-8) / (_contrast(detail) + 1e-8))
        result += jnp.clip(gain, 1, MAX_GAIN)[..., None] * detail
        mixed, output = mixed_below, output_below
    return jnp.clip(result + mixed, 0, 1)


def _contrast(detail: Array) -> Array:
    """Mean square of a band of detail around each pixel: `[H, W, 3]` to `[H, W]`."""
    height, width, _ = detail.shape
    square = jnp.mean(jnp.square(detail), -1)
    pad = [(0, -length % _POOL) for length in (height, width)]
    square = jnp.pad(square, pad, mode='edge')
    rows, columns = (length // _POOL for length in square.shape)
    small = square.reshape(rows, _POOL, columns, _POOL).mean((1, 3))[..., None]
    small = _blur(small, 2.0)[..., 0]
    wide = jax.image.resize(small, square.shape, 'linear')
    return wide[:height, :width]


def _blur(x: Array, sigma: float) -> Array:
    """Gaussian blur of `[H, W, C]`; pixels at the border are repeated outside of the image."""
    reach = round(3 * sigma)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    weights = (weights / weights.sum()).astype(np.float32)
    # A Gaussian is separable: blur along the rows, then along the columns.
    for axis in (0, 1):
        length = x.shape[axis]
        pad = [(reach, reach) if i == axis else (0, 0) for i in range(3)]
        y = jnp.pad(x, pad, mode='edge')
        parts = [jax.lax.slice_in_dim(y, i, i + length, axis=axis) for i in range(2 * reach + 1)]
        x = sum(weight * part for weight, part in zip(weights, parts, strict=True))
    return x
