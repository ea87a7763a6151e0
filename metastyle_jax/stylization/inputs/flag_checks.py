"""Checks which flags of `metastyle stylize` can be combined, and finds its single input if any.

This module loads neither JAX nor NumPy, so error messages appear at once.
"""

import os
import re

from absl import flags

from metastyle_jax.core.commands import first_steps, paths
from metastyle_jax.core.errors import UserError
from metastyle_jax.data.folders import picture_listing
from metastyle_jax.stylization.video import ffmpeg
from metastyle_jax.stylization.video.decoding import film_files


def _kinds(values: flags.FlagValues) -> list[str]:
    """Returns the given flags that ask for more than one stylized copy of each picture."""
    return [f'--{name}' for name in ('all', 'animate', 'grid', 'mask') if values[name].present]


def split_styles(values: flags.FlagValues) -> None:
    """Splits words of --style with commas between several styles, as in ``--style=a.jpg,b.jpg``.

    Names of files and of styles in a library may have commas too, so a word is split only if it
    names no file and if each of its parts names a picture or a style.

    Args:
        values: the parsed flags; their `style` is replaced.
    """
    words = values.style or []
    values['style'].value = [part for word in words for part in _styles_in(word)] or values.style


def _styles_in(word: str) -> list[str]:
    """Returns the styles that a word names."""
    parts = [paths.expand(part.strip()) for part in word.split(',')]
    if len(parts) == 1 or os.path.lexists(word):
        return [word]
    if re.search(r'(?i)\.safetensors:', word):  # the part after it may be a name with a comma
        are_styles = all(os.path.isfile(_file_of(part)) for part in parts)
    else:
        are_styles = all(
            first_steps.is_style_name(part) or picture_listing.is_picture(part) for part in parts
        )
    return parts if are_styles else [word]


def _file_of(style: str) -> str:
    """Returns the file of a word such as ``LIBRARY.safetensors:NAME``."""
    return re.sub(r'(?i)(?<=\.safetensors):.*', '', style)


def only_input(values: flags.FlagValues) -> str | None:
    """Returns the only input, or None if the inputs are a folder or several files.

    One picture with a folder as the output counts as several files, so that the run can be resumed.

    Args:
        values: the parsed flags.

    Returns:
        A file, 'camera:NAME', '-', or None.

    Raises:
        UserError: an input does not exist.
    """
    if len(values.input) == 1 and ffmpeg.is_live(values.input[0]):
        return values.input[0]
    given = picture_listing.expand(values.input)
    if len(given) != 1 or given[0].is_dir():
        return None
    is_video = film_files.is_film(str(given[0]), values.output)
    to_folder = paths.names_folder(values.output) and not (is_video or _kinds(values))
    return None if to_folder else str(given[0])


def check(values: flags.FlagValues, source: str | None, is_video: bool) -> None:
    """Checks that the given flags can be combined, and that all of them have an effect.

    Args:
        values: the parsed flags.
        source: result of `only_input`.
        is_video: whether `source` is a video, a camera or the standard input.

    Raises:
        UserError: two flags exclude each other, or a flag does not apply to the input.
    """
    kinds = _kinds(values)
    if is_video and kinds:
        raise UserError(f'{kinds[0]} is for a picture, but --input={source} is a video')
    if len(kinds) > 1:
        raise UserError(f'{kinds[0]} cannot be combined with {kinds[1]}')
    if kinds and values.weights is not None:
        raise UserError(f'{kinds[0]} cannot be combined with --weights')
    if kinds and source is None:
        several = (
            ' '.join(values.input) if len(values.input) > 1 else f'{values.input[0]}, a folder'
        )
        raise UserError(f'{kinds[0]} is for one picture, but --input is {several}')
    if values.all and len(values.style) != 1:
        raise UserError('--all takes one library: give --style once')
    if values.overwrite and values.skip_existing:
        raise UserError('--overwrite and --skip_existing exclude each other: give one')
    if is_video and values.tile == 'always':
        raise UserError('--tile=always is for pictures: frames are rendered whole')
    users = {
        'feather': ('--mask', bool(values.mask)),
        'milliseconds': ('--animate', values.animate is not None),
        'batch': ('video and --all', is_video or values.all),
        'resume': ('video and folders', is_video or source is None),
        'keep_location': ('single pictures, folders and video', not {*kinds} - {'--all', '--mask'}),
        'skip_existing': ('pictures', not (is_video or kinds)),
        **{
            name: ('video', is_video)
            for name in ('steady', 'sound', 'frame_size', 'frame_rate', 'pixel_format')
        },
    }
    for name, (user, used) in users.items():
        if values[name].present and not used:
            raise UserError(f'--{name} is for {user}: leave it out')
