"""One network for one style, trained from scratch: fast to use, slow to make.

It is adaptation from random weights; everything else is the same as from θ.

Source: Johnson, Alahi and Fei-Fei 2016, arXiv 1603.08155.
"""

import os
import sys
from typing import Any

import jax
import numpy as np

from metastyle_jax.adaptation import adapt
from metastyle_jax.core.errors import UserError
from metastyle_jax.models import transformer
from metastyle_jax.storage import style_files, tensor_files, theta_files

RATE = 1e-3  # of Adam, constant


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


if __name__ == '__main__':
    from metastyle_jax.baselines import johnson_command

    sys.exit(johnson_command.run())
