"""The command `metastyle_jax.baselines.gatys`."""

from absl import flags, logging

from metastyle_jax.baselines import gatys
from metastyle_jax.core import allocator, command_line
from metastyle_jax.core.errors import UserError
from metastyle_jax.data.images import image_files, image_writing
from metastyle_jax.models import perceptual_loss

USAGE = """Stylizes one photograph by optimizing its pixels (Gatys et al.), with L-BFGS.

  python -m metastyle_jax.baselines.gatys --style=painting.jpg --input=photo.jpg --output=out.png
"""


def define_flags(values: flags.FlagValues) -> None:
    """Adds the command's flags."""
    add = command_line.Flags(values)
    add.text('style', None, 'The style image.')
    add.text('input', None, 'The photograph.')
    add.text('output', None, 'The picture to write: .png, .jpg or .webp.')
    add.text('start', 'content', "'content', 'noise', or a picture of the size of the result.")
    add.number('iterations', 500, 'Of L-BFGS.')
    add.number('max_size', 512, 'Reduce the longer side to this many pixels.')
    add.number('style_size', 512, 'The style image gets the area of this, squared.')
    add.number('seed', 0, 'Of the noise.')
    for name, default in (
        ('content', perceptual_loss.CONTENT_WEIGHT),
        ('style', perceptual_loss.STYLE_WEIGHT),
    ):
        help_text = f'Weight of the {name} loss.'
        add.real(f'{name}_weight', default, help_text)
    add.vgg()
    add.switch('overwrite', False, 'Replace an existing file.')


def main(values: flags.FlagValues) -> None:
    """Stylizes as the flags say."""
    command_line.require(values, 'style', 'input', 'output')
    for name in ('max_size', 'style_size'):
        if getattr(values, name) < image_files.MIN_SIDE:
            raise UserError(
                f'--{name}={getattr(values, name)}: it must be at least {image_files.MIN_SIDE}'
            )
    for source in (values.input, values.style):
        image_writing.check_output(values.output, overwrite=values.overwrite, source=source)
    start = values.start if values.start in gatys.STARTS else image_files.read(values.start).rgb
    found = gatys.stylize(
        values.style,
        values.input,
        start=start,
        max_size=values.max_size,
        style_size=values.style_size,
        seed=values.seed,
        vgg_file=values.vgg,
        iterations=values.iterations,
        content_weight=values.content_weight,
        style_weight=values.style_weight,
        progress=True,
    )
    image_writing.write(values.output, found.image, overwrite=values.overwrite)
    logging.info(
        'total loss %.5g -> %.5g in %.0f s; wrote %s',
        found.losses[0], found.losses[-1], found.seconds[-1], values.output,
    )  # fmt: skip


def run() -> int:
    """The command."""
    allocator.keep_freed_memory()
    return command_line.run(
        main,
        define_flags,
        command='metastyle_jax.baselines.gatys',
        usage=USAGE,
        positional='input',
        output='output',
    )
