"""Estimates the motion between two video frames, and warps a frame along it.

The flow is estimated on frames of reduced size by scikit-image's TV-L1 method.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.ndimage
import skimage.registration
import skimage.transform

from metastyle_jax.core.types import Array

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # weights of R, G and B in brightness (BT.601)


class Motion(NamedTuple):
    """Motion from a frame back to the frame before it.

    Attributes:
        flow: `[2, h, w]` float32, in pixels of an `[h, w]` frame: the point that is at `p` now was
            at `p + flow[:, p]` in the frame before.
        trust: `[h, w]` float32 in 0..1. It is 0 where the point was hidden or outside of the frame
            before, or where its brightness has changed.
    """

    flow: np.ndarray
    trust: np.ndarray


def reduce_to_grey(frame: np.ndarray, side: int) -> np.ndarray:
    """Converts a frame to brightness and reduces its longer side to at most `side` pixels.

    Args:
        frame: `[H, W, 3]` float32 in 0..1.
        side: limit of the longer side in pixels.

    Returns:
        `[h, w]` float32 in 0..1.
    """
    grey = frame @ LUMA
    scale = side / max(grey.shape)
    if scale >= 1:
        return grey.astype(np.float32)
    size = [max(1, round(scale * length)) for length in grey.shape]
    return skimage.transform.resize(grey, size, anti_aliasing=True).astype(np.float32)


def estimate_motion(
    before: np.ndarray, now: np.ndarray, *, max_change: float, fine: bool = False
) -> Motion:
    """Estimates the motion between two grey frames.

    The flow is estimated in both directions. A pixel is trusted if the flow back and then forth
    leads to the pixel again, and if its brightness has not changed.

    Args:
        before: `[h, w]` float32 in 0..1.
        now: the next frame, of the same shape.
        max_change: a pixel is fully trusted if its brightness differs by at most this after
            warping. From twice this difference on, it is not trusted at all.
        fine: whether to take more iterations, which is slower and more accurate.

    Returns:
        The motion from `now` back to `before`.

    Source: Zach, Pock and Bischof 2007 for the flow; Sundaram, Brox and Keutzer 2010 for the check
    in both directions and its constants.
    """
    iterations = {} if fine else {'num_warp': 3, 'num_iter': 5}
    back, forth = (
        np.stack(skimage.registration.optical_flow_tvl1(*pair, **iterations)).astype(np.float32)
        for pair in ((now, before), (before, now))
    )
    origin = np.mgrid[: now.shape[0], : now.shape[1]] + back
    # Without occlusion, going forth from the origin undoes going back: back + returned = 0. The
    # tolerance grows with the length of the motion.
    returned = np.stack([_sample(part, origin) for part in forth])
    occluded = ((back + returned) ** 2).sum(0) > 0.01 * (back**2 + returned**2).sum(0) + 0.5
    limit = np.reshape(now.shape, (2, 1, 1)) - 1
    outside = ((origin < 0) | (origin > limit)).any(0)
    change = scipy.ndimage.gaussian_filter(np.abs(_sample(before, origin) - now), 2.0)
    trust = np.clip(2 - change / max_change, 0, 1)
    trust[occluded | outside] = 0
    return Motion(back, trust.astype(np.float32))


def _sample(image: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Interpolates an image `[h, w]` bilinearly at the points `[2, h, w]`."""
    return scipy.ndimage.map_coordinates(image, points, order=1, mode='nearest')


def enlarge_motion(motion: Motion, height: int, width: int) -> tuple[Array, Array]:
    """Resizes an optical flow to the size of a frame, and scales its vectors with it.

    Args:
        motion: motion of any size.
        height: height of the frame in pixels.
        width: width of the frame in pixels.

    Returns:
        The flow `[2, H, W]` in pixels of the frame, and the trust `[H, W]`.
    """
    h, w = motion.trust.shape
    flow = jax.image.resize(motion.flow, (2, height, width), 'linear')
    scale = jnp.array([height / h, width / w], jnp.float32)[:, None, None]
    return flow * scale, jax.image.resize(motion.trust, (height, width), 'linear')


def warp(image: Array, flow: Array) -> Array:
    """Moves an image along a flow, with cubic interpolation.

    Cubic convolution blurs less than bilinear interpolation; the blur would add up from frame to
    frame.

    Args:
        image: `[H, W, C]`.
        flow: `[2, H, W]` in pixels.

    Returns:
        `[H, W, C]`: at the point `p`, the value of the image at `p + flow[:, p]`. Points outside of
        the image take the value of the nearest pixel.

    Source: Keys 1981, with a = -1/2.
    """
    height, width, _ = image.shape
    y = jnp.arange(height, dtype=jnp.float32)[:, None] + flow[0]
    x = jnp.arange(width, dtype=jnp.float32)[None, :] + flow[1]
    top, left = jnp.floor(y), jnp.floor(x)
    result = jnp.zeros_like(image)
    for i, row_weight in enumerate(_cubic_weights(y - top)):
        row = jnp.clip(top.astype(jnp.int32) + i - 1, 0, height - 1)
        for j, column_weight in enumerate(_cubic_weights(x - left)):
            column = jnp.clip(left.astype(jnp.int32) + j - 1, 0, width - 1)
            result += (row_weight * column_weight)[..., None] * image[row, column]
    return result


def _cubic_weights(t: Array) -> tuple[Array, Array, Array, Array]:
    """Weights of four samples for a point at `t` in 0..1 between the middle two of them."""
    return (
        ((2 - t) * t - 1) * t / 2,
        ((3 * t - 5) * t * t + 2) / 2,
        ((4 - 3 * t) * t + 1) * t / 2,
        (t - 1) * t * t / 2,
    )
