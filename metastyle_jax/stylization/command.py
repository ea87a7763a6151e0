"""The work of `metastyle stylize`: its flags, and one function for each kind of work.

The modules that load JAX are imported inside the functions, so that `--help` and mistakes on the
command line are answered at once.
"""

import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from absl import flags, logging

from metastyle_jax.core import command_line, files
from metastyle_jax.core.commands import first_steps, paths
from metastyle_jax.core.errors import UserError
from metastyle_jax.data.folders import totals
from metastyle_jax.stylization.inputs import first_mistakes, flag_checks
from metastyle_jax.stylization.video import ffmpeg
from metastyle_jax.stylization.video.decoding import film_files
from metastyle_jax.stylization.video_settings import VideoSettings

USAGE = """Stylizes a picture, all pictures of a folder, or a video, in the style of a painting.

  metastyle stylize photo.jpg --style=painting.jpg -o out.png
  metastyle stylize photo.jpg --style=painting.safetensors -o out.png
  metastyle stylize photos --style=painting.safetensors -o stylized
  metastyle stylize film.mp4 --style=painting.safetensors -o stylized.mp4
  metastyle stylize photo.jpg --style=library.safetensors:NAME -o out.png
  metastyle stylize photo.jpg --style=library.safetensors --all -o sheet.png
"""
# Arguments of the Python functions whose flags have another name.
RENAMED = {'across': 'grid', 'frames': 'animate', 'masks': 'mask'}


def define_flags(values: flags.FlagValues) -> None:
    """Adds the command's flags."""
    add = command_line.Flags(values)
    add.several_paths(
        'style',
        'Painting, style file, or LIBRARY.safetensors:NAME; several, with commas or as several '
        'flags, are blended.',
    )
    add.several_paths(
        'input',
        'Pictures, folders (with their sub-folders), patterns as *.jpg; or a video, camera:NUMBER, '
        'or - for frames on the standard input.',
    )
    add.path(
        'output',
        None,
        'Picture (.png, .jpg, .webp), folder (new/ makes one), video (.mp4, .mov, .mkv, .webm, '
        '.avi, .gif), or - for frames on the standard output.',
        writes=True,
    )
    add.words(
        'weights', None, 'Weights of the styles in a blend, for example 0.3,0.7 (default: equal).'
    )
    add.several_paths(
        'mask',
        'Grey picture that is white where a style is used: one for each --style, or for all but '
        'the first.',
    )
    add.real('feather', None, "Softness of the masks' edges, 0 to below 1 (default: 0.01).")
    add.real('strength', 1.0, 'Strength of the style, from 0 (the photograph) to 1.')
    add.switch(
        'keep_colours', False, "Keep the photograph's colours; take only brightness from the style."
    )
    add.number(
        'grid',
        None,
        'Draw this many blends in a row: one row for two styles, or a square for four.',
    )
    add.number(
        'animate', None, 'Write an animation (.webp, .gif, .png) of this many blends of the styles.'
    )
    add.number('milliseconds', None, 'Time for which --animate shows each frame (default: 100).')
    add.switch(
        'all',
        False,
        'Stylize one picture in every style of a library. The results go to a folder, or to one '
        'contact sheet if --output is a picture.',
    )
    add.path(
        'theta',
        None,
        'θ from which the style was adapted (default: the one in the package).',
        schemes=('gs', 's3'),
    )
    add.text(
        'tile',
        'auto',
        "Render in strips to save memory: 'auto' (only large pictures), 'always' or 'never'.",
    )
    add.switch('overwrite', False, 'Replace existing files.')
    add.switch(
        'resume', False, 'Continue a stopped run: skip finished pictures, or continue the video.'
    )
    add.switch('skip_existing', False, 'Skip pictures whose output file exists.')
    add.settings(VideoSettings())


def main(values: flags.FlagValues, styles_of: Callable[[flags.FlagValues], Sequence[Any]]) -> int:
    """Stylizes as the flags say.

    Args:
        values: the parsed flags.
        styles_of: called after the flags were checked; returns the styles of --style in any form
            that `stylize` takes.

    Returns:
        The exit code.
    """
    flag_checks.split_styles(values)
    first_mistakes.check_words(values)
    source = flag_checks.only_input(values)
    is_video = source is not None and film_files.is_film(source, values.output)
    flag_checks.check(values, source, is_video)
    if source is not None and not is_video:
        first_mistakes.check_output(values, source)
    styles = styles_of(values)
    if source is None:
        return _stylize_folder(values, styles)
    if values.all:
        _stylize_all_styles(values, source)
    elif is_video:
        return _stylize_video(values, styles, source)
    elif values.animate is not None:
        _animate(values, styles, source)
    elif values.grid is not None:
        _draw_grid(values, styles, source)
    else:
        _stylize_picture(values, styles, source)
    return 0


def _look(values: flags.FlagValues) -> dict[str, Any]:
    """Returns the values of the flags that every kind of work uses, as keyword arguments."""
    return {name: values[name].value for name in ('strength', 'keep_colours', 'theta')}


def _given(values: flags.FlagValues, **arguments: str) -> dict[str, Any]:
    """Returns argument -> value for the flags that the user gave; the others keep their defaults.

    Args:
        values: the parsed flags.
        **arguments: argument -> name of its flag.
    """
    return {
        argument: values[flag].value
        for argument, flag in arguments.items()
        if values[flag].value is not None
    }


def _picture_arguments(values: flags.FlagValues) -> dict[str, Any]:
    """Returns the values of the flags for pictures and folders, as keyword arguments."""
    return {
        'weights': command_line.numbers('weights', values.weights), 'max_size': values.max_size,
        'tile': values.tile, 'keep_location': values.keep_location,
        'overwrite': values.overwrite, 'progress': True, **_look(values),
    }  # fmt: skip


def _stylize_picture(values: flags.FlagValues, styles: Sequence[Any], source: str) -> None:
    """Stylizes one picture file."""
    if values.skip_existing and pathlib.Path(values.output).is_file():
        logging.info('skipped, because it exists: %s', values.output)
        return
    from metastyle_jax.stylization import stylize_folder

    arguments = _picture_arguments(values) | _given(values, masks='mask', feather='feather')
    file = stylize_folder.stylize_file(styles, source, values.output, **arguments)
    logging.info('wrote %s', file)


def _stylize_folder(values: flags.FlagValues, styles: Sequence[Any]) -> int:
    """Stylizes several pictures to a folder; returns the exit code."""
    from metastyle_jax.stylization import stylize_folder

    with command_line.Stop().listening() as stop:
        result = stylize_folder.stylize_folder(
            styles, values.input, values.output, resume=values.resume,
            skip_existing=values.skip_existing, stopped=lambda: stop.signal is not None,
            **_picture_arguments(values),
        )  # fmt: skip
    totals.tell(
        f'{len(result.written)} stylized', skipped=result.skipped,
        left_out={path: f'left out: {reason}' for path, reason in result.left_out.items()},
        why_skipped='the output exists' if values.skip_existing else 'done before',
        others=result.others, place=values.output,
    )  # fmt: skip
    films = [path for path in result.others if path.suffix.lower() in film_files.SUFFIXES]
    if films:
        line = first_steps.stylize_line([str(films[0])], values.style, 'film.mp4')
        logging.info('a film is stylized alone: %s', line)
    if result.stopped:
        logging.info('stopped before the end: the same command with --resume continues')
    if result.stopped and stop.signal:
        return 128 + stop.signal
    return command_line.EXIT_LEFT_OUT if result.left_out else 0


def _stylize_video(values: flags.FlagValues, styles: Sequence[Any], source: str) -> int:
    """Stylizes a video; returns the exit code."""
    from metastyle_jax.core.devices import allocator
    from metastyle_jax.stylization import stylize_video

    allocator.keep_freed_memory()
    settings = command_line.given_settings(values, VideoSettings)
    with command_line.Stop().listening() as stop:
        try:
            frames = stylize_video.stylize_video(
                styles, source, values.output,
                weights=command_line.numbers('weights', values.weights), overwrite=values.overwrite,
                resume=values.resume, progress=True, stopped=lambda: stop.signal is not None,
                **settings, **_look(values),
            )  # fmt: skip
        except BrokenPipeError:  # the reader of the standard output needs no more frames
            return command_line.EXIT_BROKEN_PIPE
    logging.info('%d frames are in %s', frames, values.output)
    if stop.signal is None:
        return 0
    if not ffmpeg.is_live(source) and values.output != ffmpeg.STANDARD_STREAM:
        logging.info('stopped before the end: the same command with --resume continues')
    return 128 + stop.signal


def _animate(values: flags.FlagValues, styles: Sequence[Any], source: str) -> None:
    """Writes an animation of blends."""
    from metastyle_jax.stylization import grids

    grids.animate(
        styles, source, values.output, frames=values.animate, max_size=values.max_size,
        tile=values.tile, overwrite=values.overwrite, progress=True,
        **_given(values, milliseconds='milliseconds'), **_look(values),
    )  # fmt: skip
    logging.info('wrote %d frames to %s', values.animate, values.output)


def _draw_grid(values: flags.FlagValues, styles: Sequence[Any], source: str) -> None:
    """Writes one picture with a grid of blends."""
    from metastyle_jax.data.images import image_writing
    from metastyle_jax.stylization import blending, grids, render

    rows = blending.grid_weights(len(styles), values.grid)
    image_writing.check_output(values.output, overwrite=values.overwrite, source=source)
    picture = render.read_fitted(source, values.max_size, name='picture')
    height, width, _ = picture.rgb.shape
    image_writing.check_format_holds(values.output, len(rows) * height, len(rows[0]) * width)
    grid = grids.grid_picture(styles, picture, values.grid, tile=values.tile, **_look(values))
    image_writing.write(values.output, grid.rgb, alpha=grid.alpha, overwrite=values.overwrite)
    logging.info('wrote %d blends to %s', len(rows) * len(rows[0]), values.output)


def _stylize_all_styles(values: flags.FlagValues, source: str) -> None:
    """Stylizes one picture in every style of a library, to a contact sheet or to a folder."""
    from metastyle_jax.data.images import image_writing
    from metastyle_jax.storage import style_library
    from metastyle_jax.stylization import grids, stylize_folder
    from metastyle_jax.stylization.inputs import photograph_files

    library = style_library.load(values.style[0])
    photograph = pathlib.Path(source)
    files_of_run = photograph_files.PhotographFiles(
        max_size=values.max_size, keep_location=values.keep_location
    )
    picture = files_of_run.read(photograph)
    target = pathlib.Path(values.output)
    options = {'batch': values.batch, 'tile': values.tile, 'progress': True, **_look(values)}
    if target.suffix.lower() in image_writing.SUFFIXES_OUT and not target.is_dir():
        image_writing.check_output(target, overwrite=values.overwrite, source=source)
        caption = files.shown(photograph.name)
        sheet = grids.draw_all_styles(library, picture.rgb, caption=caption, **options)
        image_writing.write(target, sheet, overwrite=values.overwrite)
    else:
        outputs = grids.stylize_all_styles(library, picture.rgb, **options)
        targets = [target / name for name in stylize_folder.file_names_of_styles(library)]
        for file in targets:
            paths.make_folder(file.parent, UserError)
            image_writing.check_output(file, overwrite=values.overwrite, source=source)
        for file, rgb in zip(targets, outputs, strict=True):
            files_of_run.write(
                file, rgb, alpha=picture.alpha, source=photograph, overwrite=values.overwrite
            )
    files_of_run.report()
    logging.info('wrote %d styles to %s', len(library.names), target)
