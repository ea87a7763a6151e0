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
from metastyle_jax.baselines.features import statistics, system_recipe
from metastyle_jax.core import checks
from metastyle_jax.core.types import Array, Params
from metastyle_jax.models import transformer, vgg
from metastyle_jax.training.recipes import training_recipe

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
            'hidden': _random_module(for_hidden, (inputs, len(inner) * hidden)),
            'groups': {
                name: _random_module(key, (hidden, _size(kernel)))
                for key, (name, kernel) in zip(keys, inner.items(), strict=True)
            },
            'outer': {
                name: _random_module(jax.random.fold_in(for_outer, i), kernel)
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


def recipe(
    *,
    hidden: int = 8,
    width: int = 16,
    blocks: int = transformer.BLOCKS,
    vgg_width: int = 64,
    content_weight: float = 1.0,
    style_weight: float = 250.0,
    variation_weight: float = 10.0,
    start: str = '',
) -> training_recipe.Recipe:
    """Returns the training of the network that makes transformers.

        loss = content_weight · |relu3_3(picture) - relu3_3(content)|²
               + style_weight · |statistics(picture) - statistics(style)|²
               + variation_weight · variation(picture)

    The default widths are smaller than the paper's, so that the file of trained weights is smaller
    than 8 MB; the paper has 128 hidden units and a transformer of width 32.

    Args:
        hidden: hidden units of each group.
        width: channels of the first convolution of the transformer.
        blocks: residual blocks of the transformer.
        vgg_width: channels of the first convolution of VGG-16.
        content_weight: weight of the mean squared difference at relu3_3.
        style_weight: weight of the mean squared difference of `image_statistics`.
        variation_weight: weight of the total variation.
        start: file of trained weights to begin with, see `system_recipe.of_system`.

    Source: Shen, Yan and Zeng 2018, section 3.
    """
    inner, _ = convolutions(width, blocks)

    def paint(params: Params, of_style: Array, contents: Array) -> Array:
        generated = transformer_params(params, generate(params, of_style, inner))
        return transformer.apply(generated, contents)

    def loss(params: Params, contents: Array, styles: Array) -> training_recipe.RecipeLoss:
        of_styles = image_statistics(params['encoder'], styles)
        # One style after the other: kernels that differ within a batch make slow convolutions.
        pictures = jnp.concatenate(
            [paint(params, *pair) for pair in zip(of_styles, contents, strict=True)]
        )
        contents, _ = system_recipe.flat_pairs(contents, styles)
        wanted = jnp.repeat(of_styles, contents.shape[0] // styles.shape[0], axis=0)
        found = vgg.features(params['encoder'], pictures)
        content = content_weight * system_recipe.mean_square(
            found.relu3_3, vgg.features(params['encoder'], contents).relu3_3
        )
        style = style_weight * system_recipe.mean_square(_statistics(found), wanted)
        variation = system_recipe.total_variation(pictures)
        total = content + style + variation_weight * variation
        return training_recipe.RecipeLoss(total, content, style)

    whole = system(hidden=hidden, width=width, blocks=blocks, vgg_width=vgg_width)
    return system_recipe.of_system(
        whole, loss, encoder='vgg16', cut='relu4_3', width=vgg_width, start=start
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
    return _statistics(vgg.features(vgg_params, images))


def _statistics(features: vgg.Features) -> Array:
    """Joins the moments of four layers to one row of numbers for each image."""
    moments = [statistics.moments(layer) for layer in features]
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


def _random_module(rng: Array, shape: tuple[int, ...]) -> Params:
    """Draws a linear layer `[I, O]` or a convolution `[K, K, I, O]`, uniform within ±1/√fan-in."""
    kernel = (1,) * (4 - len(shape)) + shape
    return {
        part: transformer.uniform_by_fan_in(key, part_shape, kernel)
        for key, part, part_shape in zip(
            jax.random.split(rng), ('kernel', 'bias'), (shape, shape[-1:]), strict=True
        )
    }
