"""Long jobs of a visitor: stylizes many pictures, or a film, in the chosen style."""

import pathlib
import shutil
import zipfile
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from metastyle_jax.core.errors import UserError
from metastyle_jax.stylization import stylize_folder, stylize_video
from metastyle_jax.stylization.video import ffmpeg
from metastyle_jax.ui import limits
from metastyle_jax.ui.config import MEGAPIXEL, RenderOptions
from metastyle_jax.ui.sessions import Session
from metastyle_jax.ui.studio import Studio

# Called with the number of finished pictures or frames, and their total number (0 if unknown).
Report = Callable[[int, int], Any]


class JobResult(NamedTuple):
    """Result of a job.

    Attributes:
        file: the file to download.
        done: number of finished pictures or frames.
        left_out: file that could not be used -> reason.
        stopped: whether the visitor stopped the job.
    """

    file: pathlib.Path
    done: int
    left_out: dict[pathlib.Path, str]
    stopped: bool


def stylize_pictures(
    studio: Studio,
    session: Session,
    uploads: Sequence[str],
    rendering: RenderOptions,
    report: Report,
) -> JobResult:
    """Stylizes many pictures, and writes the results to one ZIP file.

    Pictures that cannot be used are listed in the result; the others are still stylized.

    Args:
        studio: the initialization and the limits.
        session: the visitor, who has chosen a style.
        uploads: the uploaded files.
        rendering: how the style is applied.
        report: called before each picture, and at the end.

    Raises:
        UserError: no style is chosen, too many files are given, or no picture can be used.
    """
    rendering.validate()
    paths = [pathlib.Path(upload) for upload in uploads]
    session.uploads.update(paths)
    limits.check_count(paths, studio.config)
    styles, weights = session.chosen_styles()
    folder, left_out = session.new_folder('inputs'), {}
    for i, path in enumerate(paths):
        try:
            limits.check_picture(path, studio.config)
        except UserError as error:
            left_out[path] = str(error)
            continue
        (folder / str(i)).mkdir()
        shutil.copyfile(path, folder / str(i) / path.name)
    inputs = sorted(folder.glob('*/*'), key=lambda path: int(path.parent.name))
    if not inputs:
        raise UserError(f'None of the files can be used. {"; ".join(left_out.values())}')
    count = iter(range(len(inputs) + 1))

    def stopped() -> bool:  # is called before each picture
        report(next(count), len(inputs))
        return session.stop.is_set()

    pictures = session.new_folder('pictures')
    result = stylize_folder.stylize_folder(
        styles, inputs, pictures, weights=weights,
        strength=rendering.strength, keep_colours=rendering.keep_colours,
        max_size=rendering.max_size, theta=studio.theta, stopped=stopped,
    )  # fmt: skip
    report(len(result.written), len(inputs))
    if not result.written:
        raise UserError('Stopped before the first picture was finished')
    target = session.new_folder('archive') / 'stylized.zip'
    with zipfile.ZipFile(target, 'w', zipfile.ZIP_STORED) as archive:  # pictures are compressed
        for path in result.written:
            archive.write(path, path.name)
    shutil.rmtree(folder)
    shutil.rmtree(pictures)
    return JobResult(target, len(result.written), left_out | result.left_out, result.stopped)


def stylize_film(
    studio: Studio, session: Session, upload: str, rendering: RenderOptions, report: Report
) -> JobResult:
    """Stylizes a film frame by frame, with its sound, and writes an MP4 file.

    Args:
        studio: see `stylize_pictures`.
        session: see `stylize_pictures`.
        upload: the uploaded film.
        rendering: how the style is applied.
        report: called after each batch of frames.

    Raises:
        UserError: the extra `video` is missing, no style is chosen, or the film cannot be used.
    """
    rendering.validate()
    path = pathlib.Path(upload)
    session.uploads.add(path)
    ffmpeg.require_pyav()
    limits.check_size(path, studio.config)
    styles, weights = session.chosen_styles()
    total = _check_film(studio, path, rendering)
    done = 0

    def count(frames: int) -> None:
        nonlocal done
        done += frames
        report(done, total)

    def stopped() -> bool:
        return session.stop.is_set() or done > studio.config.max_frames

    target = session.new_folder('film') / f'{path.stem}.mp4'
    frames = stylize_video.stylize_video(
        styles, path, target, weights=weights, strength=rendering.strength,
        keep_colours=rendering.keep_colours, theta=studio.theta, stopped=stopped,
        report=count, max_size=rendering.max_size,
    )  # fmt: skip
    if not target.exists():
        raise UserError(_unfinished(studio, path, session))
    return JobResult(target, frames, {}, session.stop.is_set())


def _unfinished(studio: Studio, path: pathlib.Path, session: Session) -> str:
    """Returns the message about a film that was not finished."""
    if session.stop.is_set():
        return 'Stopped before the film was finished'
    return f'{path.name} has more than {studio.config.max_frames} frames: cut it into shorter films'


def _check_film(studio: Studio, path: pathlib.Path, rendering: RenderOptions) -> int:
    """Raises UserError if a film is too large; returns the number of its frames, 0 if unknown."""
    from metastyle_jax.stylization.video.decoding import reader

    with reader.open_video(path, max_size=rendering.max_size) as film:
        frames, (height, width) = film.frame_count, film.size
    if frames > studio.config.max_frames:
        raise UserError(
            f'{path.name} has about {frames} frames, more than {studio.config.max_frames}: cut it '
            'into shorter films'
        )
    if height * width > studio.config.max_pixels * MEGAPIXEL:
        raise UserError(f'{path.name} has frames of {width} × {height} pixels: make them smaller')
    return frames
