"""Blends of styles: convex combinations of the parameters of adapted networks.

Source: Zhang, Zhu and Zhu 2019, arXiv 1812.05233, on the interpolation of styles.
"""

import math
from collections.abc import Sequence

import jax
import numpy as np

from metastyle_jax.core import checks
from metastyle_jax.core.errors import UserError
from metastyle_jax.core.types import Params


def check_weights(weights: Sequence[float], count: int) -> None:
    """Raises UserError unless there are `count` weights that are not negative and sum to 1."""
    shown = ','.join(f'{weight:g}' for weight in weights)
    if len(weights) != count:
        raise UserError(f'weights={shown}: {count} styles need {count} weights')
    if not all(weight >= 0 for weight in weights):
        raise UserError(f'weights={shown}: none may be negative')
    if not math.isclose(sum(weights), 1.0, abs_tol=1e-6):
        raise UserError(f'weights={shown}: their sum is {sum(weights):g}, it must be 1')


def blend(networks: Sequence[Params], weights: Sequence[float]) -> Params:
    """Blends networks that were adapted from one θ: Σ αᵢ wᵢ.

    Args:
        networks: the parameters wᵢ of the network of each style.
        weights: a weight αᵢ for each network; not negative, with the sum 1.

    Returns:
        The parameters of the blend.

    Raises:
        UserError: the weights are invalid, or the networks differ in shape.
    """
    check_weights(weights, len(networks))
    shapes = [jax.tree.map(np.shape, network) for network in networks]
    if any(shape != shapes[0] for shape in shapes):
        raise UserError(
            'the styles belong to networks of different sizes, so they cannot be blended'
        )
    return jax.tree.map(
        lambda *leaves: sum(weight * leaf for weight, leaf in zip(weights, leaves, strict=True)),
        *networks,
    )


def grid_weights(count: int, across: int) -> list[list[list[float]]]:
    """Computes the weights of a row of blends between two styles, or of a square between four.

    Args:
        count: number of styles, 2 or 4.
        across: number of blends in a row, at least 2.

    Returns:
        The weights of the styles as `[row][column][style]`. Four styles are at the corners: top
        left, top right, bottom left, bottom right.

    Raises:
        UserError: `count` is neither 2 nor 4, or `across` is below 2.
    """
    if count not in (2, 4):
        raise UserError(
            f'across={across} with {count} style(s): a grid needs two styles, for a strip, or four'
        )
    checks.whole_number('across', across, 2)
    along = [i / (across - 1) for i in range(across)]
    if count == 2:
        return [[[1 - x, x] for x in along]]
    return [[[(1 - x) * (1 - y), x * (1 - y), (1 - x) * y, x * y] for x in along] for y in along]


def tour_weights(count: int, frames: int) -> list[list[float]]:
    """Computes the weights of an animation that goes from style to style, and back to the first.

    Args:
        count: number of styles, at least 2.
        frames: number of frames, at least one for each style.

    Returns:
        The weights of the styles as `[frame][style]`. The blend changes at a constant speed.

    Raises:
        UserError: there are too few styles or frames.
    """
    if count < 2 or frames < count:
        raise UserError(
            f'frames={frames} with {count} style(s): an animation needs at least two styles, and '
            'at least one frame for each'
        )
    tour = []
    for i in range(frames):
        place = i * count / frames
        first, share = int(place), place % 1.0
        weights = [0.0] * count
        weights[first] += 1 - share
        weights[(first + 1) % count] += share
        tour.append(weights)
    return tour
