"""Draws one picture of a style at work: painting, photograph, before and after adaptation.

Where the painting was given a photograph's colours, it is not known what was before.
"""

import numpy as np
from absl import flags, logging

from metastyle_jax.adaptation import adaptation_start, style_image
from metastyle_jax.core import command_line
from metastyle_jax.core.errors import UserError
from metastyle_jax.data.images import contact_sheet, image_files, image_writing, resizing
from metastyle_jax.models import transformer, vgg
from metastyle_jax.storage import style_files, tensor_files, theta_files
from metastyle_jax.stylization import stylize

USAGE = """Shows a style, photographs, and what the network makes of them before and after
adaptation, side by side in one picture with captions.

  python -m metastyle_jax.compare --painting=painting.jpg --theta=runs/coco \\
      --style=painting.safetensors --input=a.jpg,b.jpg --output=result.png
"""


def compare(
    painting: str,
    photographs: list[str],
    *,
    style: str | style_files.Style,
    theta: str | theta_files.Theta | None = None,
    cell: int = 384,
    vgg_file: str | None = None,
) -> np.ndarray:
    """One row for each photograph: style, content, output before and after adaptation.

    Args:
        painting: file of the style image.
        photographs: files of the contents.
        style: what `adapt` made of the painting, or its file.
        theta: what it was adapted from; the one that comes with the package if None.
        cell: pixels of the longer side of each image.
        vgg_file: see `adapt`.

    Returns:
        `[H, W, 3]` float32 in 0..1.

    Raises:
        UserError: a file is not usable, or style and θ do not belong together.
    """
    if not isinstance(theta, theta_files.Theta):
        theta = theta_files.load_theta(theta)
    if not isinstance(style, style_files.Style):
        style = style_files.load_style(style)
    looks = {f'after {style.settings.get("steps")} steps': style}
    if not style.settings.get('match_colours'):  # it began at a painting that is not here
        looks = {'before the first step': _before(painting, style, theta, vgg_file), **looks}
    picture = resizing.fit(image_files.read(painting).rgb, cell)
    rows = []
    for photograph in photographs:
        content = resizing.fit(image_files.read(photograph).rgb, cell)
        made = [stylize.stylize(look, content, theta=theta) for look in looks.values()]
        rows.append([picture, content, *made])
    captions = ['style', 'content', *looks]
    return contact_sheet.contact_sheet(rows, captions=[captions] * len(rows), cell=cell)


def _before(
    painting: str, style: style_files.Style, theta: theta_files.Theta, vgg_file: str | None
) -> style_files.Style:
    """Where the adaptation to a painting began: θ, with the norms that it predicts, if it does."""
    where = style.settings.get('begin', 'theta')
    if where == 'theta' or theta.predictor is None:
        return style._replace(params={}, adapted='norm')
    picture, _, _ = style_image.read(painting, style.settings['style_size'])
    grams = style_image.grams(vgg.load(vgg_file), picture)
    begun = tensor_files.flatten(adaptation_start.start_params(theta, grams, where))
    is_norm = transformer.adapted('norm')
    norms = {name: leaf for name, leaf in begun.items() if is_norm(name)}
    return style._replace(params=norms, adapted='norm')


def define_flags(values: flags.FlagValues) -> None:
    """Adds the command's flags."""
    add = command_line.Flags(values)
    add.text('painting', None, 'The style image.')
    add.text('style', None, 'The style file that metastyle-adapt made of it.')
    add.text(
        'theta', None, 'What it was adapted from (default: the one that comes with the package).'
    )
    add.text('output', None, 'The picture to write: .png, .jpg or .webp.')
    add.vgg()
    add.words('input', None, 'Photographs, separated by commas.')
    add.number('cell', 384, 'Pixels of each image.')
    add.switch('overwrite', False, 'Replace an existing file.')


def main(values: flags.FlagValues) -> None:
    """Draws as the flags say."""
    command_line.require(values, 'painting', 'style', 'output')
    if not values.input:
        raise UserError('--input must be given: see --help')
    if values.cell < 32:
        raise UserError(f'--cell={values.cell}: it must be at least 32')
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


def run() -> int:
    """The command."""
    return command_line.run(
        main,
        define_flags,
        command='metastyle_jax.compare',
        usage=USAGE,
        positional='input',
        output='output',
    )
