"""Answers common mistakes with `metastyle stylize` by a message that shows the correct command.

This module loads neither JAX nor NumPy, so the message appears at once.
"""

import os
import pathlib

from absl import flags

from metastyle_jax.core import command_line
from metastyle_jax.core.commands import first_steps, paths
from metastyle_jax.core.errors import UserError
from metastyle_jax.data.folders import picture_listing

_OWN_FLAGS = ('style', 'input', 'output')


def check_words(values: flags.FlagValues) -> None:
    """Checks that the style, the input and the output are given, and are not exchanged.

    Args:
        values: the parsed flags.

    Raises:
        UserError: one of the three is missing, a style file is given as the input, a folder is
            given as the style, or a picture that is given as the style does not exist.
    """
    styles, inputs = (
        [word for word in values[name].value or [] if word] for name in _OWN_FLAGS[:2]
    )
    others = first_steps.other_flags(_OWN_FLAGS)
    misplaced = [word for word in inputs if first_steps.is_style_name(word)]
    photos = [word for word in inputs if word not in misplaced]
    paintings = [
        word for word in styles if os.path.exists(word) and picture_listing.is_picture(word)
    ]
    output = values.output or ''
    if misplaced and (not styles or paintings):
        line = first_steps.stylize_line(
            photos or paintings or ['photo.jpg'], misplaced, output, others
        )
        raise UserError(
            f'{misplaced[0]} is a style file, and a picture is needed in its place. Give it as '
            f'--style:{first_steps.lines(line)}'
        )
    for word in styles:
        if os.path.isdir(word):
            raise UserError(_folder_as_style(word))
        if picture_listing.is_picture(word) and not os.path.lexists(word):
            raise UserError(f'style={word}: no such file; check the path')
    missing_style = not styles and len(photos) == 2 and not any(map(os.path.isdir, photos))
    if missing_style:
        painting, photo = first_steps.painting_first(photos[1], photos[0])
        example = first_steps.stylize_line([photo], [painting], output, others)
    else:
        example = first_steps.stylize_line(
            photos or ['photo.jpg'], styles or ['painting.jpg'], output, others
        )
    command_line.require(values, *_OWN_FLAGS, example=first_steps.lines(example))


def check_output(values: flags.FlagValues, source: str) -> None:
    """Checks the name of the output for one picture.

    Args:
        values: the parsed flags.
        source: the input picture.

    Raises:
        UserError: the output is the input picture itself, or has no suffix and is not a folder.
    """
    output = pathlib.Path(values.output)
    if output.exists() and os.path.exists(source) and output.samefile(source):
        other = output.with_name(f'{output.stem}_stylized{output.suffix}')
        line = first_steps.with_output(str(other), 'output')
        raise UserError(
            f'output={output}: it is the input itself; choose another name:'
            f'{first_steps.lines(line)}'
        )
    is_folder = paths.names_folder(values.output) or values.all
    if not output.suffix and not is_folder:
        examples = (f'{values.output}.png', f'{values.output}/')
        corrected = [first_steps.with_output(word, 'output') for word in examples]
        raise UserError(
            f'output={output}: cannot write a picture without a suffix; end the name in .png, .jpg '
            f'or .webp, or in a slash for a folder:{first_steps.lines(*corrected)}'
        )


def _folder_as_style(folder: str) -> str:
    """Makes the message for a folder that was given as a style."""
    files = sorted(pathlib.Path(folder).glob('*.safetensors'))
    named = ', '.join(f'--style={file}' for file in files[:5])
    hint = f'name a file in it: {named}' if files else 'it holds no .safetensors file'
    return f'style={folder} is a folder, and a painting or a style file is needed: {hint}'
