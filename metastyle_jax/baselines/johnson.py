"""Johnson et al.: one network for one style, trained from random weights.

The network is fast to use and slow to train. The training is an adaptation that starts from random
weights instead of θ; everything else is the same.

Source: Johnson, Alahi and Fei-Fei 2016, arXiv 1603.08155.
"""

import sys
from typing import Any

import jax

from metastyle_jax.adaptation import adapt
from metastyle_jax.adaptation.config import AdaptConfig
from metastyle_jax.baselines import metastyle, systems
from metastyle_jax.core import checks
from metastyle_jax.core.errors import UserError
from metastyle_jax.data.images import image_inputs
from metastyle_jax.models import transformer
from metastyle_jax.storage import style_files, tensor_files, theta_files


def initial(
    seed: int = 0, *, width: int = transformer.WIDTH, blocks: int = transformer.BLOCKS
) -> theta_files.Theta:
    """Makes a random initialization, which can take the place of θ.

    Args:
        seed: seed of the weights.
        width: number of channels of the first layer.
        blocks: number of residual blocks.

    Returns:
        Random parameters of the transformer, with their fingerprint.
    """
    params = transformer.init(jax.random.key(seed), width=width, blocks=blocks)
    return theta_files.Theta(params, tensor_files.fingerprint(params), {'random': seed})


def train(
    style: image_inputs.ImageLike,
    *,
    config: AdaptConfig | None = None,
    progress: bool = False,
    **settings: Any,
) -> style_files.Style:
    """Trains a network for one style from random weights.

    Args:
        style: the style image: a file, a Pillow image or an array, see `image_inputs.as_rgb`.
        config: settings of the training; None for the defaults of `AdaptConfig.from_scratch`. The
            seed is also the seed of the random weights.
        progress: whether to show a progress bar.
        **settings: fields of `AdaptConfig`; they replace those of `config`.

    Returns:
        A `style_files.Style` with all parameters, as from `adapt.adapt`.

    Raises:
        UserError: a file or a setting is not usable; with ``params='norm'`` the convolutions would
            stay random.
    """
    config = checks.replace_settings(config or AdaptConfig.from_scratch(), settings)
    if config.params != 'all':
        raise UserError(
            f'params={config.params!r}: scratch training needs all parameters: leave params out'
        )
    config.validate()
    return adapt.adapt(style, initial(config.seed), config=config, progress=progress)


def system(
    *,
    width: int = transformer.WIDTH,
    blocks: int = transformer.BLOCKS,
    margin: bool = True,
    config: AdaptConfig | None = None,
    **settings: Any,
) -> systems.System:
    """Returns Johnson's method as a system: `encode_style` trains the network for one style.

    Args:
        width: channels of the first convolution.
        blocks: residual blocks.
        margin: see `metastyle.system`.
        config: settings of the training; None for the defaults of `AdaptConfig.from_scratch`.
        **settings: fields of `AdaptConfig`; they replace those of `config`.
    """
    config = checks.replace_settings(config or AdaptConfig.from_scratch(), settings)
    title = 'Johnson, Alahi and Fei-Fei 2016'
    return metastyle.adapting('johnson', title, config, width=width, blocks=blocks, margin=margin)


if __name__ == '__main__':
    from metastyle_jax.baselines.commands import johnson_command

    sys.exit(johnson_command.run_johnson())
