"""The feed-forward style transformer as pure `init` and `apply`.

Nine-by-nine convolution, two strided ones, five residual blocks, two upsamplings, nine-by-nine
convolution, sigmoid; reflection padding everywhere and instance norm after every convolution but
the last. With the standard width of 32 it has 1,679,235 parameters, 3,200 of them instance-norm
scales and biases.

Source: Johnson et al. 2016 (arXiv 1603.08155) and its supplement, with Zhang, Zhu and Zhu 2019
(arXiv 1812.05233) for upsampling and the sigmoid.
"""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from metastyle_jax.core import trees
from metastyle_jax.core.errors import UserError
from metastyle_jax.core.types import Array, Params
from metastyle_jax.models import layers

MIN_SIDE = 16
MARGIN = 8  # pixels, see `apply_with_margin`
WIDTH = 32
BLOCKS = 5


def _fan_in_uniform(rng: Array, shape: tuple[int, ...], fan_in: int) -> Array:
    bound = fan_in**-0.5
    return jax.random.uniform(rng, shape, minval=-bound, maxval=bound)


class Conv(nn.Module):
    """Reflection-padded convolution; weights start uniform in ±1/√fan-in."""

    features: int
    size: int
    stride: int = 1
    formulation: str | None = None
    normalized: bool = False  # by an instance norm that follows

    @nn.compact
    def __call__(self, x: Array, like: Array | None = None) -> Array:
        """`[N, H, W, C]` to `[N, ceil(H/stride), ceil(W/stride), features]`, or upsampled.

        Args:
            x: `[N, H, W, C]`.
            like: `[N, 2H or 2H - 1, 2W or 2W - 1, …]`; upsamples to its size before.
        """
        fan_in = self.size * self.size * x.shape[-1]
        shape = (self.size, self.size, x.shape[-1], self.features)
        kernel = self.param('kernel', _fan_in_uniform, shape, fan_in)
        bias = self.param('bias', _fan_in_uniform, (self.features,), fan_in)
        if self.normalized:
            # The norm takes it out again. Its gradient is zero but for rounding, and Adam makes
            # full steps of that, other ones on each machine.
            bias = jax.lax.stop_gradient(bias)
        if like is None:
            return layers.reflect_conv(
                x, kernel, bias, stride=self.stride, formulation=self.formulation
            )
        _, height, width, _ = like.shape
        return layers.upsample_conv(
            x, kernel, bias, height=height, width=width, formulation=self.formulation
        )


class Norm(nn.Module):
    """Instance norm with scale and bias: the parameters that carry most of a style."""

    shift: bool = True  # whether a shift of its output changes that of the network

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """`[N, H, W, C]` to the same; scale and bias are `[C]`, or `[N, C]` where so given."""
        shape = x.shape[-1:]
        given = self.get_variable('params', 'scale')
        if given is not None and given.ndim == 2:
            shape = (x.shape[0], *shape)
        scale = self.param('scale', nn.initializers.ones, shape)
        bias = self.param('bias', nn.initializers.zeros, shape)
        if not self.shift:
            bias = jax.lax.stop_gradient(bias)  # zero but for rounding, as in `Conv`
        return layers.instance_norm(x, scale, bias)


class ConvNorm(nn.Module):
    """Convolution and instance norm."""

    features: int
    size: int = 3
    stride: int = 1
    formulation: str | None = None
    shift: bool = True  # see `Norm`

    @nn.compact
    def __call__(self, x: Array, like: Array | None = None) -> Array:
        """See `Conv`."""
        options = (self.features, self.size, self.stride, self.formulation)
        x = Conv(*options, normalized=True, name='conv')(x, like)
        return Norm(self.shift, name='norm')(x)


class Residual(nn.Module):
    """Two 3×3 convolutions around which the input is added; no ReLU after the sum."""

    features: int
    formulation: str | None = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """`[N, H, W, features]` to the same."""
        layer = functools.partial(ConvNorm, self.features, formulation=self.formulation)
        # A channel's shift goes through the sums to convolutions that norms follow; padded by
        # reflection they make shifts of it, which the norms take out.
        return x + layer(name='second', shift=False)(nn.relu(layer(name='first')(x)))


class Transformer(nn.Module):
    """The whole network."""

    width: int = WIDTH
    blocks: int = BLOCKS
    formulation: str | None = None

    @nn.compact
    def __call__(self, images: Array) -> Array:
        """`[N, H, W, 3]` in 0..1 to the same."""
        layer = functools.partial(ConvNorm, formulation=self.formulation)
        full = nn.relu(layer(self.width, 9, name='down1')(images))
        half = nn.relu(layer(2 * self.width, stride=2, name='down2')(full))
        x = nn.relu(layer(4 * self.width, stride=2, name='down3')(half))
        for i in range(self.blocks):
            x = Residual(4 * self.width, self.formulation, name=f'block{i + 1}')(x)
        # Odd sizes lose a half pixel on the way down; cropping to the encoder's sizes on the way
        # up returns the size of the input without padding that instance norm would see.
        x = nn.relu(layer(2 * self.width, name='up1')(x, like=half))
        x = nn.relu(layer(self.width, name='up2')(x, like=full))
        return nn.sigmoid(Conv(3, 9, formulation=self.formulation, name='out')(x))


def init(rng: Array, *, width: int = WIDTH, blocks: int = BLOCKS) -> Params:
    """Random parameters.

    Args:
        rng: a key.
        width: channels of the first convolution, 32 in the papers.
        blocks: residual blocks, five in the papers.

    Returns:
        Nested dict of float32 arrays, e.g. `params['down1']['conv']['kernel']`.
    """
    image = jnp.zeros((1, MIN_SIDE, MIN_SIDE, 3))
    return Transformer(width, blocks).init(rng, image)['params']


def apply(params: Params, images: Array, *, formulation: str | None = None) -> Array:
    """Stylizes images.

    Args:
        params: as returned by `init`; width and number of blocks are read off them. Scales and
            biases of instance norms may be `[N, C]`: each image then has a style of its own,
            in one pass, while the convolutions stay whole.
        images: `[N, H, W, 3]` in 0..1, H and W at least 16.
        formulation: of the convolutions, see `layers`: 'plain' is the one for every backend and
            for sizes that are symbols; None takes the fastest on the backend at hand.

    Returns:
        `[N, H, W, 3]` in 0..1, of the same dtype. Its gradient in the biases that an instance norm
        takes out again is exactly zero, as it is without rounding: those of convolutions before a
        norm, and of the second norm in each residual block.

    Raises:
        UserError: the images have another rank, number of channels, or are too small.
    """
    _check_images(images)
    return Transformer(*size(params), formulation).apply({'params': params}, images)


def apply_with_margin(params: Params, images: Array, *, formulation: str | None = None) -> Array:
    """Stylizes images for people to look at: `apply`, without lines along the borders.

    A trained network draws dark and bright lines, up to three pixels wide, along the border of what
    it sees, where the loss network, which pads with zeros, hardly looks. Here images go on by
    reflection for `MARGIN` pixels, and what becomes of these is cut off.

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
    made = apply(params, layers.reflect(images, MARGIN), formulation=formulation)
    for axis in (1, 2):
        made = jax.lax.slice_in_dim(made, MARGIN, MARGIN + images.shape[axis], axis=axis)
    return made


def _check_images(images: Array) -> None:
    """Raises UserError for what the network does not take."""
    small = any(side < MIN_SIDE for side in images.shape[1:3])  # symbols have no minimum
    if images.ndim != 4 or images.shape[-1] != 3 or small:
        raise UserError(
            f'images have shape {tuple(images.shape)}: [N, H, W, 3] is needed, '
            f'with H and W at least {MIN_SIDE}'
        )


def size(params: Params) -> tuple[int, int]:
    """Width and number of residual blocks."""
    blocks = sum(name.startswith('block') for name in params)
    return params['down1']['conv']['kernel'].shape[-1], blocks


def adapted(which: str) -> Callable[[str], bool]:
    """Predicate on parameter names that tells which ones an inner loop moves.

    Args:
        which: 'all' (Algorithm 1 of the paper) or 'norm' (its experiments: instance-norm scales
            and biases only).

    Returns:
        A function from a name such as 'down1/norm/scale' to bool.

    Raises:
        UserError: `which` is neither.
    """
    if which == 'all':
        return lambda name: True
    if which == 'norm':
        return lambda name: 'norm' in name.split('/')
    raise UserError(f"params={which!r}: it must be 'all' or 'norm'")


def check(params: Params) -> None:
    """Raises UserError unless parameters are those of a transformer of some width and depth."""
    try:
        width, blocks = size(params)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise UserError(f'these parameters are not of a style transformer: {error}') from error
    if not width:
        raise UserError('these parameters are not of a style transformer: its width is 0')
    expected = _expected(width, blocks)
    found = _shapes(params)
    for name in sorted({*expected, *found}):
        if expected.get(name) != found.get(name):
            raise UserError(
                f'parameter {name} has shape {found.get(name, "none")}, '
                f'expected {expected.get(name, "none")}: not a style transformer of width {width}'
            )


def _expected(width: int, blocks: int) -> dict[str, tuple[int, ...]]:
    """Shapes by name of a transformer; its blocks are alike, and so one is traced for all."""
    shapes = dict(_of_one_block(width))
    block = {name: shapes.pop(name) for name in list(shapes) if name.startswith('block1/')}
    for i in range(1, blocks + 1):
        shapes |= {f'block{i}/{name.removeprefix("block1/")}': x for name, x in block.items()}
    return shapes


@functools.lru_cache
def _of_one_block(width: int) -> dict[str, tuple[int, ...]]:
    """Shapes by name of a transformer of one block."""
    return _shapes(jax.eval_shape(lambda: init(jax.random.key(0), width=width, blocks=1)))


def _shapes(params: Params) -> dict[str, tuple[int, ...]]:
    """Shapes by name."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {trees.leaf_name(path): x.shape for path, x in leaves}
