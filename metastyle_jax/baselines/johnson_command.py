"""The command `metastyle_jax.baselines.johnson`."""

from absl import flags, logging

from metastyle_jax.baselines import johnson
from metastyle_jax.core import allocator, command_line
from metastyle_jax.storage import style_files

USAGE = """Trains a network for one style from scratch (Johnson et al.).

  python -m metastyle_jax.baselines.johnson --style=painting.jpg --out=painting.safetensors
"""


def define_flags(values: flags.FlagValues) -> None:
    """Adds the command's flags."""
    add = command_line.Flags(values)
    add.text('style', None, 'The style image.')
    add.text('out', None, 'The style file to write, .safetensors.')
    add.text('content', 'sample:', 'Photographs to train on: sample:, folder:PATH or tfds:NAME.')
    add.number('steps', 10_000, 'Gradient steps.')
    add.number('batch', 4, 'Photographs a step.')
    add.number('size', 256, 'Sides of the photographs in pixels.')
    add.number('style_size', 512, 'The style image gets the area of this, squared.')
    add.number('seed', 0, 'Of the weights and of the data.')
    add.vgg()
    add.switch('overwrite', False, 'Replace an existing file.')


def main(values: flags.FlagValues) -> None:
    """Trains as the flags say."""
    command_line.require(values, 'style', 'out')
    style_files.check_output(values.out, overwrite=values.overwrite)
    names = ('steps', 'seed', 'content', 'batch', 'size', 'style_size')
    options = {name: getattr(values, name) for name in names}
    style = johnson.train(values.style, vgg_file=values.vgg, progress=True, **options)
    style_files.save_style(values.out, style, overwrite=values.overwrite)
    total = style.losses['total']
    logging.info('total loss %.5g -> %.5g; wrote %s', total[0], total[-1], values.out)


def run() -> int:
    """The command."""
    allocator.keep()
    return command_line.run(
        main,
        define_flags,
        command='metastyle_jax.baselines.johnson',
        usage=USAGE,
        positional='style',
        output='out',
    )
