"""A VGG that is cut at a layer, and a decoder that mirrors it.

An encoder is the first convolutions of VGG-19 or VGG-16. Its parameters are
`{'conv1_1': {'kernel': [3, 3, I, O], 'bias': [O]}, ...}`. A decoder has the same convolutions in
reverse order, with inputs and outputs exchanged. It has the same names too: the decoder's 'conv3_1'
turns features like those behind the encoder's conv3_1 into features like those before it.

Both pad by reflection. Pooling rounds odd sizes up, so that no row of a picture is lost, and the
decoder crops its result to the size of the picture.

Source: Huang and Belongie 2017, arXiv 1703.06868, section 6; Simonyan and Zisserman 2015 for VGG.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metastyle_jax.core import checks
from metastyle_jax.core.errors import UserError
from metastyle_jax.core.types import Array, Params
from metastyle_jax.models import layers, vgg

WIDTH = 64  # channels of the first convolution
MIN_SIDE = 16  # pixels, of a picture
# Encoder: the number of convolutions of each block. 'vgg19-normalized' is VGG-19 behind one more
# convolution, 1 × 1, which normalizes the colours. The public weights of AdaIN are of this kind.
ENCODERS = {
    'vgg19': (2, 2, 4, 4, 4),
    'vgg19-normalized': (2, 2, 4, 4, 4),
    'vgg16': (2, 2, 3, 3, 3),
}
_LAST_SCALE = 0.02  # of the kernel with which a decoder ends, relative to those before it
_NORMALIZER = 'conv0'  # name of the 1 × 1 convolution


class Convolution(NamedTuple):
    """One convolution of an encoder or decoder.

    Attributes:
        name: such as 'conv4_1': block 4, first convolution.
        inputs: number of input channels.
        outputs: number of output channels.
        size: height and width of the kernel, odd.
        resamples: whether pooling (encoder) or upsampling (decoder) by two precedes it.
    """

    name: str
    inputs: int
    outputs: int
    size: int = 3
    resamples: bool = False


def encoder_layers(encoder: str, cut: str, *, width: int = WIDTH) -> tuple[Convolution, ...]:
    """Lists the convolutions of an encoder.

    Args:
        encoder: one of `ENCODERS`.
        cut: the layer at which the encoder ends, such as 'relu4_1'.
        width: output channels of conv1_1; the next blocks have 2, 4, 8 and 8 times as many.

    Returns:
        The convolutions, in the order in which they are applied.

    Raises:
        UserError: there is no such encoder, or it has no such layer.
    """
    checks.one_of('encoder', encoder, tuple(ENCODERS))
    checks.whole_number('width', width, 1)
    found = [Convolution(_NORMALIZER, 3, 3, size=1)] if encoder == 'vgg19-normalized' else []
    channels = 3
    for block, count in enumerate(ENCODERS[encoder], 1):
        outputs = width * min(2 ** (block - 1), 8)
        for number in range(1, count + 1):
            name = f'{block}_{number}'
            pools = block > 1 and number == 1
            found.append(Convolution(f'conv{name}', channels, outputs, 3, pools))
            if cut == f'relu{name}':
                return tuple(found)
            channels = outputs
    raise UserError(f'cut={cut!r}: {encoder} has no such layer; a valid name is relu4_1')


def decoder_layers(encoder: str, cut: str, *, width: int = WIDTH) -> tuple[Convolution, ...]:
    """Lists the convolutions of the decoder that mirrors an encoder.

    Args:
        encoder: see `encoder_layers`.
        cut: see `encoder_layers`.
        width: see `encoder_layers`.

    Returns:
        The convolutions, in the order in which they are applied.
    """
    mirrored, upsamples = [], False
    for layer in reversed(encoder_layers(encoder, cut, width=width)):
        if layer.name != _NORMALIZER:
            mirrored.append(Convolution(layer.name, layer.outputs, layer.inputs, 3, upsamples))
            upsamples = layer.resamples
    return tuple(mirrored)


def init(rng: Array, convolutions: Sequence[Convolution]) -> Params:
    """Draws random parameters: He-normal kernels, and biases of zero.

    Args:
        rng: a key.
        convolutions: of an encoder or decoder.

    Returns:
        `{name: {'kernel': [K, K, I, O], 'bias': [O]}}`, float32.

    Source: He et al. 2015, arXiv 1502.01852.
    """
    params = {}
    for key, layer in zip(jax.random.split(rng, len(convolutions)), convolutions, strict=True):
        shape = (layer.size, layer.size, layer.inputs, layer.outputs)
        # A variance of 2 / fan-in keeps the scale of activations from layer to layer under ReLU.
        std = math.sqrt(2 / math.prod(shape[:3]))
        kernel = jax.random.normal(key, shape, jnp.float32) * std
        params[layer.name] = {'kernel': kernel, 'bias': jnp.zeros(shape[-1:], jnp.float32)}
    return params


def init_decoder(rng: Array, convolutions: Sequence[Convolution]) -> Params:
    """Draws random parameters of a decoder, whose pictures are almost grey.

    They are those of `init`, but the kernel of the last convolution is small, and its biases are
    0.5. Without this, the first pictures leave 0..1 by far. The first steps of the training then
    push all activations down, and most channels stay at 0 for ever, behind their ReLU.

    Args:
        rng: a key.
        convolutions: of a decoder.
    """
    params = init(rng, convolutions)
    last = params[convolutions[-1].name]
    small = {'kernel': _LAST_SCALE * last['kernel'], 'bias': jnp.full_like(last['bias'], 0.5)}
    return {**params, convolutions[-1].name: small}


def init_both(
    rng: Array, encoding: Sequence[Convolution], decoding: Sequence[Convolution]
) -> Params:
    """Draws random parameters of an encoder and of a decoder.

    Args:
        rng: a key.
        encoding: convolutions of the encoder.
        decoding: convolutions of the decoder.

    Returns:
        `{'encoder': as from `init`, 'decoder': as from `init_decoder`}`.
    """
    for_encoder, for_decoder = jax.random.split(rng)
    return {
        'encoder': init(for_encoder, encoding),
        'decoder': init_decoder(for_decoder, decoding),
    }


def parameter_count(convolutions: Sequence[Convolution]) -> int:
    """Counts the parameters of convolutions, kernels and biases."""
    return sum((layer.size**2 * layer.inputs + 1) * layer.outputs for layer in convolutions)


def encode(params: Params, images: Array, taps: Sequence[str]) -> tuple[Array, ...]:
    """Computes activations of an encoder.

    Args:
        params: of the encoder, up to the last tap or further.
        images: `[N, H, W, 3]` floating RGB in 0..1, height and width at least 16.
        taps: names of layers, such as ('relu1_1', 'relu4_1'), in the order of the network.

    Returns:
        The activation of each tap: `[N, ⌈H / 2^(B-1)⌉, ⌈W / 2^(B-1)⌉, C]` in block B.

    Raises:
        UserError: the images have another shape, or the encoder lacks a tap.
    """
    check_images(images)
    x = _normalize(params, images)
    found: dict[str, Array] = {}
    for name in sorted(params.keys() - {_NORMALIZER}):  # conv1_1, conv1_2, conv2_1, ...
        if len(found) == len(taps):
            break
        if name.endswith('_1') and name != 'conv1_1':
            x = _max_pool(x)
        x = jax.nn.relu(convolve(params[name], x))
        tap = name.replace('conv', 'relu')
        if tap in taps:
            found[tap] = x
    missing = [tap for tap in taps if tap not in found]
    if missing:
        raise UserError(f'taps={missing}: the encoder has only {", ".join(sorted(params))}')
    return tuple(found[tap] for tap in taps)


def decode(
    params: Params,
    convolutions: Sequence[Convolution],
    features: Array,
    size: tuple[int, int],
    *,
    before: Mapping[str, Callable[[Array], Array]] | None = None,
    normalize: Callable[[Array], Array] | None = None,
) -> Array:
    """Applies a decoder: convolutions with a ReLU after each but the last, and upsampling.

    Args:
        params: of the decoder.
        convolutions: of the decoder, see `decoder_layers`.
        features: `[N, h, w, C]`.
        size: height and width of the picture whose features these are.
        before: name of a convolution -> function applied to its input, `[N, h, w, C]`, after the
            upsampling if there is any.
        normalize: function applied to the result of each convolution but the last, before its ReLU.

    Returns:
        `[N, height, width, 3]`, not clipped.
    """
    x, scale = features, 2 ** sum(layer.resamples for layer in convolutions)
    for layer in convolutions:
        module, change = params[layer.name], (before or {}).get(layer.name)
        if layer.resamples:
            scale //= 2
            height, width = (-(-side // scale) for side in size)
        if layer.resamples and change is None:
            # One operation for both, which is faster than two on CPU.
            kernel, bias = (module[part].astype(x.dtype) for part in ('kernel', 'bias'))
            x = layers.upsample_conv(x, kernel, bias, height=height, width=width)
        else:
            x = layers.upsample(x, height=height, width=width) if layer.resamples else x
            x = convolve(module, x if change is None else change(x))
        if layer is not convolutions[-1]:
            x = jax.nn.relu(x if normalize is None else normalize(x))
    return x


def convolve(module: Params, x: Array) -> Array:
    """Convolves with reflection padding; an axis of one pixel is extended by repetition.

    Args:
        module: `{'kernel': [K, K, C, C'], 'bias': [C']}`.
        x: `[N, H, W, C]`; H and W are 1, or larger than K / 2.

    Returns:
        `[N, H, W, C']`.
    """
    _, height, width, _ = x.shape
    # A single pixel has no neighbours to reflect. Two equal ones reflect to equal ones.
    for axis in (1, 2):
        x = jnp.repeat(x, 2, axis) if x.shape[axis] == 1 else x
    kernel, bias = (module[part].astype(x.dtype) for part in ('kernel', 'bias'))
    return layers.reflect_conv(x, kernel, bias)[:, :height, :width]


def check_images(images: Array) -> None:
    """Raises UserError unless images are a batch of floating RGB images of at least 16 pixels."""
    shape = images.shape
    if len(shape) != 4 or shape[3] != 3 or min(shape[1:3]) < MIN_SIDE:
        raise UserError(
            f'images have the shape {list(shape)}: [N, H, W, 3] is needed, with H and W at least '
            f'{MIN_SIDE}'
        )
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise UserError(f'images have the type {images.dtype}: floats in 0..1 are needed')


def _normalize(params: Params, images: Array) -> Array:
    """Normalizes colours: by the encoder's own 1 × 1 convolution, or as torchvision does."""
    if _NORMALIZER in params:
        return convolve(params[_NORMALIZER], images)
    return vgg.normalize(images)


def _max_pool(x: Array) -> Array:
    """Takes the maximum of each square of 2 × 2 pixels; an odd last row or column stays alone."""
    odd = ((0, x.shape[1] % 2), (0, x.shape[2] % 2))
    return vgg.max_pool(jnp.pad(x, ((0, 0), *odd, (0, 0)), mode='edge'))
