"""Renders pictures with a styled network, in one forward pass or strip by strip.

Source: the transformer of Zhang, Zhu and Zhu 2019, arXiv 1812.05233.
"""

import functools
import os
from collections.abc import Sequence

import jax
import numpy as np
from absl import logging

from metastyle_jax.core import checks, progress_bar
from metastyle_jax.core.types import Params
from metastyle_jax.data import colour_transfer
from metastyle_jax.data.images import image_files, image_inputs, pixel_values, resizing
from metastyle_jax.models import tiled_transformer, transformer
from metastyle_jax.stylization import styled_network

TILE_MODES = ('auto', 'always', 'never')


def render(
    network: styled_network.StyledNetwork,
    pixels: np.ndarray,
    *,
    tile: str = 'auto',
    progress: bool = False,
) -> np.ndarray:
    """Renders one picture.

    Args:
        network: the network, from `styled_network.load`.
        pixels: `[H, W, 3]` float32 in 0..1, both sides at least 16.
        tile: 'auto' renders in strips if one forward pass would need too much memory, 'always' and
            'never' do so always or never. The results are equal except for rounding.
        progress: whether to show a progress bar of the strips.

    Returns:
        `[H, W, 3]` float32 in 0..1.

    Raises:
        UserError: `tile` is not one of `TILE_MODES`.
    """
    check_tile(tile)
    params = network.forward_params()
    if tile == 'always' or (tile == 'auto' and not fits_memory(1, *pixels.shape[:2])):
        output = _render_in_strips(params, pixels, progress)
    else:
        output = np.asarray(_forward(params, pixels[None])[0])
    return _combine(network, output, pixels)


def render_batch(network: styled_network.StyledNetwork, pixels: np.ndarray) -> np.ndarray:
    """Renders several pictures of the same size in one forward pass.

    Args:
        network: the network, from `styled_network.load` or `styled_network.load_batch`.
        pixels: `[N, H, W, 3]` float32 in 0..1.

    Returns:
        `[N, H, W, 3]` float32 in 0..1.
    """
    outputs = np.asarray(_forward(network.forward_params(), pixels))
    pairs = zip(outputs, pixels, strict=True)
    return np.stack([_combine(network, output, picture) for output, picture in pairs])


def render_regions(
    networks: Sequence[styled_network.StyledNetwork],
    shares: np.ndarray,
    pixels: np.ndarray,
    *,
    tile: str = 'auto',
    progress: bool = False,
) -> np.ndarray:
    """Renders one picture with a style in each region.

    Each network renders the whole picture, because instance norms use the statistics of all pixels.
    The outputs are then mixed pixel by pixel.

    Args:
        networks: the S networks, one for each style.
        shares: `[S, H, W]`, share of each style in each pixel, from
            `mask_regions.shares_of_styles`.
        pixels: `[H, W, 3]` float32 in 0..1.
        tile: see `render`.
        progress: see `render`.

    Returns:
        `[H, W, 3]` float32 in 0..1.
    """
    mixed = np.zeros_like(pixels)
    for network, share in zip(networks, shares, strict=True):
        mixed += share[..., None] * render(network, pixels, tile=tile, progress=progress)
    return mixed


def read_fitted(
    image: image_inputs.ImageLike, max_size: int | None, *, name: str
) -> pixel_values.Picture:
    """Reads an image, and reduces it so that its longer side has at most `max_size` pixels.

    A large image that is reduced strongly is decoded at a reduced size, which saves memory.

    Args:
        image: see `image_inputs.as_picture`.
        max_size: limit of the longer side in pixels; None keeps the size.
        name: name of the image in error messages, unless it is a file.

    Raises:
        UserError: `max_size` is below 16.
        image_files.ImageError: the image cannot be read, or its shorter side would be too small for
            the network.
    """
    if max_size is None:
        return image_inputs.as_picture(image, name=name)
    check_max_size(max_size)
    shown = os.fspath(image) if isinstance(image, str | os.PathLike) else f'the {name}'
    target = functools.partial(_fitted_size, max_size, shown)
    return image_inputs.as_picture(image, name=name, target=target)


def _fitted_size(max_size: int, name: str, height: int, width: int) -> tuple[int, int]:
    """Returns the height and width after reduction; raises ImageError if a side is too small."""
    size = resizing.fit_size(max_size, height, width)
    if min(size) < transformer.MIN_SIDE:
        raise image_files.ImageError(
            f'max_size={max_size} would reduce {name} to {size[1]} x {size[0]} pixels: '
            f'raise it until both sides have at least {transformer.MIN_SIDE}'
        )
    return size


def fits_memory(count: int, height: int, width: int) -> bool:
    """Whether memory suffices for one forward pass over `count` pictures of this size."""
    height, width = (side + 2 * transformer.MARGIN for side in (height, width))
    return tiled_transformer.fits(count * height, width)


def check_max_size(max_size: int) -> None:
    """Raises UserError if a picture of `max_size` pixels would be too small for the network."""
    checks.whole_number('max_size', max_size, transformer.MIN_SIDE)


def check_tile(tile: str) -> None:
    """Raises UserError unless `tile` is one of `TILE_MODES`."""
    checks.one_of('tile', tile, TILE_MODES)


_forward = jax.jit(transformer.apply_with_margin)


def _combine(
    network: styled_network.StyledNetwork, output: np.ndarray, pixels: np.ndarray
) -> np.ndarray:
    """Mixes the network's output with the photograph by the strength, and restores its colours."""
    if network.strength < 1:
        output = pixels + np.float32(network.strength) * (output - pixels)
    return colour_transfer.keep(output, pixels) if network.keep_colours else output


def _render_in_strips(params: Params, pixels: np.ndarray, progress: bool) -> np.ndarray:
    """Renders one picture strip by strip, with a progress bar."""
    margin = transformer.MARGIN
    height, width = pixels.shape[:2]
    if progress:
        logging.info('%d x %d pixels are rendered in strips, to save memory', width, height)
    with progress_bar.show(
        description='stylizing', unit='strip', disable=not progress, total=0
    ) as bar:

        def update(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        # As in `transformer.apply_with_margin`: the outermost pixels of an output show lines.
        wide = np.pad(pixels, ((margin, margin), (margin, margin), (0, 0)), mode='reflect')
        output = tiled_transformer.apply(params, wide, progress=update)
        return output[margin:-margin, margin:-margin]
