"""One picture in several looks, on the command line: grids and animations of blends, all styles."""

import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from absl import flags, logging

from metastyle_jax.core import progress_bar
from metastyle_jax.core.errors import UserError
from metastyle_jax.data.images import (
    contact_sheet,
    image_files,
    image_writing,
    pixel_values,
    resizing,
)
from metastyle_jax.storage import style_library
from metastyle_jax.stylization import blending, render, styled_network, video_command

CELL = 256  # side of a picture in a contact sheet of all styles


def options(values: flags.FlagValues) -> dict[str, Any]:
    """Arguments of `styled_network.load` that do not depend on the number of styles."""
    return {name: getattr(values, name) for name in ('strength', 'keep_colours', 'theta')}


def read(path: pathlib.Path, max_size: int | None) -> pixel_values.Picture:
    """Reads a picture at the size it will have.

    Raises:
        image_files.ImageError: it cannot be read, or `max_size` leaves too little of it.
    """
    picture = image_files.read(path)
    alpha = picture.alpha
    if alpha is not None and max_size is not None:
        alpha = resizing.fit(alpha, max_size)
    return pixel_values.Picture(render.fit(picture.rgb, max_size, str(path)), alpha)


def make_folder(folder: pathlib.Path) -> None:
    """Makes an output folder, or says why not."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f'{folder} cannot be made ({error.strerror}): choose another --output'
        ) from error


def draw_grid(values: flags.FlagValues, source: pathlib.Path, target: pathlib.Path) -> int:
    """Writes one picture of blends from style to style."""
    if values.weights is not None or values.mask or source.is_dir():
        raise UserError(
            '--grid is for one picture, goes without --mask, and chooses the weights itself'
        )
    files = styled_network.open_styles(values.style)
    rows = blending.corners(len(files), values.grid)
    image_writing.check_output(target, overwrite=values.overwrite, source=source)
    picture = read(source, values.max_size)
    height, width, _ = picture.rgb.shape
    image_writing.check_format_holds(target, len(rows) * height, len(rows[0]) * width)
    chosen = [
        [styled_network.load(files, weights=w, **options(values)) for w in row] for row in rows
    ]
    drawn = [
        np.concatenate([render.render(look, picture.rgb, tile=values.tile) for look in row], axis=1)
        for row in chosen
    ]
    alpha = None if picture.alpha is None else np.tile(picture.alpha, (len(rows), len(rows[0])))
    image_writing.write(target, np.concatenate(drawn), alpha=alpha, overwrite=values.overwrite)
    logging.info('wrote %d blends to %s', sum(map(len, rows)), target)
    return 0


def animate(values: flags.FlagValues, source: pathlib.Path, target: pathlib.Path) -> int:
    """Writes a moving picture of blends from style to style."""
    if values.weights is not None or values.mask or values.grid is not None or source.is_dir():
        raise UserError(
            '--animate is for one picture, goes without --mask and --grid, and chooses the weights '
            'itself'
        )
    if values.milliseconds < 1:
        raise UserError(f'--milliseconds={values.milliseconds}: it must be at least 1')
    files = styled_network.open_styles(values.style)
    tour = blending.tour(len(files), values.animate)
    image_writing.check_output(
        target, overwrite=values.overwrite, suffixes=image_writing.SUFFIXES_MOVING, source=source
    )
    picture = read(source, values.max_size)
    image_writing.check_format_holds(target, *picture.rgb.shape[:2])
    with progress_bar.show(tour, description='stylizing', unit='frame') as bar:
        frames = (styled_network.load(files, weights=weights, **options(values)) for weights in bar)
        image_writing.write_animation(
            target,
            (render.render(look, picture.rgb, tile=values.tile) for look in frames),
            alpha=picture.alpha,
            milliseconds=values.milliseconds,
            overwrite=values.overwrite,
        )
    logging.info('wrote %d frames to %s', len(tour), target)
    return 0


def render_all(values: flags.FlagValues, source: pathlib.Path, target: pathlib.Path) -> int:
    """Writes one picture in every style of a library."""
    if (
        len(values.style) != 1
        or values.weights is not None
        or values.mask
        or values.grid
        or values.animate
    ):
        raise UserError('--all takes one library, and no --weights, --mask, --grid or --animate')
    if source.is_dir() or video_command.wanted(values):
        raise UserError(f'--input={source}: --all is for one picture')
    if values.batch is not None and values.batch < 1:
        raise UserError(f'--batch={values.batch}: it must be at least 1')
    found = style_library.load(values.style[0])
    picture = read(source, values.max_size)
    as_sheet = target.suffix.lower() in image_writing.SUFFIXES_OUT and not target.is_dir()
    files = [target] if as_sheet else [target / name for name in style_library.file_names(found)]
    for file in files:
        if not as_sheet:
            make_folder(file.parent)
        image_writing.check_output(file, overwrite=values.overwrite, source=source)
    made = _in_all_styles(found, picture.rgb, values)
    if as_sheet:
        # Reduced at once: all of them at full size could be more than memory holds.
        cells = [
            resizing.fit(picture.rgb, CELL),
            *(resizing.fit(pixels, CELL) for pixels in made),
        ]
        captions = [source.name, *found.names]
        across = round(len(cells) ** 0.5)
        rows = [cells[i : i + across] for i in range(0, len(cells), across)]
        words = [captions[i : i + across] for i in range(0, len(cells), across)]
        drawn = contact_sheet.contact_sheet(rows, captions=words, cell=CELL)
        image_writing.write(target, drawn, overwrite=values.overwrite)
    else:
        for file, pixels in zip(files, made, strict=True):
            image_writing.write(file, pixels, alpha=picture.alpha, overwrite=values.overwrite)
    logging.info('wrote %d styles to %s', len(found.entries), target)
    return 0


def _in_all_styles(
    found: style_library.Library, pixels: np.ndarray, values: flags.FlagValues
) -> Iterator[np.ndarray]:
    """The picture in each style of a library, several in one pass where memory suffices."""
    theta = style_library.own_theta(found, values.theta)
    how = {**options(values), 'theta': theta}
    height, width = pixels.shape[:2]
    batch = (
        1
        if values.tile == 'always'
        else min(values.batch or video_command.BATCH, len(found.entries))
    )
    while batch > 1 and not render.fits(batch, height, width):
        batch -= 1
    with progress_bar.show(description='stylizing', unit='style', total=len(found.entries)) as bar:
        for begin in range(0, len(found.entries), batch):
            names = found.names[begin : begin + batch]
            if batch == 1:
                look = styled_network.load(style_library.pick(found, names[0]), **how)
                made = [render.render(look, pixels, tile=values.tile)]
            else:  # the last ones are filled up, so that nothing is compiled anew
                full = names + names[-1:] * (batch - len(names))
                look = styled_network.load_batch(found, full, **how)
                made = list(render.render_batch(look, np.stack([pixels] * batch))[: len(names)])
            bar.update(len(names))
            yield from made
