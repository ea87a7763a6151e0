"""Motion between two frames: where each pixel was before, and how sure that is.

The flow is found on frames of reduced size, by total variation and an L1 norm of scikit-image.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.ndimage
import skimage.registration
import skimage.transform

from metastyle_jax.core.types import Array

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
CHANGE = 0.06  # of brightness, over a few pixels: above it, the frame shows something else


class Motion(NamedTuple):
    """From a frame back to the one before it.

    Attributes:
        flow: `[2, h, w] float32`, in pixels of this size: what is at `p` was at `p + flow[:, p]`.
        trust: `[h, w] float32` in 0..1: 0 where a pixel was hidden, outside, or has changed.
    """

    flow: np.ndarray
    trust: np.ndarray


def reduced(frame: np.ndarray, side: int) -> np.ndarray:
    """`[H, W, 3]` in 0..1 as grey, `[h, w] float32`, the longer side at most `side` pixels."""
    grey = frame @ LUMA
    share = side / max(grey.shape)
    if share >= 1:
        return grey.astype(np.float32)
    size = [max(1, round(share * length)) for length in grey.shape]
    return skimage.transform.resize(grey, size, anti_aliasing=True).astype(np.float32)


def find(before: np.ndarray, now: np.ndarray, *, fine: bool = False) -> Motion:
    """Finds motion between two grey frames.

    A pixel is trusted where going back and forth leads to where one began, and brightness has
    stayed.

    Args:
        before: `[h, w] float32` in 0..1.
        now: of the same shape.
        fine: several times slower and somewhat better.

    Returns:
        From `now` to `before`.

    Source: Zach, Pock and Bischof 2007 for the flow; Sundaram, Brox and Keutzer 2010 for the check
    in both directions and its constants.
    """
    how = {} if fine else {'num_warp': 3, 'num_iter': 5}
    back, forth = (
        np.stack(skimage.registration.optical_flow_tvl1(*pair, **how)).astype(np.float32)
        for pair in ((now, before), (before, now))
    )
    place = np.mgrid[: now.shape[0], : now.shape[1]] + back
    returned = np.stack([_at(part, place) for part in forth])
    lost = ((back + returned) ** 2).sum(0) > 0.01 * (back**2 + returned**2).sum(0) + 0.5
    limit = np.reshape(now.shape, (2, 1, 1)) - 1
    outside = ((place < 0) | (place > limit)).any(0)
    change = scipy.ndimage.gaussian_filter(np.abs(_at(before, place) - now), 2.0)
    trust = np.clip(2 - change / CHANGE, 0, 1)
    trust[lost | outside] = 0
    return Motion(back, trust.astype(np.float32))


def _at(image: np.ndarray, place: np.ndarray) -> np.ndarray:
    return scipy.ndimage.map_coordinates(image, place, order=1, mode='nearest')


def enlarged(motion: Motion, height: int, width: int) -> tuple[Array, Array]:
    """Flow `[2, H, W]` in pixels of the new size, and trust `[H, W]`."""
    h, w = motion.trust.shape
    flow = jax.image.resize(motion.flow, (2, height, width), 'linear')
    scale = jnp.array([height / h, width / w], jnp.float32)[:, None, None]
    return flow * scale, jax.image.resize(motion.trust, (height, width), 'linear')


def warp(image: Array, flow: Array) -> Array:
    """Takes each pixel from where it was, by cubic convolution, which blurs little.

    Args:
        image: `[H, W, C]`.
        flow: `[2, H, W]` in pixels.

    Returns:
        `[H, W, C]`: at `p` the image at `p + flow[:, p]`, its border continued outwards.

    Source: Keys 1981, with a = -1/2.
    """
    height, width, _ = image.shape
    y = jnp.arange(height, dtype=jnp.float32)[:, None] + flow[0]
    x = jnp.arange(width, dtype=jnp.float32)[None, :] + flow[1]
    top, left = jnp.floor(y), jnp.floor(x)
    result = jnp.zeros_like(image)
    for i, down in enumerate(_cubic(y - top)):
        row = jnp.clip(top.astype(jnp.int32) + i - 1, 0, height - 1)
        for j, across in enumerate(_cubic(x - left)):
            column = jnp.clip(left.astype(jnp.int32) + j - 1, 0, width - 1)
            result += (down * across)[..., None] * image[row, column]
    return result


def _cubic(t: Array) -> tuple[Array, Array, Array, Array]:
    """Weights of the four neighbours of a point at `t` in 0..1 between the middle two."""
    return (
        ((2 - t) * t - 1) * t / 2,
        ((3 * t - 5) * t * t + 2) / 2,
        ((4 - 3 * t) * t + 1) * t / 2,
        (t - 1) * t * t / 2,
    )
