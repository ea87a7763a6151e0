"""Stylizes picture files: one file to a file, or all pictures of a folder to a folder."""

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
    """Which pictures were stylized, and which were not for what reason.

    Attributes:
        written: the files that were written.
        left_out: each picture that could not be stylized, and the reason.
        skipped: files that were there already: finished by an earlier run, or kept because of
            `skip_existing`.
        others: files in the input folders that are no pictures.
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

    The result gets the metadata of the photograph: date, camera, exposure, people, rights,
    description and resolution. All formats but JPEG keep its transparency.

    Args:
        style: see `stylize`.
        input: the picture.
        output: the picture to write: .png, .jpg, .webp, .tif or .avif, or .heic with the extra
            heif; or a folder. A slash at its end marks a folder, which is made.
        weights: see `stylize`.
        masks: see `stylize`.
        feather: see `stylize`.
        strength: see `stylize`.
        keep_colours: see `stylize`.
        theta: see `stylize`.
        max_size: see `stylize`.
        tile: see `stylize`.
        keep_location: whether the place where the photograph was taken stays in the metadata.
        overwrite: whether an existing file may be replaced.
        progress: whether to show a progress bar for a large picture.

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

    A picture that cannot be stylized is left out; the others are still stylized.

    Args:
        style: see `stylize`.
        input: a folder, a picture, a pattern such as ``photos/*.jpg``, or several of these.
        output: the folder to write to; it is made if it does not exist. It gets the same
            sub-folders. PNG, JPEG and WebP pictures keep their format, others become PNG. Pictures
            that would get the same name get their suffix in it, see `distinct_names`.
        weights: see `stylize`.
        strength: see `stylize`.
        keep_colours: see `stylize`.
        theta: see `stylize`.
        max_size: see `stylize`.
        tile: see `stylize`.
        keep_location: see `stylize_file`.
        overwrite: whether existing files may be replaced.
        resume: whether to continue a stopped run: pictures are skipped if their file, the style and
            the settings are those of the result that is there. The folder's record tells, see
            `done_record`.
        skip_existing: whether to skip each picture whose output file exists, whatever it shows.
        stopped: asked before each picture whether to stop; `resume` continues later.
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
    """SHA-256 of everything but the photograph that determines the result."""
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
    """Why a picture is left out; the message of an `ImageError` names the file itself."""
    if isinstance(error, image_files.ImageError):
        return str(error)
    return f'{path}: {files.reason(error)}'


def _nothing_done(result: StylizedFolder) -> UserError:
    """The error for input of which no picture could be stylized."""
    reasons = list(result.left_out.values())
    lines = '\n  '.join(reasons)
    return UserError(f'none of the {len(reasons)} pictures could be stylized:\n  {lines}')


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
