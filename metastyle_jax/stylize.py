"""Stylizes images with an adapted network: a file or a folder to a file or a folder.

One forward pass of the transformer of Zhang, Zhu and Zhu 2019, arXiv 1812.05233.
"""

import functools
import os
import pathlib
import sys
from typing import NamedTuple

import jax
import numpy as np
from absl import flags, logging

from metastyle_jax import checkpoint, cli, images, metrics, sources, styles, transformer
from metastyle_jax.types import Params, UserError

USAGE = """Stylizes a picture, or all pictures of a folder, with an adapted style.

  metastyle-stylize --style=painting.safetensors --input=photo.jpg --output=out.png
  metastyle-stylize --style=painting.safetensors --input=photos --output=stylized
"""


class Job(NamedTuple):
    """A picture to read and where to write it."""

    source: pathlib.Path
    target: pathlib.Path


def stylize(
    style: str | os.PathLike | styles.Style,
    image: str | os.PathLike | np.ndarray,
    *,
    theta: str | os.PathLike | checkpoint.Theta | None = None,
    max_size: int | None = None,
) -> np.ndarray:
    """Stylizes one image.

    Args:
        style: a style file, or what `adapt` returned.
        image: an image file, or `[H, W, 3]` float in 0..1; H and W at least 16.
        theta: what the style was adapted from; needed for styles of 'norm' parameters only, and
            for these unless it is the one that comes with the package.
        max_size: the longer side is reduced to this many pixels; None keeps the size.

    Returns:
        `[H, W, 3]` float32 in 0..1.

    Raises:
        UserError: a file is not usable, or style and θ do not belong together.
    """
    if isinstance(image, np.ndarray | jax.Array):
        pixels = images.from_array(np.asarray(image), name='image')
    else:
        pixels = images.read(image).rgb
    if max_size is not None:
        _check_max_size(max_size)
        pixels = _fit(pixels, max_size, 'The image')
    return render(load(style, theta=theta), pixels)


def load(
    style: str | os.PathLike | styles.Style,
    *,
    theta: str | os.PathLike | checkpoint.Theta | None = None,
) -> Params:
    """Parameters of the network for a style; see `stylize` for the arguments."""
    if not isinstance(style, styles.Style):
        style = styles.load_style(style)
    if theta is None and style.adapted != 'all':
        shipped = checkpoint.load_theta()
        theta = shipped if shipped.fingerprint == style.theta_sha256 else None
    if theta is not None and not isinstance(theta, checkpoint.Theta):
        theta = checkpoint.load_theta(theta)
    params = styles.merge_style(style, theta)
    transformer.check(params)
    return params


def render(params: Params, pixels: np.ndarray) -> np.ndarray:
    """One forward pass: `[H, W, 3]` float32 in 0..1 to the same."""
    return np.asarray(_forward(params, pixels[None])[0])


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
    text('style', None, 'A style file that metastyle-adapt wrote.')
    text('input', None, 'A picture, or a folder of them, searched with its sub-folders.')
    text('output', None, 'The picture to write (.png, .jpg, .webp), or a folder.')
    text(
        'theta',
        None,
        "What the style was adapted from; needed for styles of 'norm' only, where it is not the "
        'one that comes with the package.',
    )
    flags.DEFINE_integer(
        'max_size', None, 'Reduce the longer side to this many pixels.', flag_values=values
    )
    flags.DEFINE_bool('overwrite', False, 'Replace existing files.', flag_values=values)


def main(values: flags.FlagValues) -> int:
    """Stylizes as the flags say; returns the exit code."""
    cli.require(values, 'style', 'input', 'output')
    if values.max_size is not None:
        _check_max_size(values.max_size)
    source, target = pathlib.Path(values.input), pathlib.Path(values.output)
    jobs = plan(source, target, overwrite=values.overwrite)
    params = load(values.style, theta=values.theta)
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
            result = render(params, picture.rgb)
            images.write(job.target, result, alpha=picture.alpha, overwrite=values.overwrite)
    logging.info('wrote %d of %d pictures to %s', len(jobs) - failed, len(jobs), target)
    if failed > sources.BAD_SHARE * len(jobs):
        raise UserError(
            f'{failed} of {len(jobs)} pictures could not be stylized; they are named above: '
            'repair or remove them'
        )
    return 0


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
