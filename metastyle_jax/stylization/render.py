"""A look and pixels to pixels: one forward pass, in strips where memory would not suffice.

The transformer is that of Zhang, Zhu and Zhu 2019, arXiv 1812.05233.
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from absl import logging

from metastyle_jax.core import progress_bar
from metastyle_jax.core.errors import UserError
from metastyle_jax.core.types import Params
from metastyle_jax.data.images import colour_transfer, image_files, resizing
from metastyle_jax.models import tiled_transformer, transformer
from metastyle_jax.stylization import styled_network

TILE = ('auto', 'always', 'never')


def render(
    look: styled_network.Look, pixels: np.ndarray, *, tile: str = 'auto', progress: bool = False
) -> np.ndarray:
    """One forward pass, whatever the look: `[H, W, 3]` float32 in 0..1 to the same.

    Args:
        look: of `styled_network.load`.
        pixels: the picture.
        tile: one of `TILE`; see `stylize.stylize`.
        progress: whether to show how far the strips are.

    Raises:
        UserError: there is no such `tile`.
    """
    check_tile(tile)
    params = styled_network.network(look)
    if tile == 'always' or (tile == 'auto' and not fits(1, *pixels.shape[:2])):
        result = _in_strips(params, pixels, progress)
    else:
        result = np.asarray(_forward(params, pixels[None])[0])
    return _finish(look, result, pixels)


def render_batch(look: styled_network.Look, pixels: np.ndarray) -> np.ndarray:
    """As `render`, of several in one forward pass: `[N, H, W, 3]` float32 in 0..1 to the same."""
    made = np.asarray(_forward(styled_network.network(look), pixels))
    return np.stack([_finish(look, *pair) for pair in zip(made, pixels, strict=True)])


def render_regions(
    several: Sequence[styled_network.Look], shares: np.ndarray, pixels: np.ndarray, **how: Any
) -> np.ndarray:
    """Each style in its region: one forward pass for each style, over the whole picture.

    Args:
        several: looks of the styles.
        shares: of `blending.regions`.
        pixels: `[H, W, 3]` float32 in 0..1.
        **how: of `render`.

    Returns:
        `[H, W, 3]` float32 in 0..1.
    """
    result = np.zeros_like(pixels)
    for look, share in zip(several, shares, strict=True):
        result += share[..., None] * render(look, pixels, **how)
    return result


def fit(pixels: np.ndarray, max_size: int | None, name: str) -> np.ndarray:
    """Reduces an image until its longer side has at most `max_size` pixels.

    Args:
        pixels: `[H, W, 3]` float32 in 0..1.
        max_size: None to leave it as it is.
        name: what errors call it.

    Raises:
        image_files.ImageError: its shorter side would be too small for the network.
    """
    if max_size is None:
        return pixels
    pixels = resizing.fit(pixels, max_size)
    if min(pixels.shape[:2]) < transformer.MIN_SIDE:
        raise image_files.ImageError(
            f'{name} would be {pixels.shape[1]} x {pixels.shape[0]} pixels: raise --max_size, '
            f'which is {max_size}, until both sides have {transformer.MIN_SIDE}'
        )
    return pixels


def fits(count: int, height: int, width: int) -> bool:
    """Whether one pass over so many pictures is within memory, see `tiled_transformer.fits`."""
    height, width = (side + 2 * transformer.MARGIN for side in (height, width))
    return tiled_transformer.fits(count * height, width)


def check_max_size(max_size: int) -> None:
    """Raises UserError if nothing that the network takes could be so small."""
    if max_size < transformer.MIN_SIDE:
        raise UserError(f'max_size={max_size}: it must be at least {transformer.MIN_SIDE}')


def check_tile(tile: str) -> None:
    """Raises UserError unless it is one of `TILE`."""
    if tile not in TILE:
        raise UserError(f'tile={tile!r}: it must be one of {", ".join(TILE)}')


_forward = jax.jit(transformer.apply_with_margin)


def _finish(look: styled_network.Look, made: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """What follows the network."""
    if look.strength < 1:
        made = pixels + np.float32(look.strength) * (made - pixels)
    return colour_transfer.keep(made, pixels) if look.keep_colours else made


def _in_strips(params: Params, pixels: np.ndarray, progress: bool) -> np.ndarray:
    """As `_forward`, of one picture, by `tiles`; with a note and a bar."""
    margin = transformer.MARGIN
    height, width = pixels.shape[:2]
    if progress:
        logging.info('%d x %d pixels: in strips, so that memory suffices', width, height)
    with progress_bar.show(
        description='stylizing', unit='strip', disable=not progress, total=0
    ) as bar:

        def tell(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        wide = np.pad(pixels, ((margin, margin), (margin, margin), (0, 0)), mode='reflect')
        return tiled_transformer.apply(params, wide, progress=tell)[margin:-margin, margin:-margin]
