"""Less flicker: what stays in the picture keeps its brush strokes from frame to frame.

Each frame is mixed with the one before it, carried along by the motion of the *input*, wherever
that motion is trusted. Strokes that do not lie upon each other would blur, so each band of detail
is then given back the local contrast that the network's own frame has there.
"""

import concurrent.futures
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metastyle_jax.core.errors import UserError
from metastyle_jax.core.types import Array
from metastyle_jax.stylization.video import optical_flow

SIDE = 240  # of the frames that motion is found on
BANDS = (1.0, 2.0)  # standard deviations, in pixels, that divide the bands of detail
GAIN = 2.5  # at most, of a band's contrast
_POOL = 4  # contrast is averaged over squares of so many pixels, and then over their neighbours


class State(NamedTuple):
    """What the next frame needs of the last.

    Attributes:
        made: `[H, W, 3] float32`, as it was shown.
        grey: `[h, w] float32`, the input, reduced.
    """

    made: np.ndarray
    grey: np.ndarray


class Steady:
    """Wraps a way to render frames; keeps the last one.

    Args:
        render: `[N, H, W, 3]` float32 in 0..1 to the same, for frames that follow each other.
        amount: share of the frame before, from 0 to below 1.

    Raises:
        UserError: the amount is another number.
    """

    def __init__(self, render: Callable[[np.ndarray], np.ndarray], amount: float) -> None:
        if not 0 <= amount < 1:
            raise UserError(f'--steady={amount}: it must be at least 0 and below 1')
        self._render, self._amount = render, amount
        self._last: State | None = None

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Renders frames that follow those of the last call."""
        greys = [optical_flow.reduced(frame, SIDE) for frame in pixels]
        if self._last is not None:
            greys.insert(0, self._last.grey)
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            moves = [
                pool.submit(optical_flow.find, *pair)
                for pair in zip(greys, greys[1:], strict=False)
            ]
            made = list(np.asarray(self._render(pixels), np.float32))
            found = [move.result() for move in moves]
        if self._last is not None:
            made.insert(0, self._last.made)
        for i, move in enumerate(found):
            made[i + 1] = np.asarray(follow(made[i], made[i + 1], move, self._amount))
        self._last = State(made[-1], greys[-1])
        return np.stack(made[-len(pixels) :])

    def state(self) -> dict[str, np.ndarray]:
        """What `restore` needs to go on after the last frame."""
        return {} if self._last is None else self._last._asdict()

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Goes on after the frame of which `state` told."""
        self._last = State(**state) if state else None


@functools.partial(jax.jit, inline=False)
def follow(before: Array, made: Array, move: optical_flow.Motion, amount: float) -> Array:
    """One frame that follows another.

    Args:
        before: `[H, W, 3]` in 0..1, the last frame as it was shown.
        made: `[H, W, 3]`, what the network makes of the frame.
        move: of the input, from this frame to the last.
        amount: share of the last frame where motion is trusted.

    Returns:
        `[H, W, 3]` in 0..1; `made` itself where motion is not trusted.
    """
    flow, trust = optical_flow.enlarged(move, *made.shape[:2])
    share = (amount * trust)[..., None]
    low, low_made = (1 - share) * made + share * optical_flow.warp(before, flow), made
    result = jnp.zeros_like(made)
    for sigma in BANDS:
        below, below_made = _blur(low, sigma), _blur(low_made, sigma)
        detail, wanted = low - below, low_made - below_made
        gain = jnp.sqrt((_contrast(wanted) + 1e-8) / (_contrast(detail) + 1e-8))
        result += jnp.clip(gain, 1, GAIN)[..., None] * detail
        low, low_made = below, below_made
    return jnp.clip(result + low, 0, 1)


def _contrast(detail: Array) -> Array:
    """Mean square of a band around each pixel: `[H, W, 3]` to `[H, W]`."""
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
    """A Gaussian over `[H, W, C]`, whose border is continued."""
    reach = round(3 * sigma)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    weights = (weights / weights.sum()).astype(np.float32)
    for axis in (0, 1):
        length = x.shape[axis]
        pad = [(reach, reach) if i == axis else (0, 0) for i in range(3)]
        y = jnp.pad(x, pad, mode='edge')
        parts = [jax.lax.slice_in_dim(y, i, i + length, axis=axis) for i in range(2 * reach + 1)]
        x = sum(weight * part for weight, part in zip(weights, parts, strict=True))
    return x
