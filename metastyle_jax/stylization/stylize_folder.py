"""Stylizes picture files: one file to a file, or all pictures of a folder to a folder."""

import collections
import itertools
import os
import pathlib
import re
from collections.abc import Sequence
from typing import NamedTuple

from absl import logging

from metastyle_jax.core import progress_bar
from metastyle_jax.core.errors import UserError
from metastyle_jax.data import sources
from metastyle_jax.data.images import image_files, image_inputs, image_writing, pixel_values
from metastyle_jax.storage import style_library
from metastyle_jax.stylization import mask_regions, render, styled_network, stylize


class PictureJob(NamedTuple):
    """A picture to stylize.

    Attributes:
        source: the file to read.
        target: the file to write.
    """

    source: pathlib.Path
    target: pathlib.Path


class StylizedFolder(NamedTuple):
    """Which pictures of a folder were stylized, and which were left out for what reason.

    Attributes:
        written: the files that were written.
        left_out: each picture that could not be stylized, and the reason.
    """

    written: list[pathlib.Path]
    left_out: dict[pathlib.Path, str]


def stylize_file(
    style: styled_network.StyleLike | Sequence[styled_network.StyleLike],
    input: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    weights: Sequence[float] | None = None,
    masks: Sequence[image_inputs.ImageLike] | None = None,
    feather: float = mask_regions.FEATHER,
    strength: float = 1.0,
    keep_colours: bool = False,
    theta: styled_network.ThetaLike | None = None,
    max_size: int | None = None,
    tile: str = 'auto',
    overwrite: bool = False,
    progress: bool = False,
) -> pathlib.Path:
    """Stylizes a picture file; PNG and WebP keep its transparency.

    Args:
        style: see `stylize`.
        input: the picture.
        output: the picture to write, .png, .jpg or .webp; or an existing folder.
        weights: see `stylize`.
        masks: see `stylize`.
        feather: see `stylize`.
        strength: see `stylize`.
        keep_colours: see `stylize`.
        theta: see `stylize`.
        max_size: see `stylize`.
        tile: see `stylize`.
        overwrite: whether an existing file may be replaced.
        progress: whether to show a progress bar for a large picture.

    Returns:
        The file that was written.

    Raises:
        UserError: an argument is invalid, or a file cannot be read or written.
    """
    render.check_tile(tile)
    source, target = pathlib.Path(input), pathlib.Path(output)
    image_files.probe(source)
    if target.is_dir():
        target = target / _writable_name(source.name)
    image_writing.check_output(target, overwrite=overwrite, source=source)
    result = stylize.stylize_picture(
        style, _read(source, max_size), full_size=image_files.probe(source), weights=weights,
        masks=masks, feather=feather, tile=tile, progress=progress,
        strength=strength, keep_colours=keep_colours, theta=theta,
    )  # fmt: skip
    image_writing.write(target, result.rgb, alpha=result.alpha, overwrite=overwrite)
    return target


def stylize_folder(
    style: styled_network.StyleLike | Sequence[styled_network.StyleLike],
    input: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    weights: Sequence[float] | None = None,
    strength: float = 1.0,
    keep_colours: bool = False,
    theta: styled_network.ThetaLike | None = None,
    max_size: int | None = None,
    tile: str = 'auto',
    overwrite: bool = False,
    progress: bool = False,
) -> StylizedFolder:
    """Stylizes all pictures of a folder and of its sub-folders.

    A picture that cannot be stylized is logged and left out; the others are still stylized.

    Args:
        style: see `stylize`.
        input: the folder of pictures.
        output: the folder to write to; it is made if it does not exist. It gets the same
            sub-folders. A picture in a format that cannot be written becomes a PNG.
        weights: see `stylize`.
        strength: see `stylize`.
        keep_colours: see `stylize`.
        theta: see `stylize`.
        max_size: see `stylize`.
        tile: see `stylize`.
        overwrite: whether existing files may be replaced.
        progress: whether to show a progress bar.

    Returns:
        `StylizedFolder`.

    Raises:
        UserError: an argument is invalid, the folder has no picture that can be stylized, or a
            file cannot be written.
    """
    render.check_tile(tile)
    if max_size is not None:
        render.check_max_size(max_size)
    jobs = _plan(pathlib.Path(input), pathlib.Path(output), overwrite=overwrite)
    network = styled_network.load(
        style, weights=weights, strength=strength, keep_colours=keep_colours, theta=theta
    )
    for folder in {job.target.parent: None for job in jobs}:
        make_folder(folder)
    for job in jobs:
        image_writing.check_output(job.target, overwrite=overwrite)
    result = StylizedFolder([], {})
    hidden = not progress or len(jobs) < 2
    with progress_bar.show(jobs, description='stylizing', unit='picture', disable=hidden) as bar:
        for job in bar:
            try:
                picture = _read(job.source, max_size)
            except image_files.ImageError as error:
                logging.warning('left out: %s', error)
                result.left_out[job.source] = str(error)
                continue
            stylized = render.render(network, picture.rgb, tile=tile, progress=progress)
            image_writing.write(job.target, stylized, alpha=picture.alpha, overwrite=overwrite)
            result.written.append(job.target)
    if not result.written:
        raise UserError(
            f'none of the {len(jobs)} pictures could be stylized; the reasons are given above'
        )
    return result


def make_folder(folder: pathlib.Path) -> None:
    """Makes an output folder and those above it; raises UserError if that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f'{folder} cannot be made ({error.strerror}): choose another output'
        ) from error


def _plan(source: pathlib.Path, target: pathlib.Path, *, overwrite: bool) -> list[PictureJob]:
    """Lists the pictures of a folder with their targets; refuses what cannot be written."""
    if target.suffix.lower() in image_writing.SUFFIXES_OUT and not target.is_dir():
        raise UserError(f'input={source} is a folder, so output={target} must be a folder too')
    if target.resolve().is_relative_to(source.resolve()):
        raise UserError(f'output={target} is inside of input={source}: choose another folder')
    pictures = sources.open_source(f'folder:{source}', kind='content', bad_share=1.0)
    jobs: dict[pathlib.Path, PictureJob] = {}
    for i in range(len(pictures)):
        job = PictureJob(pathlib.Path(str(pictures[i])), target / _writable_name(pictures.name(i)))
        if other := jobs.get(job.target):
            raise UserError(
                f'{other.source} and {job.source} would both become {job.target}: rename one'
            )
        jobs[job.target] = job
        # A missing folder is no error: it is made once all targets have been checked.
        if job.target.exists():
            image_writing.check_output(job.target, overwrite=overwrite, source=job.source)
    return list(jobs.values())


def _read(path: pathlib.Path, max_size: int | None) -> pixel_values.Picture:
    """Reads a picture and reduces it to `max_size`; warns if the file holds more than one."""
    picture = render.read_fitted(path, max_size, name='picture')
    count = image_files.frames(path)
    if count > 1:
        logging.warning('%s: the first of its %d frames is taken', path, count)
    return picture


def _writable_name(name: str) -> str:
    """The name itself if its format can be written, else with the suffix .png."""
    if pathlib.PurePath(name).suffix.lower() in image_writing.SUFFIXES_OUT:
        return name
    return str(pathlib.PurePath(name).with_suffix('.png'))


def file_names_of_styles(library: style_library.Library) -> list[str]:
    """Names of PNG files, one for each style, for pictures in all styles of a library.

    Folders in the names of styles become folders, and no file name leads out of the output folder.

    Args:
        library: the library.

    Returns:
        A relative path for each style, in the order of the rows.
    """
    parts = [
        [
            re.sub(r'[<>:"\\|?*\x00-\x1f]', '_', part).strip('. ') or '_'
            for part in name.split('/')
            if part not in ('', '.', '..')
        ]
        for name in library.entries
    ]
    whole = ['/'.join(each) or '_' for each in parts]
    short = [style_library.stem_of(name) for name in whole]
    counts = collections.Counter(map(str.casefold, short))
    names, taken = [], set()
    for stem, name in zip(short, whole, strict=True):
        name = stem if counts[stem.casefold()] == 1 else name
        # Some file systems do not distinguish upper and lower case.
        numbered = (f'{name}_{number}' for number in itertools.count(2))
        free = next(x for x in itertools.chain([name], numbered) if x.casefold() not in taken)
        taken.add(free.casefold())
        names.append(f'{free}.png')
    return names
