"""Stylizes images with an adapted network: a file or a folder to a file or a folder.

One forward pass of the transformer of Zhang, Zhu and Zhu 2019, arXiv 1812.05233.
"""

import functools
import os
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import flags, logging

from metastyle_jax import (
    checkpoint,
    cli,
    colours,
    film,
    images,
    library,
    looks,
    metrics,
    mixing,
    pipeline,
    sheet,
    sources,
    tensors,
    tiles,
    transformer,
)
from metastyle_jax.types import Params, UserError

USAGE = """Stylizes a picture, or all pictures of a folder, with an adapted style.

  metastyle-stylize --style=painting.safetensors --input=photo.jpg --output=out.png
  metastyle-stylize --style=painting.safetensors --input=film.mp4 --output=stylized.mp4
  metastyle-stylize --style=library.safetensors:NAME --input=photo.jpg --output=out.png
  metastyle-stylize --style=library.safetensors --all --input=photo.jpg --output=sheet.png
"""


FEATHER = 0.01
CELL = 256  # side of a picture in a contact sheet of all styles
TILE = ('auto', 'always', 'never')


class Job(NamedTuple):
    """A picture to read and where to write it."""

    source: pathlib.Path
    target: pathlib.Path


def stylize(
    style: looks.StyleLike | Sequence[looks.StyleLike],
    image: images.ImageLike,
    *,
    weights: Sequence[float] | None = None,
    masks: Sequence[images.ImageLike] | None = None,
    feather: float = FEATHER,
    strength: float = 1.0,
    keep_colours: bool = False,
    theta: str | os.PathLike | checkpoint.Theta | None = None,
    max_size: int | None = None,
    tile: str = 'auto',
    progress: bool = False,
) -> Any:
    """Stylizes one image.

    Args:
        style: a style file, what `adapt` returned, or `LIBRARY.safetensors:NAME`; or several, to
            be blended.
        image: a file, a Pillow image or an array, see `images.take`.
        weights: of the styles, not negative, of the sum 1; equal ones if None.
        masks: where each style goes, instead of a blend: grey pictures in any of these forms, or
            `[H, W]` float in 0..1, of the image's size; one for each style, or one less, and the
            first takes the rest.
        feather: softness of their edges, see `mixing.regions`.
        strength: s from 1, the style, to 0, the image itself: the network is blended with θ by s,
            and its output with the image by s. Either alone falls short: θ's output is not the
            image, and a mixture of the two has a lower style loss than both.
        keep_colours: keep the image's colours and take the brightness alone from the style.
        theta: what the styles were adapted from; needed for styles of 'norm' parameters and for a
            strength below 1, and for these unless it is the one that comes with the package.
        max_size: the longer side is reduced to this many pixels; None keeps the size.
        tile: 'auto' to work in strips where one pass would need much memory, with the same
            result; 'always' or 'never'.
        progress: whether to show how far the strips are.

    Returns:
        `[H, W, 3]` float32 in 0..1; a Pillow image if `image` is one.

    Raises:
        UserError: a file or a number is not usable, or styles and θ do not belong together.
    """
    pixels = images.take(image, name='image')
    options: dict[str, Any] = {
        'strength': strength, 'keep_colours': keep_colours, 'theta': theta
    }  # fmt: skip
    size = pixels.shape[:2]
    if max_size is not None:
        _check_max_size(max_size)
        pixels = _fit(pixels, max_size, 'The image')
    how: dict[str, Any] = {'tile': tile, 'progress': progress}
    if masks is None:
        made = render(looks.load(style, weights=weights, **options), pixels, **how)
        return images.give(made, image)
    if weights is not None:
        raise UserError('weights blend and masks divide: give one of them')
    several = looks.open_styles(style)
    shares = _regions(masks, len(several), feather, size, pixels.shape[:2])
    several_looks = [looks.load(one, **options) for one in several]
    return images.give(render_regions(several_looks, shares, pixels, **how), image)


def _regions(
    masks: Sequence[images.ImageLike],
    count: int,
    feather: float,
    size: tuple[int, ...],
    shown: tuple[int, ...],
) -> np.ndarray:
    """Reads masks for a picture of a size that is shown at another; see `mixing.regions`."""
    found = []
    for i, mask in enumerate(masks):
        if isinstance(mask, np.ndarray | jax.Array):
            name, grey = f'mask {i + 1}', np.asarray(mask, np.float32)
        else:
            name = str(mask) if isinstance(mask, str | os.PathLike) else f'mask {i + 1}'
            grey = images.take(mask, name=name).mean(-1)
        if grey.ndim != 2 or not (np.isfinite(grey).all() and 0 <= grey.min() <= grey.max() <= 1):
            raise UserError(f'{name} is no mask: [H, W] in 0..1 is needed')
        if grey.shape != size:
            raise UserError(
                f'{name} has {grey.shape[1]} x {grey.shape[0]} pixels and the image '
                f'{size[1]} x {size[0]}: they must be of one size'
            )
        found.append(images.resize(grey, *shown) if shown != size else grey)
    return mixing.regions(found, count=count, feather=feather)


def render_regions(
    several: Sequence[looks.Look], shares: np.ndarray, pixels: np.ndarray, **how: Any
) -> np.ndarray:
    """Each style in its region: one forward pass for each style, over the whole picture.

    Args:
        several: looks of the styles.
        shares: of `mixing.regions`.
        pixels: `[H, W, 3]` float32 in 0..1.
        **how: of `render`.
    """
    result = np.zeros_like(pixels)
    for look, share in zip(several, shares, strict=True):
        result += share[..., None] * render(look, pixels, **how)
    return result


def render(
    look: looks.Look, pixels: np.ndarray, *, tile: str = 'auto', progress: bool = False
) -> np.ndarray:
    """One forward pass, whatever the look: `[H, W, 3]` float32 in 0..1 to the same.

    Args:
        look: of `looks.load`.
        pixels: the picture.
        tile: see `stylize`.
        progress: see `stylize`.
    """
    _check_tile(tile)
    params = looks.network(look)
    if tile == 'always' or (tile == 'auto' and not tiles.fits(*pixels.shape[:2])):
        result = _in_strips(params, pixels, progress)
    else:
        result = np.asarray(_forward(params, pixels[None])[0])
    return _finish(look, result, pixels)


def render_batch(look: looks.Look, pixels: np.ndarray) -> np.ndarray:
    """`[N, H, W, 3]` float32 in 0..1 to the same, in one forward pass."""
    made = np.asarray(_forward(looks.network(look), pixels))
    return np.stack([_finish(look, *pair) for pair in zip(made, pixels, strict=True)])


def stylize_batch(
    styles_of: str | os.PathLike | library.Library,
    pictures: np.ndarray | Sequence[images.ImageLike],
    names: Sequence[str],
    *,
    strength: float = 1.0,
    keep_colours: bool = False,
    theta: str | os.PathLike | checkpoint.Theta | None = None,
) -> np.ndarray:
    """Stylizes a batch in which each picture has another style, in one forward pass.

    Args:
        styles_of: a library, or its file.
        pictures: N of one size: `[N, H, W, 3]` float in 0..1, or N in any form of `images.take`.
        names: of N styles of the library; folders and suffix may be left out.
        strength: see `stylize`.
        keep_colours: see `stylize`.
        theta: what the library was adapted from; the one that comes with the package if None.

    Returns:
        `[N, H, W, 3]` float32 in 0..1.

    Raises:
        UserError: a file, a name or a number is not usable, or sizes differ.
    """
    if not isinstance(styles_of, library.Library):
        styles_of = library.load(styles_of)
    look = looks.load_batch(
        styles_of, names, strength=strength, keep_colours=keep_colours, theta=theta
    )
    pixels = [images.take(one, name=f'picture {i + 1}') for i, one in enumerate(pictures)]
    sizes = list(dict.fromkeys(f'{one.shape[1]} x {one.shape[0]}' for one in pixels))
    if len(pixels) != len(names) or len(sizes) != 1:
        raise UserError(
            f'{len(pixels)} pictures of {" and ".join(sizes) or "no"} pixels for {len(names)} '
            'names: give one picture for each name, all of one size'
        )
    return render_batch(look, np.stack(pixels))


def _finish(look: looks.Look, made: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """What follows the network."""
    if look.strength < 1:
        made = pixels + np.float32(look.strength) * (made - pixels)
    return colours.keep(made, pixels) if look.keep_colours else made


def _in_strips(params: Params, pixels: np.ndarray, progress: bool) -> np.ndarray:
    """`tiles.apply` with a note and a bar."""
    height, width = pixels.shape[:2]
    if progress:
        logging.info('%d x %d pixels: in strips, so that memory suffices', width, height)
    with metrics.progress(
        description='stylizing', unit='strip', disable=not progress, total=0
    ) as bar:

        def tell(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        return tiles.apply(params, pixels, progress=tell)


def _check_tile(tile: str) -> None:
    if tile not in TILE:
        raise UserError(f'tile={tile!r}: it must be one of {", ".join(TILE)}')


_forward = jax.jit(transformer.apply)


def plan(source: pathlib.Path, target: pathlib.Path, *, overwrite: bool) -> list[Job]:
    """Lists what a call has to do, and refuses what could not be written before work begins.

    Args:
        source: a picture or a folder, searched with its sub-folders.
        target: a file for a picture, a folder for a folder; pictures of a kind that cannot be
            written become PNG.
        overwrite: whether existing files may be replaced.

    Returns:
        One `Job` for each picture.

    Raises:
        UserError: a file is missing or unusable, more than a tenth of a folder is unreadable, two
            pictures would get one name, or a target exists.
    """
    if not source.is_dir():
        images.probe(source)
        if target.is_dir():
            target = target / _writable_name(source.name)
        jobs = [Job(source, target)]
    else:
        if target.suffix.lower() in images.SUFFIXES_OUT and not target.is_dir():
            raise UserError(f'--input={source} is a folder, so --output={target} must be one too')
        if target.resolve().is_relative_to(source.resolve()):
            raise UserError(f'--output={target} is inside --input={source}: choose another folder')
        found = sources.open_source(f'folder:{source}', kind='content')
        jobs = [
            Job(pathlib.Path(str(found[i])), target / _writable_name(found.name(i)))
            for i in range(len(found))
        ]
    by_target: dict[pathlib.Path, pathlib.Path] = {}
    for job in jobs:
        if other := by_target.get(job.target):
            raise UserError(f'{other} and {job.source} would both become {job.target}: rename one')
        by_target[job.target] = job.source
        if job.target.exists() and job.target.samefile(job.source):
            raise UserError(f'{job.target} is the input itself: choose another --output')
        if not source.is_dir() or job.target.exists():
            images.check_output(job.target, overwrite=overwrite)
    return jobs


def _writable_name(name: str) -> str:
    """The name itself if its format can be written, else with .png for a suffix."""
    if pathlib.PurePath(name).suffix.lower() in images.SUFFIXES_OUT:
        return name
    return str(pathlib.PurePath(name).with_suffix('.png'))


def _fit(pixels: np.ndarray, max_size: int | None, name: str) -> np.ndarray:
    """Reduces an image, unless its shorter side would become too small for the network."""
    if max_size is None:
        return pixels
    pixels = images.fit(pixels, max_size)
    if min(pixels.shape[:2]) < transformer.MIN_SIDE:
        raise images.ImageError(
            f'{name} would be {pixels.shape[1]} x {pixels.shape[0]} pixels: raise --max_size, '
            f'which is {max_size}, until both sides have {transformer.MIN_SIDE}'
        )
    return pixels


def _check_max_size(max_size: int) -> None:
    if max_size < transformer.MIN_SIDE:
        raise UserError(f'max_size={max_size}: it must be at least {transformer.MIN_SIDE}')


def _read(job: Job, max_size: int | None) -> images.Picture:
    """Reads one picture at the size it will have."""
    picture = images.read(job.source)
    alpha = picture.alpha
    if alpha is not None and max_size is not None:
        alpha = images.fit(alpha, max_size)
    return images.Picture(_fit(picture.rgb, max_size, str(job.source)), alpha)


def define_flags(values: flags.FlagValues) -> None:
    """Adds the command's flags."""
    text = functools.partial(flags.DEFINE_string, flag_values=values)
    flags.DEFINE_multi_string(
        'style',
        None,
        'A style file, or LIBRARY.safetensors:NAME; several for a blend.',
        flag_values=values,
    )
    flags.DEFINE_list(
        'weights',
        None,
        'Of a blend: 0.3,0.7 for two styles (default: equal ones).',
        flag_values=values,
    )
    flags.DEFINE_multi_string(
        'mask',
        None,
        'Grey, white where a style goes: for each --style, or all but the first.',
        flag_values=values,
    )
    flags.DEFINE_float(
        'feather',
        FEATHER,
        "Softness of the masks' edges, as a share of the shorter side.",
        flag_values=values,
    )
    flags.DEFINE_float(
        'strength', 1.0, 'From 0, the photograph, to 1, the full style.', flag_values=values
    )
    flags.DEFINE_bool(
        'keep_colours',
        False,
        "Keep the photograph's colours; the style gives the brightness alone.",
        flag_values=values,
    )
    flags.DEFINE_integer(
        'grid',
        None,
        'Draw a strip of so many between two styles, or a square between four.',
        flag_values=values,
    )
    flags.DEFINE_integer(
        'animate',
        None,
        'Write a moving picture (.webp, .gif, .png) of so many frames between styles.',
        flag_values=values,
    )
    flags.DEFINE_integer(
        'milliseconds', 100, 'That a frame of --animate is shown.', flag_values=values
    )
    flags.DEFINE_bool(
        'all',
        False,
        'Render one picture in every style of a library: into a folder, or, where --output is a '
        'picture, as a contact sheet.',
        flag_values=values,
    )
    text(
        'input',
        None,
        'A picture, a folder of them, searched with its sub-folders, a video, camera:0, or - for '
        'frames on the standard input.',
    )
    text(
        'output',
        None,
        'The picture (.png, .jpg, .webp), folder or video (.mp4, .mkv) to write, or - for frames '
        'on the standard output.',
    )
    text(
        'theta',
        None,
        "What the style was adapted from; needed for styles of 'norm' and for --strength, where it "
        'is not the one that comes with the package.',
    )
    flags.DEFINE_integer(
        'max_size', None, 'Reduce the longer side to this many pixels.', flag_values=values
    )
    text('tile', 'auto', "Work in strips: 'auto' for large pictures, 'always', 'never'.")
    flags.DEFINE_bool('overwrite', False, 'Replace existing files.', flag_values=values)
    film.define_flags(values)


def main(values: flags.FlagValues) -> int:
    """Stylizes as the flags say; returns the exit code."""
    cli.require(values, 'style', 'input', 'output')
    if values.max_size is not None:
        _check_max_size(values.max_size)
    _check_tile(values.tile)
    if values.all:
        return _render_all(values)
    if film.wanted(values):
        return _film(values)
    how: dict[str, Any] = {'tile': values.tile, 'progress': True}
    source, target = pathlib.Path(values.input), pathlib.Path(values.output)
    if values.animate is not None:
        return _animate(values, source, target)
    jobs = plan(source, target, overwrite=values.overwrite)
    if values.grid is not None:
        return _draw_grid(values, source, target)
    if values.mask:
        return _divide(values, source, jobs)
    look = looks.load(values.style, weights=looks.numbers(values.weights), **_options(values))
    if source.is_dir():
        for folder in {job.target.parent: None for job in jobs}:
            _make_folder(folder)
        for job in jobs:
            images.check_output(job.target, overwrite=values.overwrite)
    failed = 0
    with metrics.progress(
        jobs, description='stylizing', unit='picture', disable=len(jobs) < 2
    ) as bar:
        for job in bar:
            try:
                picture = _read(job, values.max_size)
            except images.ImageError as error:
                if not source.is_dir():
                    raise
                failed += 1
                logging.warning('skipped: %s', error)
                continue
            result = render(look, picture.rgb, **how)
            images.write(job.target, result, alpha=picture.alpha, overwrite=values.overwrite)
    logging.info('wrote %d of %d pictures to %s', len(jobs) - failed, len(jobs), target)
    if failed > sources.BAD_SHARE * len(jobs):
        raise UserError(
            f'{failed} of {len(jobs)} pictures could not be stylized; they are named above: '
            'repair or remove them'
        )
    return 0


def _options(values: flags.FlagValues) -> dict[str, Any]:
    """Arguments of `looks.load` that do not depend on the number of styles."""
    return {name: getattr(values, name) for name in ('strength', 'keep_colours', 'theta')}


def _divide(values: flags.FlagValues, source: pathlib.Path, jobs: Sequence[Job]) -> int:
    """Writes one picture with a style in each region."""
    if values.weights is not None or source.is_dir():
        raise UserError('--mask is for one picture, and goes without --weights')
    picture = images.read(source)
    result = stylize(
        values.style, picture.rgb, masks=values.mask, feather=values.feather,
        max_size=values.max_size, tile=values.tile, progress=True, **_options(values),
    )  # fmt: skip
    alpha = picture.alpha
    if alpha is not None and values.max_size is not None:
        alpha = images.fit(alpha, values.max_size)
    images.write(jobs[0].target, result, alpha=alpha, overwrite=values.overwrite)
    logging.info('wrote %s', jobs[0].target)
    return 0


def _film(values: flags.FlagValues) -> int:
    """Stylizes a moving picture; returns the exit code."""

    def prepare(batch: int) -> tuple[pipeline.Render, dict[str, Any]]:
        look = looks.load(values.style, weights=looks.numbers(values.weights), **_options(values))

        def frames(pixels: np.ndarray) -> np.ndarray:
            count = len(pixels)  # the last batch is filled up, so that nothing is compiled anew
            full = np.concatenate([pixels, np.repeat(pixels[-1:], batch - count, axis=0)])
            return render_batch(look, full)[:count]

        settings = {
            'network': tensors.fingerprint(looks.network(look)),
            'strength': look.strength,
            'keep_colours': look.keep_colours,
        }
        return frames, settings

    return film.run(values, prepare)


def _draw_grid(values: flags.FlagValues, source: pathlib.Path, target: pathlib.Path) -> int:
    """Writes one picture of blends from style to style."""
    if values.weights is not None or source.is_dir():
        raise UserError('--grid is for one picture, and chooses the weights itself')
    files = looks.open_styles(values.style)
    rows = mixing.corners(len(files), values.grid)
    images.check_output(target, overwrite=values.overwrite)
    pixels = _fit(images.read(source).rgb, values.max_size, str(source))
    chosen = [[looks.load(files, weights=w, **_options(values)) for w in row] for row in rows]
    drawn = [
        np.concatenate([render(look, pixels, tile=values.tile) for look in row], axis=1)
        for row in chosen
    ]
    images.write(target, np.concatenate(drawn), overwrite=values.overwrite)
    logging.info('wrote %d blends to %s', sum(map(len, rows)), target)
    return 0


def _animate(values: flags.FlagValues, source: pathlib.Path, target: pathlib.Path) -> int:
    """Writes a moving picture of blends from style to style."""
    if values.weights is not None or values.mask or values.grid is not None or source.is_dir():
        raise UserError(
            '--animate is for one picture, goes without --mask and --grid, and chooses the weights '
            'itself'
        )
    files = looks.open_styles(values.style)
    tour = mixing.tour(len(files), values.animate)
    images.check_output(target, overwrite=values.overwrite, suffixes=images.SUFFIXES_MOVING)
    pixels = _fit(images.read(source).rgb, values.max_size, str(source))
    with metrics.progress(tour, description='stylizing', unit='frame') as bar:
        frames = [
            render(looks.load(files, weights=weights, **_options(values)), pixels, tile=values.tile)
            for weights in bar
        ]
    images.write_animation(
        target, frames, milliseconds=values.milliseconds, overwrite=values.overwrite
    )
    logging.info('wrote %d frames to %s', len(frames), target)
    return 0


def _render_all(values: flags.FlagValues) -> int:
    """Writes one picture in every style of a library."""
    source, target = pathlib.Path(values.input), pathlib.Path(values.output)
    if (
        len(values.style) != 1
        or values.weights is not None
        or values.mask
        or values.grid
        or values.animate
    ):
        raise UserError('--all takes one library, and no --weights, --mask, --grid or --animate')
    if source.is_dir() or film.wanted(values):
        raise UserError(f'--input={source}: --all is for one picture')
    if values.batch is not None and values.batch < 1:
        raise UserError(f'--batch={values.batch}: it must be at least 1')
    found = library.load(values.style[0])
    picture = _read(Job(source, target), values.max_size)
    as_sheet = target.suffix.lower() in images.SUFFIXES_OUT and not target.is_dir()
    files = [target] if as_sheet else [target / name for name in library.file_names(found)]
    if as_sheet:
        images.check_output(target, overwrite=values.overwrite)
    for file in files:
        _make_folder(file.parent)
        images.check_output(file, overwrite=values.overwrite)
    made = _in_all_styles(found, picture.rgb, values)
    if as_sheet:
        cells = [picture.rgb, *made]
        captions = [source.name, *found.names]
        across = round(len(cells) ** 0.5)
        rows = [cells[i : i + across] for i in range(0, len(cells), across)]
        words = [captions[i : i + across] for i in range(0, len(cells), across)]
        drawn = sheet.contact_sheet(rows, captions=words, cell=CELL)
        images.write(target, drawn, overwrite=values.overwrite)
    else:
        for file, pixels in zip(files, made, strict=True):
            images.write(file, pixels, alpha=picture.alpha, overwrite=values.overwrite)
    logging.info('wrote %d styles to %s', len(found.entries), target)
    return 0


def _in_all_styles(
    found: library.Library, pixels: np.ndarray, values: flags.FlagValues
) -> Iterator[np.ndarray]:
    """The picture in each style of a library, several in one pass where memory suffices."""
    theta = library.own_theta(found, values.theta)
    options = {**_options(values), 'theta': theta}
    height, width = pixels.shape[:2]
    batch = min(values.batch or film.BATCH, len(found.entries))
    while batch > 1 and not tiles.fits(batch * height, width):
        batch -= 1
    with metrics.progress(description='stylizing', unit='style', total=len(found.entries)) as bar:
        for begin in range(0, len(found.entries), batch):
            names = found.names[begin : begin + batch]
            if batch == 1:
                look = looks.load(library.pick(found, names[0]), **options)
                made = [render(look, pixels, tile=values.tile)]
            else:  # the last ones are filled up, so that nothing is compiled anew
                full = names + names[-1:] * (batch - len(names))
                look = looks.load_batch(found, full, **options)
                made = list(render_batch(look, np.stack([pixels] * batch))[: len(names)])
            bar.update(len(names))
            yield from made


def _make_folder(folder: pathlib.Path) -> None:
    """Makes an output folder, or says why not."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f'{folder} cannot be made ({error.strerror}): choose another --output'
        ) from error


def run() -> int:
    """The console script."""
    return cli.run(main, define_flags, command='metastyle-stylize', usage=USAGE)


if __name__ == '__main__':
    sys.exit(run())
