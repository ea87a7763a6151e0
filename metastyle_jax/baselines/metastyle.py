"""MetaStyle as one of the systems of its poster: θ is adapted to a style image by gradient steps.

Source: Zhang, Zhu and Zhu 2019, arXiv 1812.05233.
"""

from typing import Any

import jax
import numpy as np

from metastyle_jax.adaptation import adapt
from metastyle_jax.adaptation.config import AdaptConfig
from metastyle_jax.baselines import systems
from metastyle_jax.core import checks
from metastyle_jax.core.types import Array, Params
from metastyle_jax.models import transformer
from metastyle_jax.storage import tensor_files, theta_files


def system(
    *,
    width: int = transformer.WIDTH,
    blocks: int = transformer.BLOCKS,
    margin: bool = True,
    config: AdaptConfig | None = None,
    **settings: Any,
) -> systems.System:
    """Returns MetaStyle as a system.

    Its parameters are `{'theta': parameters of the transformer}`, with `'predictor'` and `'rates'`
    beside it if θ has them; see `from_theta`.

    Args:
        width: channels of the first convolution of random parameters.
        blocks: residual blocks of random parameters.
        margin: whether contents are extended by a few pixels, see `transformer.apply_with_margin`.
        config: settings of the adaptation; None for the defaults of `AdaptConfig`.
        **settings: fields of `AdaptConfig`; they replace those of `config`.
    """
    config = checks.replace_settings(config or AdaptConfig(), settings)
    title = 'MetaStyle (Zhang, Zhu and Zhu 2019)'
    return adapting('metastyle', title, config, width=width, blocks=blocks, margin=margin)


def from_theta(theta: theta_files.Theta) -> Params:
    """Returns the parameters of this system from an initialization, such as that of the package."""
    learned = {'predictor': theta.predictor, 'rates': theta.rates}
    return {'theta': theta.params} | {k: part for k, part in learned.items() if part is not None}


def adapting(
    name: str, title: str, config: AdaptConfig, *, width: int, blocks: int, margin: bool
) -> systems.System:
    """Returns a system that adapts a transformer to each style image.

    Args:
        name: name of the system.
        title: its title.
        config: settings of the adaptation.
        width: see `system`.
        blocks: see `system`.
        margin: see `system`.
    """
    config.validate()
    forward = transformer.apply_with_margin if margin else transformer.apply

    def init(rng: Array) -> Params:
        return {'theta': transformer.init(rng, width=width, blocks=blocks)}

    def encode_style(params: Params, style_image: Array) -> Params:
        theta = params['theta']
        learned = {part: params.get(part) for part in ('rates', 'predictor')}
        start = theta_files.Theta(theta, tensor_files.fingerprint(theta), {}, **learned)
        adapted = adapt.adapt(np.asarray(style_image), start, config=config).params
        tensors = {**tensor_files.flatten(theta), **adapted}
        return jax.tree.map(jax.numpy.asarray, tensor_files.unflatten(tensors))

    def apply(params: Params, style: Params, contents: Array) -> Array:
        return forward(style, contents)

    shapes = transformer.parameter_shapes(width, blocks)
    return systems.System(
        name=name,
        title=title,
        init=init,
        encode_style=encode_style,
        apply=systems.fade(apply),
        count=sum(int(np.prod(shape)) for shape in shapes.values()),
        loops=frozenset({'encode_style'}),
    )
