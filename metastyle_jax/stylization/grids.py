"""Draws one picture in several styles: a grid or an animation of blends, or a whole library."""

import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from metastyle_jax.core import checks, progress_bar
from metastyle_jax.data.images import (
    contact_sheet,
    image_inputs,
    image_writing,
    pixel_values,
    resizing,
)
from metastyle_jax.storage import style_library
from metastyle_jax.stylization import blending, render, styled_network

CELL = 256  # pixels of the longer side of each picture in `draw_all_styles`
BATCH = 4  # default number of styles in one forward pass


def draw_grid(
    styles: Sequence[styled_network.StyleLike],
    image: image_inputs.ImageLike,
    across: int,
    *,
    strength: float = 1.0,
    keep_colours: bool = False,
    theta: styled_network.ThetaLike | None = None,
    max_size: int | None = None,
    tile: str = 'auto',
) -> Any:
    """Draws an image in blends of styles: a row between two styles, or a square between four.

    Args:
        styles: two or four styles, in any form that `stylize` takes.
        image: see `stylize`.
        across: number of blends in a row, at least 2.
        strength: see `stylize`.
        keep_colours: see `stylize`.
        theta: see `stylize`.
        max_size: see `stylize`; it limits one cell of the grid.
        tile: see `stylize`.

    Returns:
        `[rows·H, across·W, 3]` float32 in 0..1, with 1 row for two styles and `across` rows for
        four; a Pillow image if `image` is one.

    Raises:
        UserError: an argument is invalid, a file cannot be read, or the styles cannot be blended.
    """
    grid = grid_picture(
        styles, render.read_fitted(image, max_size, name='image'), across,
        strength=strength, keep_colours=keep_colours, theta=theta, tile=tile,
    )  # fmt: skip
    return image_inputs.like_input(grid.rgb, image, grid.alpha)


def grid_picture(
    styles: Sequence[styled_network.StyleLike],
    picture: pixel_values.Picture,
    across: int,
    *,
    tile: str = 'auto',
    **look: Any,
) -> pixel_values.Picture:
    """Draws a grid as `draw_grid` does, for a decoded picture; each cell keeps the transparency.

    Args:
        styles: see `draw_grid`.
        picture: the picture, from `render.read_fitted`.
        across: see `draw_grid`.
        tile: see `draw_grid`.
        **look: `strength`, `keep_colours` and `theta` of `draw_grid`.

    Returns:
        The grid as one picture.
    """
    styles = styled_network.open_styles(styles)
    rows = []
    for row in blending.grid_weights(len(styles), across):
        networks = [styled_network.load(styles, weights=weights, **look) for weights in row]
        cells = [render.render(network, picture.rgb, tile=tile) for network in networks]
        rows.append(np.concatenate(cells, axis=1))
    alpha = None if picture.alpha is None else np.tile(picture.alpha, (len(rows), across))
    return pixel_values.Picture(np.concatenate(rows), alpha)


def animate(
    styles: Sequence[styled_network.StyleLike],
    image: image_inputs.ImageLike,
    output: str | os.PathLike[str],
    *,
    frames: int,
    milliseconds: int = 100,
    strength: float = 1.0,
    keep_colours: bool = False,
    theta: styled_network.ThetaLike | None = None,
    max_size: int | None = None,
    tile: str = 'auto',
    overwrite: bool = False,
    progress: bool = False,
) -> pathlib.Path:
    """Writes an animation of an image that goes from style to style, and back to the first style.

    Args:
        styles: at least two, in any form that `stylize` takes.
        image: see `stylize`.
        output: the file to write, .webp, .gif or .png.
        frames: number of frames, at least one for each style.
        milliseconds: how long each frame is shown.
        strength: see `stylize`.
        keep_colours: see `stylize`.
        theta: see `stylize`.
        max_size: see `stylize`.
        tile: see `stylize`.
        overwrite: whether an existing file may be replaced.
        progress: whether to show a progress bar.

    Returns:
        The file.

    Raises:
        UserError: an argument is invalid, a file cannot be read or written, or the styles cannot be
            blended.
    """
    checks.whole_number('milliseconds', milliseconds, 1)
    source = image if isinstance(image, str | os.PathLike) else None
    image_writing.check_output(
        output, overwrite=overwrite, suffixes=image_writing.SUFFIXES_MOVING, source=source
    )
    picture = render.read_fitted(image, max_size, name='image')
    image_writing.check_format_holds(output, *picture.rgb.shape[:2])
    styles = styled_network.open_styles(styles)
    tour = blending.tour_weights(len(styles), frames)
    with progress_bar.show(
        tour, description='stylizing', unit='frame', disable=not progress
    ) as bar:
        networks = (
            styled_network.load(
                styles, weights=weights, strength=strength, keep_colours=keep_colours, theta=theta
            )
            for weights in bar
        )
        image_writing.write_animation(
            output,
            (render.render(network, picture.rgb, tile=tile) for network in networks),
            alpha=picture.alpha,
            milliseconds=milliseconds,
            overwrite=overwrite,
        )
    return pathlib.Path(output)


def stylize_all_styles(
    library: str | os.PathLike | style_library.Library,
    image: image_inputs.ImageLike,
    *,
    strength: float = 1.0,
    keep_colours: bool = False,
    theta: styled_network.ThetaLike | None = None,
    max_size: int | None = None,
    tile: str = 'auto',
    batch: int | None = None,
    progress: bool = False,
) -> Iterator[np.ndarray]:
    """Stylizes an image in every style of a library.

    Args:
        library: a style library, or its file.
        image: see `stylize`.
        strength: see `stylize`.
        keep_colours: see `stylize`.
        theta: the initialization from which the library was adapted; None for the one in the
            package.
        max_size: see `stylize`.
        tile: see `stylize`.
        batch: number of styles in one forward pass; None for 4. It is reduced if memory does not
            suffice.
        progress: whether to show a progress bar.

    Returns:
        An iterator over `[H, W, 3]` float32 in 0..1, in the order of the library's names.

    Raises:
        UserError: an argument is invalid, a file cannot be read, or the library was not adapted
            from θ.
    """
    if batch is not None:
        checks.whole_number('batch', batch, 1)
    render.check_tile(tile)
    if not isinstance(library, style_library.Library):
        library = style_library.load(library)
    pixels = render.read_fitted(image, max_size, name='image').rgb
    theta = styled_network.theta_of_library(library, theta)
    look = {'strength': strength, 'keep_colours': keep_colours, 'theta': theta}
    batch = 1 if tile == 'always' else min(batch or BATCH, len(library.names))
    while batch > 1 and not render.fits_memory(batch, *pixels.shape[:2]):
        batch -= 1
    return _render_library(library, pixels, batch, tile=tile, progress=progress, **look)


def _render_library(
    library: style_library.Library,
    pixels: np.ndarray,
    batch: int,
    *,
    tile: str,
    progress: bool,
    **look: Any,
) -> Iterator[np.ndarray]:
    """Yields the stylized picture, `[H, W, 3]` float32, for one style after another."""
    names = library.names
    with progress_bar.show(
        description='stylizing', unit='style', total=len(names), disable=not progress
    ) as bar:
        for begin in range(0, len(names), batch):
            group = names[begin : begin + batch]
            if batch == 1:
                network = styled_network.load(style_library.pick(library, group[0]), **look)
                outputs = [render.render(network, pixels, tile=tile)]
            else:
                # The last group is filled up: another batch size would be compiled anew.
                full = group + group[-1:] * (batch - len(group))
                network = styled_network.load_batch(library, full, **look)
                copies = np.stack([pixels] * batch)
                outputs = list(render.render_batch(network, copies)[: len(group)])
            bar.update(len(group))
            yield from outputs


def draw_all_styles(
    library: str | os.PathLike | style_library.Library,
    image: image_inputs.ImageLike,
    *,
    caption: str = 'photograph',
    cell: int = CELL,
    **options: Any,
) -> np.ndarray:
    """Draws a contact sheet of an image in every style of a library.

    Args:
        library: a style library, or its file.
        image: see `stylize`; it is the first picture of the sheet.
        caption: caption of the image; the captions of the other pictures are their style names.
        cell: longer side of each picture in the sheet, in pixels.
        **options: further arguments of `stylize_all_styles`.

    Returns:
        `[H, W, 3]` float32 in 0..1.

    Raises:
        UserError: see `stylize_all_styles`.
    """
    if not isinstance(library, style_library.Library):
        library = style_library.load(library)
    photograph = image_inputs.as_rgb(image, name='image')
    outputs = stylize_all_styles(library, photograph, **options)
    # Each output is reduced at once: all of them at full size may be more than memory holds.
    cells = [resizing.fit(pixels, cell) for pixels in (photograph, *outputs)]
    captions = [caption, *library.names]
    across = round(len(cells) ** 0.5)
    rows = [cells[i : i + across] for i in range(0, len(cells), across)]
    texts = [captions[i : i + across] for i in range(0, len(cells), across)]
    return contact_sheet.contact_sheet(rows, captions=texts, cell=cell)
