"""One network for one style, trained from scratch: fast to use, slow to make.

It is adaptation from random weights; everything else is the same as from θ.

Source: Johnson, Alahi and Fei-Fei 2016, arXiv 1603.08155.
"""

import os
import sys
from typing import Any

import jax
import numpy as np
from absl import flags, logging

from metastyle_jax.adaptation import adapt
from metastyle_jax.core import allocator, command_line
from metastyle_jax.core.errors import UserError
from metastyle_jax.models import transformer
from metastyle_jax.storage import style_files, tensor_files, theta_files

RATE = 1e-3  # of Adam, constant
USAGE = """Trains a network for one style from scratch (Johnson et al.).

  python -m metastyle_jax.baselines.johnson --style=painting.jpg --out=painting.safetensors
"""


def initial(
    seed: int = 0, *, width: int = transformer.WIDTH, blocks: int = transformer.BLOCKS
) -> theta_files.Theta:
    """A random initialization, to be used wherever θ is.

    Args:
        seed: of the weights.
        width: channels of the first layer.
        blocks: residual blocks.
    """
    params = transformer.init(jax.random.key(seed), width=width, blocks=blocks)
    return theta_files.Theta(params, tensor_files.fingerprint(params), {'random': seed})


def train(
    style: str | os.PathLike | np.ndarray, *, steps: int = 10_000, seed: int = 0, **options: Any
) -> style_files.Style:
    """Trains a network for one style.

    Args:
        style: an image file, or `[H, W, 3]` float in 0..1.
        steps: of Adam.
        seed: of the weights and of the data.
        **options: of `adapt.adapt`.

    Returns:
        A `style_files.Style` of all parameters, as from `adapt.adapt`.

    Raises:
        UserError: a file or an option is not usable; 'norm' parameters alone are one.
    """
    if options.get('params', 'all') != 'all':
        raise UserError('a network from scratch needs all its parameters: leave out params')
    options = {'rate': RATE, 'schedule': 'constant', **options}
    return adapt.adapt(style, initial(seed), steps=steps, seed=seed, **options)


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
    style = train(values.style, vgg_file=values.vgg, progress=True, **options)
    style_files.save_style(values.out, style, overwrite=values.overwrite)
    total = style.losses['total']
    logging.info('total loss %.5g -> %.5g; wrote %s', total[0], total[-1], values.out)


def run() -> int:
    """The command."""
    allocator.keep()
    return command_line.run(
        main, define_flags, command='metastyle_jax.baselines.johnson', usage=USAGE
    )


if __name__ == '__main__':
    sys.exit(run())
