"""Meta Networks: a network computes the weights of a style transformer from a style image.

The mean and the standard deviation of each channel of VGG-16, in the four style layers, are 1,920
numbers. A linear layer with ReLU turns them into hidden units, one group of units for each inner
convolution of the transformer. From each group a linear layer computes the kernel and the bias of
its convolution. The first and the last convolution of the transformer are ordinary weights, which
all styles share. The instance norms have no scale and bias.

With a hidden width of 128 units a group, and a transformer of width 32, the 14 groups hold 98 % of
the parameters. Both widths can be chosen smaller.

Source: Shen, Yan and Zeng 2018, arXiv 1709.04111.
"""

import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from metastyle_jax.baselines import systems
from metastyle_jax.baselines.features import statistics
from metastyle_jax.core import checks
from metastyle_jax.core.types import Array, Params
from metastyle_jax.models import transformer, vgg

HIDDEN = 128  # hidden units of each group, in the paper


def system(
    *,
    hidden: int = HIDDEN,
    width: int = transformer.WIDTH,
    blocks: int = transformer.BLOCKS,
    vgg_width: int = 64,
) -> systems.System:
    """Returns Meta Networks as a system.

    Its parameters are `{'encoder': VGG-16 up to relu4_3, 'hidden': {'kernel', 'bias'}, 'groups':
    {name: {'kernel', 'bias'}}, 'outer': {name: {'kernel', 'bias'}}}`. A style is `{name: {'kernel',
    'bias'}}`, with the kernels and biases of the inner convolutions of the transformer.

    Args:
        hidden: hidden units of each group.
        width: channels of the first convolution of the transformer.
        blocks: residual blocks of the transformer.
        vgg_width: channels of the first convolution of VGG-16.

    Raises:
        UserError: a width is less than 1.
    """
    for name, value in (('hidden', hidden), ('width', width), ('vgg_width', vgg_width)):
        checks.whole_number(name, value, 1)
    checks.whole_number('blocks', blocks, 0)
    inner, outer = convolutions(width, blocks)
    inputs = statistics_size(vgg_width)

    def init(rng: Array) -> Params:
        for_vgg, for_hidden, for_groups, for_outer = jax.random.split(rng, 4)
        keys = jax.random.split(for_groups, len(inner))
        return {
            'encoder': vgg.random(for_vgg, width=vgg_width),
            'hidden': _random_linear(for_hidden, inputs, len(inner) * hidden),
            'groups': {
                name: _random_linear(key, hidden, _size(kernel))
                for key, (name, kernel) in zip(keys, inner.items(), strict=True)
            },
            'outer': {
                name: _random_convolution(jax.random.fold_in(for_outer, i), kernel)
                for i, (name, kernel) in enumerate(outer.items())
            },
        }

    def encode_style(params: Params, style_image: Array) -> Params:
        return generate(params, image_statistics(params['encoder'], style_image[None])[0], inner)

    def apply(params: Params, style: Params, contents: Array) -> Array:
        return transformer.apply(transformer_params(params, style), contents)

    generated = sum(_size(kernel) for kernel in inner.values())
    predicting = (inputs + 1) * len(inner) * hidden + (hidden + 1) * generated
    return systems.System(
        name='meta-networks',
        title='Meta Networks (Shen, Yan and Zeng 2018)',
        init=init,
        encode_style=encode_style,
        apply=systems.fade(apply),
        count=predicting + generated + sum(_size(kernel) for kernel in outer.values()),
        footnote=(
            f'The count includes the {generated:,} generated parameters of the transformer, as '
            'on the poster. It does not include VGG-16.'
        ),
    )


def convolutions(
    width: int = transformer.WIDTH, blocks: int = transformer.BLOCKS
) -> tuple[dict[str, tuple[int, ...]], dict[str, tuple[int, ...]]]:
    """Lists the convolutions of the transformer.

    Args:
        width: channels of its first convolution.
        blocks: its residual blocks.

    Returns:
        The inner ones, which are generated, and the first and last one, which are not. Each is a
        dict from names such as 'block1/first' to shapes of kernels.
    """
    shapes = transformer.parameter_shapes(width, blocks)
    kernels = {
        name.removesuffix('/kernel').removesuffix('/conv'): shape
        for name, shape in shapes.items()
        if name.endswith('/kernel')
    }
    outer = {name: kernels.pop(name) for name in ('down1', 'out')}
    return kernels, outer


def statistics_size(vgg_width: int = 64) -> int:
    """Returns the number of statistics of an image: mean and std of 15 times the width of VGG."""
    return 2 * (1 + 2 + 4 + 8) * vgg_width


def image_statistics(vgg_params: Params, images: Array) -> Array:
    """Computes the mean and the standard deviation of each channel in the four style layers.

    Args:
        vgg_params: VGG-16, of any width.
        images: `[N, H, W, 3]` floating in 0..1, height and width at least 8.

    Returns:
        `[N, 30·W]` for a VGG of width W.
    """
    moments = [statistics.moments(layer) for layer in vgg.features(vgg_params, images)]
    return jnp.concatenate([part for layer in moments for part in layer], axis=1)


def generate(params: Params, numbers: Array, inner: Mapping[str, tuple[int, ...]]) -> Params:
    """Computes kernels and biases of the inner convolutions.

    Args:
        params: `{'hidden': ..., 'groups': ...}`.
        numbers: statistics of one style image, `[30·W]`.
        inner: shapes of the kernels, from `convolutions`.

    Returns:
        `{name: {'kernel': [K, K, I, O], 'bias': [O]}}`.
    """
    units = jax.nn.relu(_linear(params['hidden'], numbers)).reshape(len(inner), -1)
    style = {}
    for own, (name, shape) in zip(units, inner.items(), strict=True):
        weights = _linear(params['groups'][name], own)
        kernel, bias = jnp.split(weights, [math.prod(shape)])
        style[name] = {'kernel': kernel.reshape(shape), 'bias': bias}
    return style


def transformer_params(params: Params, style: Params) -> Params:
    """Assembles the parameters of the transformer.

    Args:
        params: `{'outer': ...}`.
        style: the inner convolutions, from `generate`.

    Returns:
        Parameters for `transformer.apply`. Scales of its instance norms are 1, and biases 0.
    """
    found: Params = {'out': params['outer']['out']}
    for name, module in {'down1': params['outer']['down1'], **style}.items():
        ones = jnp.ones_like(module['bias'])
        norm = {'scale': ones, 'bias': jnp.zeros_like(ones)}
        block, _, place = name.partition('/')
        layer = {'conv': module, 'norm': norm}
        if place:
            found.setdefault(block, {})[place] = layer
        else:
            found[block] = layer
    return found


def _size(kernel: tuple[int, ...]) -> int:
    """Number of parameters of a convolution: its kernel and its bias."""
    return math.prod(kernel) + kernel[-1]


def _linear(module: Params, x: Array) -> Array:
    """Applies a linear layer to a vector."""
    return x @ module['kernel'] + module['bias']


def _random_linear(rng: Array, inputs: int, outputs: int) -> Params:
    """Draws a linear layer, uniform within ±1/√inputs."""
    return {
        part: transformer.uniform_by_fan_in(key, shape, (1, 1, inputs, outputs))
        for key, part, shape in zip(
            jax.random.split(rng), ('kernel', 'bias'), ((inputs, outputs), (outputs,)), strict=True
        )
    }


def _random_convolution(rng: Array, kernel: tuple[int, ...]) -> Params:
    """Draws a convolution, uniform within ±1/√fan-in."""
    return {
        part: transformer.uniform_by_fan_in(key, shape, kernel)
        for key, part, shape in zip(
            jax.random.split(rng), ('kernel', 'bias'), (kernel, kernel[-1:]), strict=True
        )
    }
