"""Stylizes one picture file to another file, or all pictures of a folder to another folder."""

import collections
import itertools
import os
import pathlib
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from metastyle_jax.core import files, progress_bar
from metastyle_jax.core.commands import paths
from metastyle_jax.core.errors import UserError
from metastyle_jax.data.images import image_files, image_inputs, image_writing
from metastyle_jax.storage import style_library, tensor_files
from metastyle_jax.stylization import mask_regions, render, styled_network, stylize
from metastyle_jax.stylization.inputs import done_record, folder_jobs, photograph_files


class StylizedFolder(NamedTuple):
    """Which pictures of a folder were stylized, and why others were not.

    Attributes:
        written: the files that were written.
        left_out: picture that could not be stylized -> reason.
        skipped: output files that existed already and were kept: an earlier run finished them, or
            `skip_existing` was given.
        others: files in the input folders that are not pictures.
        stopped: whether the run was stopped before the last picture.
    """

    written: list[pathlib.Path]
    left_out: dict[pathlib.Path, str]
    skipped: list[pathlib.Path]
    others: list[pathlib.Path]
    stopped: bool = False


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
    keep_location: bool = False,
    overwrite: bool = False,
    progress: bool = False,
) -> pathlib.Path:
    """Stylizes a picture file.

    The metadata of the photograph are copied: date, camera, exposure, people, rights, description
    and resolution. Its transparency is kept, except in JPEG files.

    Args:
        style: see `stylize`.
        input: the picture file.
        output: the picture to write: .png, .jpg, .webp, .tif or .avif, or .heic with the optional
            dependency `heif`. It may also be a folder, which gets a picture of the same name. A
            name that ends in a slash is a folder; it is created if it does not exist.
        weights: see `stylize`.
        masks: see `stylize`.
        feather: see `stylize`.
        strength: see `stylize`.
        keep_colours: see `stylize`.
        theta: see `stylize`.
        max_size: see `stylize`.
        tile: see `stylize`.
        keep_location: whether to keep metadata that say where the photograph was taken.
        overwrite: whether an existing file may be replaced.
        progress: whether to show a progress bar if the picture is rendered in strips.

    Returns:
        The file that was written.

    Raises:
        UserError: an argument is invalid, or a file cannot be read or written.
    """
    render.check_tile(tile)
    input, output = paths.expand(os.fspath(input)), paths.expand(os.fspath(output))
    source, target = pathlib.Path(input), pathlib.Path(output)
    full_size = image_files.probe(source)
    if paths.names_folder(output):
        paths.make_folder(target, UserError)
        target = target / folder_jobs.writable_name(source.name)
    image_writing.check_output(target, overwrite=overwrite, source=source)
    files_of_run = photograph_files.PhotographFiles(max_size=max_size, keep_location=keep_location)
    result = stylize.stylize_picture(
        style, files_of_run.read(source), full_size=full_size, weights=weights, masks=masks,
        feather=feather, tile=tile, progress=progress, strength=strength,
        keep_colours=keep_colours, theta=theta,
    )  # fmt: skip
    files_of_run.write(target, result.rgb, alpha=result.alpha, source=source, overwrite=overwrite)
    files_of_run.report()
    return target


def stylize_folder(
    style: styled_network.StyleLike | Sequence[styled_network.StyleLike],
    input: folder_jobs.PathLike | Sequence[folder_jobs.PathLike],
    output: folder_jobs.PathLike,
    *,
    weights: Sequence[float] | None = None,
    strength: float = 1.0,
    keep_colours: bool = False,
    theta: styled_network.ThetaLike | None = None,
    max_size: int | None = None,
    tile: str = 'auto',
    keep_location: bool = False,
    overwrite: bool = False,
    resume: bool = False,
    skip_existing: bool = False,
    stopped: Callable[[], bool] = lambda: False,
    progress: bool = False,
) -> StylizedFolder:
    """Stylizes all pictures of a folder and of its sub-folders, or several files.

    Pictures that cannot be stylized are listed in the result; the others are still stylized.

    Args:
        style: see `stylize`.
        input: a folder, a picture, a pattern such as ``photos/*.jpg``, or several of these.
        output: the folder to write to; it is created if it does not exist. It gets the sub-folders
            of the input. PNG, JPEG and WebP pictures keep their format, others become PNG. If two
            pictures would get the same name, the suffix becomes part of the name, see
            `distinct_names`.
        weights: see `stylize`.
        strength: see `stylize`.
        keep_colours: see `stylize`.
        theta: see `stylize`.
        max_size: see `stylize`.
        tile: see `stylize`.
        keep_location: see `stylize_file`.
        overwrite: whether existing files may be replaced.
        resume: whether to continue a stopped run: a picture is skipped if its output file was made
            from the same picture, style and settings. A record in the output folder says so, see
            `done_record`.
        skip_existing: whether to skip each picture whose output file exists, whatever it holds.
        stopped: called before each picture; the run stops if it returns True, and can be continued
            with `resume`.
        progress: whether to show a progress bar.

    Returns:
        `StylizedFolder`.

    Raises:
        UserError: an argument is invalid, no picture could be stylized, or a file cannot be
            written.
    """
    render.check_tile(tile)
    if max_size is not None:
        render.check_max_size(max_size)
    existing = folder_jobs.ExistingFiles(overwrite, resume, skip_existing)
    todo = folder_jobs.plan(input, output)
    record = done_record.DoneRecord(pathlib.Path(paths.expand(os.fspath(output))))
    existing.check(todo.pictures, record)
    result = StylizedFolder([], dict(todo.unreadable), [], todo.others)
    if not todo.pictures:
        raise _nothing_done(result)
    network = styled_network.load(
        style, weights=weights, strength=strength, keep_colours=keep_colours, theta=theta
    )
    settings = _settings_digest(network, max_size, keep_location)
    files_of_run = photograph_files.PhotographFiles(max_size=max_size, keep_location=keep_location)
    for folder in {job.target.parent: None for job in todo.pictures}:
        paths.make_folder(folder, UserError)
    for job in todo.pictures:
        image_writing.check_output(job.target, overwrite=True)
    hidden = not progress or len(todo.pictures) < 2
    with progress_bar.show(
        todo.pictures, description='stylizing', unit='picture', disable=hidden
    ) as bar:
        for job in bar:
            if stopped():
                result = result._replace(stopped=True)
                break
            try:
                digest = files.sha256_of(job.source)
                if existing.is_kept(job, record, digest, settings):
                    result.skipped.append(job.target)
                    continue
                picture = files_of_run.read(job.source)
            except (image_files.ImageError, OSError) as error:
                result.left_out[job.source] = _reason(job.source, error)
                continue
            stylized = render.render(network, picture.rgb, tile=tile, progress=progress)
            record.begin(job.name)
            files_of_run.write(
                job.target, stylized, alpha=picture.alpha, source=job.source,
                overwrite=overwrite or resume,
            )  # fmt: skip
            record.finish(job.name, source_sha256=digest, settings_sha256=settings)
            result.written.append(job.target)
    files_of_run.report()
    if not (result.written or result.skipped or result.stopped):
        raise _nothing_done(result)
    return result


def _settings_digest(
    network: styled_network.StyledNetwork, max_size: int | None, keep_location: bool
) -> str:
    """SHA-256 of the network and of all settings that change the result for a photograph."""
    theta = network.theta_params if network.strength < 1 else None
    return done_record.settings_digest(
        {
            'params': tensor_files.fingerprint(network.params),
            'theta': None if theta is None else tensor_files.fingerprint(theta),
            'strength': float(network.strength),
            'keep_colours': bool(network.keep_colours),
            'max_size': max_size,
            'keep_location': keep_location,
        }
    )


def _reason(path: pathlib.Path, error: Exception) -> str:
    """Returns the reason why a picture is left out, with the name of its file."""
    if isinstance(error, image_files.ImageError):
        return str(error)
    return f'{path}: {files.reason(error)}'


def _nothing_done(result: StylizedFolder) -> UserError:
    """Makes the error for a run in which no picture could be stylized."""
    reasons = list(result.left_out.values())
    lines = '\n  '.join(reasons)
    return UserError(f'none of the {len(reasons)} pictures could be stylized:\n  {lines}')


def file_names_of_styles(library: style_library.Library) -> list[str]:
    """Chooses the name of a PNG file for each style of a library.

    Folders in the names of styles become folders. No file name leads out of the output folder.

    Args:
        library: the style library.

    Returns:
        A relative path for each style, in the order of the library's names; all are different.
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
