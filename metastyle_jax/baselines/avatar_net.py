"""Avatar-Net: patches are swapped between whitened features, and statistics guide the decoder.

The *decorator* works at relu4_1. It whitens the features of the content and of the style, replaces
each patch of the content by the most similar one of the style, see `patches.swap`, and gives the
result the covariance matrix and the mean of the style. The decoder gives its own features the mean
and the standard deviation of the style at three layers on the way to the picture.

Patches are centred at each pixel of the feature map, so that pictures of 16 pixels, whose feature
maps are smaller than a patch, can be stylized too.

Source: Sheng, Lin, Shao and Wang 2018, arXiv 1805.03857.
"""

import functools
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metastyle_jax.baselines import systems
from metastyle_jax.baselines.features import (
    encoder_decoder,
    patches,
    statistics,
    system_recipe,
)
from metastyle_jax.core import checks
from metastyle_jax.core.types import Array, Params
from metastyle_jax.training.recipes import training_recipe

CUT = 'relu4_1'
# Layers of the encoder. Before the decoder's convolution of the same number, features get the
# moments of the style in this layer.
GUIDES = ('relu1_1', 'relu2_1', 'relu3_1')
PATCH = 5  # pixels, height and width of a patch
_CLASSIFIER = (4096, 4096, 1000)  # outputs of the fully connected layers of VGG


class DecoratorStyle(NamedTuple):
    """What Avatar-Net needs of a style image.

    Attributes:
        whitened: whitened features at relu4_1, `[h, w, C]`.
        roots: mean and covariance matrix of these features before the whitening.
        moments: moments `[1, C]` of each layer of `GUIDES`.
    """

    whitened: Array
    roots: statistics.CovarianceRoots
    moments: tuple[statistics.Moments, ...]


def system(
    *,
    encoder: str = 'vgg19',
    width: int = encoder_decoder.WIDTH,
    size: int = PATCH,
    swap_weight: float = 1.0,
) -> systems.System:
    """Returns Avatar-Net as a system.

    Its parameters are `{'encoder': ..., 'decoder': ...}`, see `encoder_decoder`. Alpha blends the
    decorated features with those of the content, and the moments of the style with those of the
    content. The paper's own strength, with which the colours stay those of the style, is
    `swap_weight`.

    Args:
        encoder: one of `encoder_decoder.ENCODERS`.
        width: channels of the first convolution of the encoder.
        size: height and width of a patch in pixels of the feature map; odd.
        swap_weight: weight of the swapped patches in their mean with the whitened content, in 0..1.

    Raises:
        UserError: an argument has a value that is not possible.
    """
    patches.check_size(size, centred=True)
    checks.real_number('swap_weight', swap_weight, least=0, most=1)
    encoding = encoder_decoder.encoder_layers(encoder, CUT, width=width)
    decoding = decoder_layers(encoder, width=width)

    def encode_style(params: Params, style_image: Array) -> DecoratorStyle:
        *guides, features = encode(params, style_image[None])
        roots = statistics.covariance_roots(features)
        moments = tuple(statistics.moments(layer) for layer in guides)
        return DecoratorStyle(statistics.whiten(features, roots)[0], roots, moments)

    def apply(params: Params, style: DecoratorStyle, contents: Array, alpha: Any) -> Array:
        *guides, features = encode(params, contents)
        styled = decorate(features, style, size=size, swap_weight=swap_weight)
        features = systems.blend(features, styled, alpha)
        moments = [
            jax.tree.map(lambda own, other: systems.blend(own, other, alpha), own, other)
            for own, other in zip(map(statistics.moments, guides), style.moments, strict=True)
        ]
        height, width = contents.shape[1:3]
        pictures = decode(params, decoding, features, moments, (height, width))
        return jnp.clip(pictures, 0, 1)

    counted = encoder_decoder.parameter_count([*encoding, *decoding])
    return systems.System(
        name='avatar-net',
        title='Avatar-Net (Sheng et al. 2018)',
        init=functools.partial(encoder_decoder.init_both, encoding=encoding, decoding=decoding),
        encode_style=encode_style,
        apply=apply,
        count=_vgg_count(encoder, width) + encoder_decoder.parameter_count(decoding),
        footnote=(
            'As on the poster, all of VGG is counted, with its fully connected layers. Avatar-Net '
            f'uses {counted:,} parameters.'
        ),
    )


def recipe(
    *,
    encoder: str = 'vgg16',
    width: int = encoder_decoder.WIDTH,
    pixel_weight: float = 10.0,
    feature_weight: float = 1.0,
    variation_weight: float = 10 / 255,
    start: str = '',
) -> training_recipe.Recipe:
    """Returns the training of the decoder: it reconstructs contents from their own features.

        x' = decoder(features(x), guided by moments(x))
        loss = pixel_weight · |x' - x|² + feature_weight · Σ |features(x') - features(x)|²
               + variation_weight · variation(x')

    Style images are not used.

    Args:
        encoder: one of `encoder_decoder.ENCODERS`.
        width: channels of the first convolution of the encoder.
        pixel_weight: weight of the mean squared difference of pixels.
        feature_weight: weight of those of the features in `GUIDES` and at relu4_1, in the units of
            `system_recipe.feature_loss`.
        variation_weight: weight of the total variation. The paper's weight of 10 is divided by 255:
            for colours in 0..1 squared differences are 255 times smaller beside absolute ones than
            for colours in 0..255, and at 10 the decoder would paint flat areas.
        start: file of trained weights to begin with, see `system_recipe.of_system`.

    Source: Sheng et al. 2018, section 4.2.
    """
    decoding = decoder_layers(encoder, width=width)

    def loss(params: Params, contents: Array, styles: Array) -> training_recipe.RecipeLoss:
        contents, _ = system_recipe.flat_pairs(contents, styles)
        *guides, features = encode(params, contents)
        moments = [statistics.moments(layer) for layer in guides]
        height, width = contents.shape[1:3]
        pictures = decode(params, decoding, features, moments, (height, width))
        pairs = zip(encode(params, pictures), (*guides, features), strict=True)
        content = pixel_weight * system_recipe.mean_square(pictures, contents)
        content += feature_weight * sum(system_recipe.feature_loss(x, y) for x, y in pairs)
        variation = system_recipe.total_variation(pictures)
        total = content + variation_weight * variation
        return training_recipe.RecipeLoss(total, content, jnp.zeros_like(total))

    whole = system(encoder=encoder, width=width)
    return system_recipe.of_system(whole, loss, encoder=encoder, cut=CUT, width=width, start=start)


def decoder_layers(encoder: str, *, width: int) -> tuple[encoder_decoder.Convolution, ...]:
    """Lists the convolutions of the decoder.

    It mirrors the encoder, but has one convolution more at full size, and a last one of 7 × 7.

    Args:
        encoder: one of `encoder_decoder.ENCODERS`.
        width: channels of the first convolution of the encoder.

    Returns:
        The convolutions, in the order in which they are applied.
    """
    *mirrored, last = encoder_decoder.decoder_layers(encoder, CUT, width=width)
    same = last._replace(outputs=last.inputs)
    return (*mirrored, same, encoder_decoder.Convolution('out', last.inputs, last.outputs, 7))


def encode(params: Params, images: Array) -> tuple[Array, ...]:
    """Computes the features of `GUIDES` and those at relu4_1.

    Args:
        params: `{'encoder': ...}`.
        images: `[N, H, W, 3]` floating in 0..1.

    Returns:
        Four arrays `[N, H', W', C]`.
    """
    return encoder_decoder.encode(params['encoder'], images, (*GUIDES, CUT))


def decorate(
    features: Array, style: DecoratorStyle, *, size: int = PATCH, swap_weight: float = 1.0
) -> Array:
    """Transfers patches of the style to features of the content: the style decorator.

    Args:
        features: of the content at relu4_1, `[N, H, W, C]`.
        style: the style.
        size: height and width of a patch; odd.
        swap_weight: weight of the swapped patches in their mean with the whitened content.

    Returns:
        `[N, H, W, C]`.

    Source: Sheng et al. 2018, section 4.1.
    """
    whitened = statistics.whiten(features, statistics.covariance_roots(features))
    swapped = patches.swap(whitened, style.whitened, size=size, centred=True)
    return statistics.colour(systems.blend(whitened, swapped, swap_weight), style.roots)


def decode(
    params: Params,
    decoding: Sequence[encoder_decoder.Convolution],
    features: Array,
    moments: Sequence[statistics.Moments],
    size: tuple[int, int],
) -> Array:
    """Turns features into pictures, guided by moments.

    Args:
        params: `{'decoder': ...}`.
        decoding: its convolutions, from `decoder_layers`.
        features: at relu4_1, `[N, h, w, C]`.
        moments: for each layer of `GUIDES`, of N images or of one.
        size: height and width of the pictures.

    Returns:
        `[N, height, width, 3]`, not clipped.
    """
    before = {
        layer.replace('relu', 'conv'): lambda x, target=target: statistics.with_moments(x, target)
        for layer, target in zip(GUIDES, moments, strict=True)
    }
    return encoder_decoder.decode(params['decoder'], decoding, features, size, before=before)


def _vgg_count(encoder: str, width: int) -> int:
    """Counts the parameters of a whole VGG for images of 224 × 224 pixels and 1,000 classes."""
    last = encoder_decoder.ENCODERS[encoder][-1]
    convolutions = encoder_decoder.encoder_layers(encoder, f'relu5_{last}', width=width)
    sizes = (7 * 7 * convolutions[-1].outputs, *_CLASSIFIER)
    connected = sum((inputs + 1) * outputs for inputs, outputs in itertools.pairwise(sizes))
    return encoder_decoder.parameter_count(convolutions) + connected
