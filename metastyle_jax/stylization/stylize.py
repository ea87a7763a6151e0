"""Stylizes images with an adapted network: a file or a folder to a file or a folder.

One forward pass of the transformer of Zhang, Zhu and Zhu 2019, arXiv 1812.05233.
"""

import os
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import flags, logging

from metastyle_jax.core import command_line, progress_bar
from metastyle_jax.core.errors import UserError
from metastyle_jax.data import sources
from metastyle_jax.data.images import image_files, image_inputs, image_writing, resizing
from metastyle_jax.storage import style_library, tensor_files, theta_files
from metastyle_jax.stylization import blending, grids, render, styled_network, video_command
from metastyle_jax.stylization.video import pipeline

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
    style: styled_network.StyleLike | Sequence[styled_network.StyleLike],
    image: image_inputs.ImageLike,
    *,
    weights: Sequence[float] | None = None,
    masks: Sequence[image_inputs.ImageLike] | None = None,
    feather: float = FEATHER,
    strength: float = 1.0,
    keep_colours: bool = False,
    theta: str | os.PathLike | theta_files.Theta | None = None,
    max_size: int | None = None,
    tile: str = 'auto',
    progress: bool = False,
) -> Any:
    """Stylizes one image.

    Args:
        style: a style file, what `adapt` returned, or `LIBRARY.safetensors:NAME`; or several, to
            be blended.
        image: a file, a Pillow image or an array, see `image_inputs.as_rgb`.
        weights: of the styles, not negative, of the sum 1; equal ones if None.
        masks: where each style goes, instead of a blend: grey pictures in any of these forms, or
            `[H, W]` float in 0..1, of the image's size; one for each style, or one less, and the
            first takes the rest.
        feather: softness of their edges, see `blending.regions`.
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
    pixels, alpha = image_inputs.as_picture(image, name='image')
    options: dict[str, Any] = {
        'strength': strength, 'keep_colours': keep_colours, 'theta': theta
    }  # fmt: skip
    size = pixels.shape[:2]
    if max_size is not None:
        render.check_max_size(max_size)
        pixels = render.fit(pixels, max_size, 'The image')
        alpha = None if alpha is None else resizing.fit(alpha, max_size)
    how: dict[str, Any] = {'tile': tile, 'progress': progress}
    if masks is None:
        made = render.render(styled_network.load(style, weights=weights, **options), pixels, **how)
        return image_inputs.like_input(made, image, alpha)
    if weights is not None:
        raise UserError('weights blend and masks divide: give one of them')
    several = styled_network.open_styles(style)
    shares = _regions(masks, len(several), feather, size, pixels.shape[:2])
    several_looks = [styled_network.load(one, **options) for one in several]
    made = render.render_regions(several_looks, shares, pixels, **how)
    return image_inputs.like_input(made, image, alpha)


def _regions(
    masks: Sequence[image_inputs.ImageLike],
    count: int,
    feather: float,
    size: tuple[int, ...],
    shown: tuple[int, ...],
) -> np.ndarray:
    """Reads masks for a picture of a size that is shown at another; see `blending.regions`."""
    found = []
    for i, mask in enumerate(masks):
        if isinstance(mask, np.ndarray | jax.Array):
            name, grey = f'mask {i + 1}', np.asarray(mask, np.float32)
        else:
            name = str(mask) if isinstance(mask, str | os.PathLike) else f'mask {i + 1}'
            grey = image_inputs.as_rgb(mask, name=name).mean(-1)
        if grey.ndim != 2 or not np.all((grey >= 0) & (grey <= 1)):
            raise UserError(f'{name} is no mask: [H, W] in 0..1 is needed')
        if grey.shape != size:
            raise UserError(
                f'{name} has {grey.shape[1]} x {grey.shape[0]} pixels and the image '
                f'{size[1]} x {size[0]}: they must be of one size'
            )
        found.append(resizing.resize(grey, *shown) if shown != size else grey)
    return blending.regions(found, count=count, feather=feather)


def stylize_batch(
    styles_of: str | os.PathLike | style_library.Library,
    pictures: np.ndarray | Sequence[image_inputs.ImageLike],
    names: Sequence[str],
    *,
    strength: float = 1.0,
    keep_colours: bool = False,
    theta: str | os.PathLike | theta_files.Theta | None = None,
) -> np.ndarray:
    """Stylizes a batch in which each picture has another style, in one forward pass.

    Args:
        styles_of: a library, or its file.
        pictures: N of one size: `[N, H, W, 3]` float in 0..1, or N in any form of
            `image_inputs.as_rgb`.
        names: of N styles of the library; folders and suffix may be left out.
        strength: see `stylize`.
        keep_colours: see `stylize`.
        theta: what the library was adapted from; the one that comes with the package if None.

    Returns:
        `[N, H, W, 3]` float32 in 0..1.

    Raises:
        UserError: a file, a name or a number is not usable, or sizes differ.
    """
    if not isinstance(styles_of, style_library.Library):
        styles_of = style_library.load(styles_of)
    look = styled_network.load_batch(
        styles_of, names, strength=strength, keep_colours=keep_colours, theta=theta
    )
    pixels = [image_inputs.as_rgb(one, name=f'picture {i + 1}') for i, one in enumerate(pictures)]
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
        image_files.probe(source)
        if target.is_dir():
            target = target / _writable_name(source.name)
        jobs = [Job(source, target)]
    else:
        if target.suffix.lower() in image_writing.SUFFIXES_OUT and not target.is_dir():
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
            image_writing.check_output(job.target, overwrite=overwrite, source=job.source)
    return jobs


def _writable_name(name: str) -> str:
    """The name itself if its format can be written, else with .png for a suffix."""
    if pathlib.PurePath(name).suffix.lower() in image_writing.SUFFIXES_OUT:
        return name
    return str(pathlib.PurePath(name).with_suffix('.png'))


def define_flags(values: flags.FlagValues) -> None:
    """Adds the command's flags."""
    add = command_line.Flags(values)
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
    video_command.define_flags(values)


def main(values: flags.FlagValues) -> int:
    """Stylizes as the flags say; returns the exit code."""
    command_line.require(values, 'style', 'input', 'output')
    if values.max_size is not None:
        render.check_max_size(values.max_size)
    render.check_tile(values.tile)
    _check_unused(values)
    source, target = pathlib.Path(values.input), pathlib.Path(values.output)
    if values.all:
        return grids.render_all(values, source, target)
    if video_command.wanted(values):
        return _film(values)
    if values.animate is not None:
        return grids.animate(values, source, target)
    if values.grid is not None:
        return grids.draw_grid(values, source, target)
    jobs = plan(source, target, overwrite=values.overwrite)
    if values.mask:
        return _divide(values, source, jobs)
    look = styled_network.load(
        values.style, weights=styled_network.numbers(values.weights), **grids.options(values)
    )
    if source.is_dir():
        for folder in {job.target.parent: None for job in jobs}:
            grids.make_folder(folder)
        for job in jobs:
            image_writing.check_output(job.target, overwrite=values.overwrite)
    failed = 0
    with progress_bar.show(
        jobs, description='stylizing', unit='picture', disable=len(jobs) < 2
    ) as bar:
        for job in bar:
            try:
                picture = grids.read(job.source, values.max_size)
                count = image_files.frames(job.source)
            except image_files.ImageError as error:
                if not source.is_dir():
                    raise
                failed += 1
                logging.warning('left out: %s', error)
                continue
            if count > 1:
                logging.warning('%s: the first of its %d frames is taken', job.source, count)
            result = render.render(look, picture.rgb, tile=values.tile, progress=True)
            image_writing.write(job.target, result, alpha=picture.alpha, overwrite=values.overwrite)
    logging.info('wrote %d of %d pictures to %s', len(jobs) - failed, len(jobs), target)
    if failed == len(jobs):
        raise UserError(f'none of {failed} pictures could be stylized; they are named above')
    return 0


def _check_unused(values: flags.FlagValues) -> None:
    """Refuses flags that the work asked for does not look at."""
    moving = video_command.wanted(values)
    needs = {
        'feather': ('--mask', bool(values.mask)),
        'milliseconds': ('--animate', values.animate is not None),
        'batch': ('video and --all', moving or values.all),
        **{name: ('video', moving) for name in video_command.ONLY},
    }
    for name, (what, there) in needs.items():
        if values[name].present and not there:
            raise UserError(f'--{name} is for {what}: leave it out')


def _divide(values: flags.FlagValues, source: pathlib.Path, jobs: Sequence[Job]) -> int:
    """Writes one picture with a style in each region."""
    if values.weights is not None or source.is_dir():
        raise UserError('--mask is for one picture, and goes without --weights')
    picture = image_files.read(source)
    result = stylize(
        values.style, picture.rgb, masks=values.mask, feather=values.feather,
        max_size=values.max_size, tile=values.tile, progress=True, **grids.options(values),
    )  # fmt: skip
    alpha = picture.alpha
    if alpha is not None and values.max_size is not None:
        alpha = resizing.fit(alpha, values.max_size)
    image_writing.write(jobs[0].target, result, alpha=alpha, overwrite=values.overwrite)
    logging.info('wrote %s', jobs[0].target)
    return 0


def _film(values: flags.FlagValues) -> int:
    """Stylizes a moving picture; returns the exit code."""

    def prepare(batch: int) -> tuple[pipeline.FrameRenderer, dict[str, Any]]:
        look = styled_network.load(
            values.style, weights=styled_network.numbers(values.weights), **grids.options(values)
        )

        def frames(pixels: np.ndarray) -> np.ndarray:
            count = len(pixels)  # the last batch is filled up, so that nothing is compiled anew
            full = np.concatenate([pixels, np.repeat(pixels[-1:], batch - count, axis=0)])
            return render.render_batch(look, full)[:count]

        settings = {
            'network': tensor_files.fingerprint(styled_network.network(look)),
            'strength': look.strength,
            'keep_colours': look.keep_colours,
        }
        return frames, settings

    return video_command.run(values, prepare)


def run() -> int:
    """The console script."""
    return command_line.run(
        main,
        define_flags,
        command='metastyle-stylize',
        usage=USAGE,
        positional='input',
        output='output',
    )
