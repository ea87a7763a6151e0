"""Stylizes images with an adapted network: a file or a folder to a file or a folder.

One forward pass of the transformer of Zhang, Zhu and Zhu 2019, arXiv 1812.05233.
"""

import os
import pathlib
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import flags, logging

from metastyle_jax import (
    cli,
    drawings,
    film,
    images,
    library,
    looks,
    metrics,
    mixing,
    pipeline,
    render,
    sources,
    tensors,
    thetas,
)
from metastyle_jax.types import UserError

USAGE = """Stylizes a picture, or all pictures of a folder, with an adapted style.

  metastyle-stylize --style=painting.safetensors --input=photo.jpg --output=out.png
  metastyle-stylize --style=painting.safetensors --input=film.mp4 --output=stylized.mp4
  metastyle-stylize --style=library.safetensors:NAME --input=photo.jpg --output=out.png
  metastyle-stylize --style=library.safetensors --all --input=photo.jpg --output=sheet.png
"""

FEATHER = 0.01


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
    theta: str | os.PathLike | thetas.Theta | None = None,
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
        `[H, W, 3]` float32 in 0..1; a Pillow image if `image` is one, as transparent as it.

    Raises:
        UserError: a file or a number is not usable, or styles and θ do not belong together.
    """
    pixels, alpha = images.take_picture(image, name='image')
    options: dict[str, Any] = {
        'strength': strength, 'keep_colours': keep_colours, 'theta': theta
    }  # fmt: skip
    size = pixels.shape[:2]
    if max_size is not None:
        render.check_max_size(max_size)
        pixels = render.fit(pixels, max_size, 'The image')
        alpha = None if alpha is None else images.fit(alpha, max_size)
    how: dict[str, Any] = {'tile': tile, 'progress': progress}
    if masks is None:
        made = render.render(looks.load(style, weights=weights, **options), pixels, **how)
        return images.give(made, image, alpha)
    if weights is not None:
        raise UserError('weights blend and masks divide: give one of them')
    several = looks.open_styles(style)
    shares = _regions(masks, len(several), feather, size, pixels.shape[:2])
    several_looks = [looks.load(one, **options) for one in several]
    made = render.render_regions(several_looks, shares, pixels, **how)
    return images.give(made, image, alpha)


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
        if grey.ndim != 2 or not np.all((grey >= 0) & (grey <= 1)):
            raise UserError(f'{name} is no mask: [H, W] in 0..1 is needed')
        if grey.shape != size:
            raise UserError(
                f'{name} has {grey.shape[1]} x {grey.shape[0]} pixels and the image '
                f'{size[1]} x {size[0]}: they must be of one size'
            )
        found.append(images.resize(grey, *shown) if shown != size else grey)
    return mixing.regions(found, count=count, feather=feather)


def stylize_batch(
    styles_of: str | os.PathLike | library.Library,
    pictures: np.ndarray | Sequence[images.ImageLike],
    names: Sequence[str],
    *,
    strength: float = 1.0,
    keep_colours: bool = False,
    theta: str | os.PathLike | thetas.Theta | None = None,
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
    return render.render_batch(look, np.stack(pixels))


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
        UserError: a file is missing or unusable, nothing in a folder can be read, two pictures
            would get one name, or a target exists.
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
        found = sources.open_source(f'folder:{source}', kind='content', bad_share=1.0)
        jobs = [
            Job(pathlib.Path(str(found[i])), target / _writable_name(found.name(i)))
            for i in range(len(found))
        ]
    by_target: dict[pathlib.Path, pathlib.Path] = {}
    for job in jobs:
        if other := by_target.get(job.target):
            raise UserError(f'{other} and {job.source} would both become {job.target}: rename one')
        by_target[job.target] = job.source
        if not source.is_dir() or job.target.exists():
            images.check_output(job.target, overwrite=overwrite, source=job.source)
    return jobs


def _writable_name(name: str) -> str:
    """The name itself if its format can be written, else with .png for a suffix."""
    if pathlib.PurePath(name).suffix.lower() in images.SUFFIXES_OUT:
        return name
    return str(pathlib.PurePath(name).with_suffix('.png'))


def define_flags(values: flags.FlagValues) -> None:
    """Adds the command's flags."""
    add = cli.Flags(values)
    add.several('style', None, 'A style file, or LIBRARY.safetensors:NAME; several for a blend.')
    add.words('weights', None, 'Of a blend: 0.3,0.7 for two styles (default: equal ones).')
    add.several(
        'mask', None, 'Grey, white where a style goes: for each --style, or all but the first.'
    )
    add.real('feather', FEATHER, "Softness of the masks' edges, as a share of the shorter side.")
    add.real('strength', 1.0, 'From 0, the photograph, to 1, the full style.')
    add.switch(
        'keep_colours',
        False,
        "Keep the photograph's colours; the style gives the brightness alone.",
    )
    add.number(
        'grid', None, 'Draw a strip of so many between two styles, or a square between four.'
    )
    add.number(
        'animate',
        None,
        'Write a moving picture (.webp, .gif, .png) of so many frames between styles.',
    )
    add.number('milliseconds', 100, 'That a frame of --animate is shown.')
    add.switch(
        'all',
        False,
        'Render one picture in every style of a library: into a folder, or, where --output is a '
        'picture, as a contact sheet.',
    )
    add.text(
        'input',
        None,
        'A picture, a folder of them, searched with its sub-folders, a video, camera:0, or - for '
        'frames on the standard input.',
    )
    add.text(
        'output',
        None,
        'The picture (.png, .jpg, .webp), folder or video (.mp4, .mkv) to write, or - for frames '
        'on the standard output.',
    )
    add.text(
        'theta',
        None,
        "What the style was adapted from; needed for styles of 'norm' and for --strength, where it "
        'is not the one that comes with the package.',
    )
    add.number('max_size', None, 'Reduce the longer side to this many pixels.')
    add.text('tile', 'auto', "Work in strips: 'auto' for large pictures, 'always', 'never'.")
    add.switch('overwrite', False, 'Replace existing files.')
    film.define_flags(values)


def main(values: flags.FlagValues) -> int:
    """Stylizes as the flags say; returns the exit code."""
    cli.require(values, 'style', 'input', 'output')
    if values.max_size is not None:
        render.check_max_size(values.max_size)
    render.check_tile(values.tile)
    _check_unused(values)
    source, target = pathlib.Path(values.input), pathlib.Path(values.output)
    if values.all:
        return drawings.render_all(values, source, target)
    if film.wanted(values):
        return _film(values)
    if values.animate is not None:
        return drawings.animate(values, source, target)
    if values.grid is not None:
        return drawings.draw_grid(values, source, target)
    jobs = plan(source, target, overwrite=values.overwrite)
    if values.mask:
        return _divide(values, source, jobs)
    look = looks.load(
        values.style, weights=looks.numbers(values.weights), **drawings.options(values)
    )
    if source.is_dir():
        for folder in {job.target.parent: None for job in jobs}:
            drawings.make_folder(folder)
        for job in jobs:
            images.check_output(job.target, overwrite=values.overwrite)
    failed = 0
    with metrics.progress(
        jobs, description='stylizing', unit='picture', disable=len(jobs) < 2
    ) as bar:
        for job in bar:
            try:
                picture = drawings.read(job.source, values.max_size)
                count = images.frames(job.source)
            except images.ImageError as error:
                if not source.is_dir():
                    raise
                failed += 1
                logging.warning('left out: %s', error)
                continue
            if count > 1:
                logging.warning('%s: the first of its %d frames is taken', job.source, count)
            result = render.render(look, picture.rgb, tile=values.tile, progress=True)
            images.write(job.target, result, alpha=picture.alpha, overwrite=values.overwrite)
    logging.info('wrote %d of %d pictures to %s', len(jobs) - failed, len(jobs), target)
    if failed == len(jobs):
        raise UserError(f'none of {failed} pictures could be stylized; they are named above')
    return 0


def _check_unused(values: flags.FlagValues) -> None:
    """Refuses flags that the work asked for does not look at."""
    moving = film.wanted(values)
    needs = {
        'feather': ('--mask', bool(values.mask)),
        'milliseconds': ('--animate', values.animate is not None),
        'batch': ('video and --all', moving or values.all),
        **{name: ('video', moving) for name in film.ONLY},
    }
    for name, (what, there) in needs.items():
        if values[name].present and not there:
            raise UserError(f'--{name} is for {what}: leave it out')


def _divide(values: flags.FlagValues, source: pathlib.Path, jobs: Sequence[Job]) -> int:
    """Writes one picture with a style in each region."""
    if values.weights is not None or source.is_dir():
        raise UserError('--mask is for one picture, and goes without --weights')
    picture = images.read(source)
    result = stylize(
        values.style, picture.rgb, masks=values.mask, feather=values.feather,
        max_size=values.max_size, tile=values.tile, progress=True, **drawings.options(values),
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
        look = looks.load(
            values.style, weights=looks.numbers(values.weights), **drawings.options(values)
        )

        def frames(pixels: np.ndarray) -> np.ndarray:
            count = len(pixels)  # the last batch is filled up, so that nothing is compiled anew
            full = np.concatenate([pixels, np.repeat(pixels[-1:], batch - count, axis=0)])
            return render.render_batch(look, full)[:count]

        settings = {
            'network': tensors.fingerprint(looks.network(look)),
            'strength': look.strength,
            'keep_colours': look.keep_colours,
        }
        return frames, settings

    return film.run(values, prepare)


def run() -> int:
    """The console script."""
    return cli.run(main, define_flags, command='metastyle-stylize', usage=USAGE)


if __name__ == '__main__':
    sys.exit(run())
