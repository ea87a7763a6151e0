"""The feed-forward style transformer M(·; w): pure functions of its parameters w.

| layer | convolution | output, for an image of H × W pixels |
|---|---|---|
| down1 | 9×9 | H × W, 32 channels |
| down2 | 3×3, stride 2 | H/2 × W/2, 64 |
| down3 | 3×3, stride 2 | H/4 × W/4, 128 |
| block1 … block5 | x + norm(3×3 of relu(norm(3×3 of x))) | H/4 × W/4, 128 |
| up1 | nearest-neighbour ×2, 3×3 | H/2 × W/2, 64 |
| up2 | nearest-neighbour ×2, 3×3 | H × W, 32 |
| out | 9×9, sigmoid | H × W, 3 |

Every convolution but the last is followed by an instance norm with scale and bias, and by a ReLU
unless it is the second one of a block. Every convolution pads by reflection. At the standard width
of 32 there are 1,679,235 parameters, of which 3,200 are scales and biases of instance norms.

Source: Johnson et al. 2016 (arXiv 1603.08155) and its supplement, with Zhang, Zhu and Zhu 2019
(arXiv 1812.05233) for upsampling and the sigmoid.
"""

import hashlib
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from metastyle_jax.core import checks, trees
from metastyle_jax.core.errors import UserError
from metastyle_jax.core.types import Array, Params
from metastyle_jax.models import layers

MIN_SIDE = 16  # pixels; reflection at a quarter of the size needs some to reflect
MARGIN = 8  # pixels, see `apply_with_margin`
WIDTH = 32  # channels of the first convolution in the papers
BLOCKS = 5  # residual blocks in the papers


def apply(params: Params, images: Array, *, formulation: str | None = None) -> Array:
    """Stylizes images.

    The gradient with respect to some biases is exactly zero, because a later instance norm
    subtracts them: the biases of all convolutions before a norm, and the bias of the second norm in
    each residual block.

    Args:
        params: parameters as `init` returns them, of any width and number of blocks. Scales and
            biases of instance norms are `[C]`, or `[N, C]` for a different style of each image. All
            images share the convolutions.
        images: `[N, H, W, 3]` floating point in 0..1, H and W at least 16.
        formulation: how convolutions are computed, see `layers.reflect_conv`. None chooses the
            fastest one on the current backend. 'plain' works on every backend, and for symbolic H
            and W when a program is exported.

    Returns:
        `[N, H, W, 3]` in 0..1, in the dtype of the images.

    Raises:
        UserError: the images have another rank or number of channels, or are too small.
    """
    _check_images(images)
    full = jax.nn.relu(_conv_norm(params['down1'], images, formulation))
    half = jax.nn.relu(_conv_norm(params['down2'], full, formulation, stride=2))
    x = jax.nn.relu(_conv_norm(params['down3'], half, formulation, stride=2))
    for i in range(width_and_blocks(params)[1]):
        x = _residual(params[f'block{i + 1}'], x, formulation)
    # A stride of 2 rounds odd sizes up, so upsampling by 2 may give one row or column too many. It
    # is cropped to the size that the encoder had. The alternative, padding the image to a multiple
    # of 4, would let the padding into the statistics of the instance norms.
    x = jax.nn.relu(_conv_norm(params['up1'], x, formulation, upsample_to=half.shape[1:3]))
    x = jax.nn.relu(_conv_norm(params['up2'], x, formulation, upsample_to=full.shape[1:3]))
    kernel, bias = params['out']['kernel'], params['out']['bias']
    return jax.nn.sigmoid(layers.reflect_conv(x, kernel, bias, formulation=formulation))


def apply_with_margin(params: Params, images: Array, *, formulation: str | None = None) -> Array:
    """Stylizes images like `apply`, without lines along the borders.

    A trained network draws dark and bright lines, up to three pixels wide, along the border of its
    input. The loss hardly penalizes them, because the loss network pads with zeros and so sees
    little of the border. So this function extends each image by reflection by `MARGIN` pixels on
    each side, stylizes it, and crops the result.

    Args:
        params: see `apply`.
        images: see `apply`.
        formulation: see `apply`.

    Returns:
        `[N, H, W, 3]` in 0..1.

    Raises:
        UserError: see `apply`.
    """
    _check_images(images)
    stylized = apply(params, layers.reflect(images, MARGIN), formulation=formulation)
    for axis in (1, 2):
        stylized = jax.lax.slice_in_dim(stylized, MARGIN, MARGIN + images.shape[axis], axis=axis)
    return stylized


def _conv_norm(
    params: Params,
    x: Array,
    formulation: str | None,
    *,
    stride: int = 1,
    upsample_to: Sequence[int] | None = None,
    trains_bias: bool = True,
) -> Array:
    """Applies a convolution and its instance norm; may upsample the input first.

    Args:
        params: `{'conv': {'kernel', 'bias'}, 'norm': {'scale', 'bias'}}`.
        x: `[N, H, W, C]`.
        formulation: see `layers.reflect_conv`.
        stride: stride of the convolution.
        upsample_to: height and width to which x is upsampled (nearest neighbour) before the
            convolution; None for no upsampling.
        trains_bias: whether the bias of the norm gets a gradient.
    """
    kernel, conv_bias = params['conv']['kernel'], params['conv']['bias']
    scale, norm_bias = params['norm']['scale'], params['norm']['bias']
    # The norm subtracts each channel's mean, and with it this bias. The exact gradient is zero; the
    # computed one would be rounding noise. Adam divides a gradient by its own magnitude, so it
    # would make full steps along the noise, different ones on each machine.
    conv_bias = jax.lax.stop_gradient(conv_bias)
    if not trains_bias:
        norm_bias = jax.lax.stop_gradient(norm_bias)
    if upsample_to is None:
        x = layers.reflect_conv(x, kernel, conv_bias, stride=stride, formulation=formulation)
    else:
        height, width = upsample_to
        x = layers.upsample_conv(
            x, kernel, conv_bias, height=height, width=width, formulation=formulation
        )
    return layers.instance_norm(x, scale, norm_bias)


def _residual(params: Params, x: Array, formulation: str | None) -> Array:
    """Adds two convolutions of x to x, without a ReLU after the sum."""
    hidden = jax.nn.relu(_conv_norm(params['first'], x, formulation))
    # The bias of the second norm adds a constant to each channel of x. Later blocks pass it on in
    # their sums. Each convolution that reads it pads by reflection, so the constant remains one in
    # its output, also at the border, and the norm behind it subtracts it.
    return x + _conv_norm(params['second'], hidden, formulation, trains_bias=False)


def _check_images(images: Array) -> None:
    """Raises UserError unless images are a batch that the network accepts."""
    # `any` of comparisons, since symbolic sizes of an exported program have no minimum.
    small = any(side < MIN_SIDE for side in images.shape[1:3])
    if images.ndim != 4 or images.shape[-1] != 3 or small:
        raise UserError(
            f'images have shape {tuple(images.shape)}: [N, H, W, 3] is needed, '
            f'with H and W at least {MIN_SIDE}'
        )


# Parameters. --------------------------------------------------------------------------------------


def init(rng: Array, *, width: int = WIDTH, blocks: int = BLOCKS) -> Params:
    """Draws random parameters.

    Kernels and biases of convolutions are uniform within ±1/√fan-in, where the fan-in is the number
    of inputs of one output. Scales of norms are 1 and their biases 0.

    Args:
        rng: a key of `jax.random`.
        width: channels of the first convolution.
        blocks: number of residual blocks.

    Returns:
        Nested dict of float32 arrays, such as `params['down1']['conv']['kernel']`.
    """
    params: Params = {}
    shapes = parameter_shapes(width, blocks)
    for name, shape in shapes.items():
        *scopes, leaf = name.split('/')
        module = params
        for scope in scopes:
            module = module.setdefault(scope, {})
        if scopes[-1] == 'norm':
            module[leaf] = jnp.ones(shape) if leaf == 'scale' else jnp.zeros(shape)
        else:
            kernel = shapes['/'.join([*scopes, 'kernel'])]
            module[leaf] = uniform_by_fan_in(_key_of(rng, scopes, leaf), shape, kernel)
    return params


def uniform_by_fan_in(rng: Array, shape: tuple[int, ...], kernel: tuple[int, ...]) -> Array:
    """Draws numbers that are uniform within ±1/√fan-in.

    Args:
        rng: a key of `jax.random`.
        shape: shape of the array.
        kernel: shape `[K, K, C, C']` of the layer's kernel; the fan-in is K·K·C.
    """
    bound = (kernel[0] * kernel[1] * kernel[2]) ** -0.5
    return jax.random.uniform(rng, shape, minval=-bound, maxval=bound)


def check(params: Params) -> None:
    """Raises UserError unless `params` has the names and shapes of a style transformer."""
    try:
        width, blocks = width_and_blocks(params)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise UserError(f'these parameters are not of a style transformer: {error}') from error
    if not width:
        raise UserError('these parameters are not of a style transformer: its width is 0')
    expected = parameter_shapes(width, blocks)
    present = dict(
        zip(trees.names(params), [leaf.shape for leaf in jax.tree.leaves(params)], strict=True)
    )
    for name in sorted({*expected, *present}):
        if expected.get(name) != present.get(name):
            raise UserError(
                f'parameter {name} has shape {present.get(name, "none")}, '
                f'expected {expected.get(name, "none")}: not a style transformer of width {width}'
            )


def width_and_blocks(params: Params) -> tuple[int, int]:
    """Returns the width of a transformer and its number of residual blocks."""
    blocks = sum(name.startswith('block') for name in params)
    return params['down1']['conv']['kernel'].shape[-1], blocks


def adapted(params: str) -> Callable[[str], bool]:
    """Returns a predicate for the parameters that an inner loop or an adaptation changes.

    Args:
        params: 'all' for every parameter, as in Algorithm 1 of MetaStyle; 'norm' for the scales and
            biases of instance norms only, as in the published experiments.

    Returns:
        A function from the name of a parameter, such as 'down1/norm/scale', to bool.

    Raises:
        UserError: `params` is neither 'all' nor 'norm'.
    """
    checks.one_of('params', params, ('all', 'norm'))
    if params == 'all':
        return lambda name: True
    return lambda name: 'norm' in name.split('/')


def parameter_shapes(width: int, blocks: int) -> dict[str, tuple[int, ...]]:
    """Computes the shapes of all parameters by name, in the order of the layers.

    Args:
        width: channels of the first convolution.
        blocks: number of residual blocks.

    Returns:
        A dict from names such as 'down1/norm/scale' to shapes.
    """
    deep = 4 * width  # channels of the residual blocks
    convolutions = {  # name -> (kernel size, input channels, output channels)
        'down1': (9, 3, width),
        'down2': (3, width, 2 * width),
        'down3': (3, 2 * width, deep),
        **{
            f'block{i + 1}/{place}': (3, deep, deep)
            for i in range(blocks)
            for place in ('first', 'second')
        },
        'up1': (3, deep, 2 * width),
        'up2': (3, 2 * width, width),
    }
    shapes: dict[str, tuple[int, ...]] = {}
    for name, (size, inputs, outputs) in convolutions.items():
        shapes[f'{name}/conv/kernel'] = (size, size, inputs, outputs)
        shapes[f'{name}/conv/bias'] = (outputs,)
        shapes[f'{name}/norm/scale'] = (outputs,)
        shapes[f'{name}/norm/bias'] = (outputs,)
    return shapes | {'out/kernel': (9, 9, width, 3), 'out/bias': (3,)}


def _key_of(rng: Array, scopes: list[str], leaf: str) -> Array:
    """Derives the key of one kernel or bias from its name.

    A key by name does not depend on the other layers, so two networks of different depth start with
    equal first blocks. flax.linen computes the same digest for a module of this name, so a Flax
    network starts with the same parameters.
    """
    number = {'kernel': b'\x01', 'bias': b'\x02'}[leaf]
    digest = hashlib.sha1(''.join(scopes).encode() + number, usedforsecurity=False).digest()
    return jax.random.fold_in(rng, jnp.uint32(int.from_bytes(digest[:4], 'big')))
