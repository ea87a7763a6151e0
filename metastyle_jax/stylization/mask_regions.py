"""Reads masks, which say where in a picture each of several styles is used."""

import os
from collections.abc import Sequence

import numpy as np

from metastyle_jax.core import checks
from metastyle_jax.core.errors import UserError
from metastyle_jax.data.images import image_inputs, resizing

FEATHER = 0.01  # default softness of the regions' edges, see `shares_of_styles`
# Eight bits and JPEG change the values of a mask a little, so masks do not add up to exactly 1.
_SUM_TOLERANCE = 0.02


def read_masks(
    masks: Sequence[image_inputs.ImageLike], size: tuple[int, int], new_size: tuple[int, int]
) -> list[np.ndarray]:
    """Reads masks, and resizes them as the image was resized.

    Args:
        masks: grey pictures in any form that `image_inputs.as_rgb` accepts, or arrays `[H, W]`
            float in 0..1.
        size: height and width of the image before it is resized; each mask must have this size.
        new_size: height and width of the image after it is resized.

    Returns:
        `[H', W']` float32 in 0..1 for each mask.

    Raises:
        UserError: a mask cannot be read, has another size or shape, or has values outside of 0..1.
    """
    greys = []
    for i, mask in enumerate(masks):
        name = str(mask) if isinstance(mask, str | os.PathLike) else f'mask {i + 1}'
        found: tuple[int, ...]
        if hasattr(mask, 'ndim'):  # an array of NumPy or JAX
            grey = np.asarray(mask, np.float32)
            found = grey.shape
        else:
            found = image_inputs.size_of(mask, name=name)
            target = new_size if found == size else found
            grey = image_inputs.as_rgb(mask, name=name, target=lambda *_, to=target: to).mean(-1)
        if grey.ndim != 2 or not np.all((grey >= 0) & (grey <= 1)):
            raise UserError(f'{name} is no mask: give [H, W] with values in 0..1')
        if found != size:
            raise UserError(
                f'{name} has {found[1]} x {found[0]} pixels and the image '
                f'{size[1]} x {size[0]}: make them the same size'
            )
        greys.append(resizing.resize(grey, *new_size))
    return greys


def shares_of_styles(masks: Sequence[np.ndarray], *, count: int, feather: float) -> np.ndarray:
    """Computes from masks how much of each style each pixel gets.

    Args:
        masks: `[H, W]` float in 0..1, all of the same size: one mask for each style, or one for
            each style except the first, which then gets the rest of each pixel.
        count: number of styles, at least 2.
        feather: standard deviation of the Gaussian blur that softens the masks, as a fraction of
            their shorter side, from 0 to below 1; 0 keeps the masks as they are.

    Returns:
        `[count, H, W]` float32; the sum over the styles is 1 in each pixel.

    Raises:
        UserError: the number of masks is wrong, their sizes differ, or they leave gaps or overlap.
    """
    if count < 2 or len(masks) not in (count - 1, count):
        raise UserError(
            f'{len(masks)} mask(s) for {count} style(s): give one mask for each style, or for each '
            'but the first, which then takes the rest'
        )
    if any(mask.shape != masks[0].shape for mask in masks):
        sizes = ', '.join(f'{mask.shape[1]} x {mask.shape[0]}' for mask in masks)
        raise UserError(f'the masks have different sizes ({sizes}): make them the same size')
    checks.real_number('feather', feather, least=0, below=1)
    shares = np.stack([np.asarray(mask, np.float32) for mask in masks])
    total = shares.sum(0)
    if total.max() > 1 + _SUM_TOLERANCE:
        raise UserError(f'the masks overlap: their sum is up to {total.max():.2f}, above 1')
    if len(masks) < count:
        shares = np.concatenate([np.maximum(1 - total, 0)[None], shares])
    elif total.min() < 1 - _SUM_TOLERANCE:
        gap = np.mean(total < 1 - _SUM_TOLERANCE)
        raise UserError(
            f'the masks leave a gap of {100 * gap:.1f} % of the pixels: close it, or leave out '
            'the mask of the first style, which then takes the rest'
        )
    sigma = feather * min(shares.shape[1:])
    if sigma:
        import scipy.ndimage

        shares = scipy.ndimage.gaussian_filter(shares, (0, sigma, sigma), mode='nearest')
    return shares / shares.sum(0)
