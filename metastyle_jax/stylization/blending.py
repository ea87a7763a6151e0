"""Between styles, and between a style and the photograph.

Source: Zhang, Zhu and Zhu 2019, arXiv 1812.05233: convex combinations of adapted parameters.
"""

import math
from collections.abc import Sequence

import jax
import numpy as np
import scipy.ndimage

from metastyle_jax.core.errors import UserError
from metastyle_jax.core.types import Params

_MASK_ERROR = 0.02  # of a sum of masks: eight bits, and what JPEG does to them


def check_weights(weights: Sequence[float], count: int) -> None:
    """Raises UserError unless there is one weight a style, none negative, of the sum 1."""
    shown = ','.join(f'{weight:g}' for weight in weights)
    if len(weights) != count:
        raise UserError(f'--weights={shown}: {count} styles need {count} weights')
    if not all(weight >= 0 for weight in weights):
        raise UserError(f'--weights={shown}: none may be negative')
    if not math.isclose(sum(weights), 1.0, abs_tol=1e-6):
        raise UserError(f'--weights={shown}: their sum is {sum(weights):g}, it must be 1')


def blend(networks: Sequence[Params], weights: Sequence[float]) -> Params:
    """A convex combination of networks that were adapted from one θ.

    Args:
        networks: parameters of each style.
        weights: one for each, not negative, of the sum 1.

    Returns:
        Parameters of the blend.

    Raises:
        UserError: the weights are none of this kind, or networks differ in shape.
    """
    check_weights(weights, len(networks))
    shapes = [jax.tree.map(np.shape, network) for network in networks]
    if any(shape != shapes[0] for shape in shapes):
        raise UserError('the styles are of networks of different sizes: they cannot be blended')
    return jax.tree.map(
        lambda *leaves: sum(weight * leaf for weight, leaf in zip(weights, leaves, strict=True)),
        *networks,
    )


def corners(count: int, across: int) -> list[list[list[float]]]:
    """Weights of a strip between two styles, or of a square grid between four.

    Args:
        count: of styles, 2 or 4.
        across: pictures in a row, at least 2.

    Returns:
        Rows of weights; the four styles are at the corners, in the order in which one reads.

    Raises:
        UserError: for another number of styles, or too few pictures.
    """
    if count not in (2, 4):
        raise UserError(f'{count} style(s): --grid needs two, for a strip, or four')
    if across < 2:
        raise UserError(f'--grid={across}: it must be at least 2')
    along = [i / (across - 1) for i in range(across)]
    if count == 2:
        return [[[1 - x, x] for x in along]]
    return [[[(1 - x) * (1 - y), x * (1 - y), (1 - x) * y, x * y] for x in along] for y in along]


def tour(count: int, frames: int) -> list[list[float]]:
    """Weights of an animation from style to style and back to the first, at an even pace.

    Args:
        count: of styles, at least 2.
        frames: of the animation, at least one a style.

    Returns:
        Weights for each frame, one for each style.

    Raises:
        UserError: too few styles or frames.
    """
    if count < 2 or frames < count:
        raise UserError(
            f'--animate={frames} with {count} style(s): it needs two styles or more, and at least '
            'a frame for each'
        )
    found = []
    for i in range(frames):
        place = i * count / frames
        first, share = int(place), place % 1.0
        weights = [0.0] * count
        weights[first] += 1 - share
        weights[(first + 1) % count] += share
        found.append(weights)
    return found


def regions(masks: Sequence[np.ndarray], *, count: int, feather: float) -> np.ndarray:
    """Shares of the styles in each pixel.

    Args:
        masks: `[H, W]` float in 0..1, of one size: one for each style, or one less, in which case
            the first style takes what the others leave.
        count: of styles, at least 2.
        feather: softness of the edges, the standard deviation of a Gaussian as a share of the
            shorter side; 0 keeps the masks as they are.

    Returns:
        `[count, H, W]` float32, whose sum is 1 everywhere.

    Raises:
        UserError: a wrong number of masks, different sizes, gaps or overlaps.
    """
    if count < 2 or len(masks) not in (count - 1, count):
        raise UserError(
            f'{len(masks)} mask(s) for {count} style(s): give one for each style, or one less, and '
            'the first style takes the rest'
        )
    if any(mask.shape != masks[0].shape for mask in masks):
        shapes = ', '.join(f'{mask.shape[1]} x {mask.shape[0]}' for mask in masks)
        raise UserError(f'the masks have sizes {shapes}: they must be of one')
    if not 0 <= feather < 1:
        raise UserError(f'feather={feather}: it must be at least 0 and below 1')
    shares = np.stack([np.asarray(mask, np.float32) for mask in masks])
    total = shares.sum(0)
    if total.max() > 1 + _MASK_ERROR:
        raise UserError(f'the masks overlap: their sum is up to {total.max():.2f}, above 1')
    if len(masks) < count:
        shares = np.concatenate([np.maximum(1 - total, 0)[None], shares])
    elif total.min() < 1 - _MASK_ERROR:
        share = np.mean(total < 1 - _MASK_ERROR)
        raise UserError(
            f'the masks leave a gap of {100 * share:.1f} % of the pixels: close it, or leave out '
            'the mask of the first style, which then takes the rest'
        )
    sigma = feather * min(shares.shape[1:])
    if sigma:
        shares = scipy.ndimage.gaussian_filter(shares, (0, sigma, sigma), mode='nearest')
    return shares / shares.sum(0)
