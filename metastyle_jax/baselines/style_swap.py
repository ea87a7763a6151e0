"""Style-Swap: patches of the content's features are replaced by the most similar of the style's.

An encoder computes features at relu3_1. Their patches of 3 × 3 are swapped, see `patches.swap`, and
an inverse network turns the swapped features into a picture. The inverse network mirrors the
encoder. An instance norm without scale and bias follows each of its convolutions but the last.

Source: Chen and Schmidt 2016, arXiv 1612.04337.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from metastyle_jax.baselines import systems
from metastyle_jax.baselines.features import encoder_decoder, patches, system_recipe
from metastyle_jax.core import checks
from metastyle_jax.core.types import Array, Params
from metastyle_jax.models import layers
from metastyle_jax.training.recipes import training_recipe

CUT = 'relu3_1'
PATCH = 3  # pixels, height and width of a patch
FOOTNOTE = (
    'The poster says 1.48 M parameters, and its network is not described. Counted here are the '
    'encoder to relu3_1 and the inverse network that mirrors it.'
)


def system(
    *, encoder: str = 'vgg19', width: int = encoder_decoder.WIDTH, size: int = PATCH
) -> systems.System:
    """Returns Style-Swap as a system.

    Its parameters are `{'encoder': ..., 'decoder': ...}`, see `encoder_decoder`.

    Args:
        encoder: one of `encoder_decoder.ENCODERS`.
        width: channels of the first convolution of the encoder.
        size: height and width of a patch in pixels of the feature map, at most 4, since the
            smallest pictures have feature maps of 4 × 4 pixels.

    Raises:
        UserError: an argument has a value that is not possible.
    """
    checks.whole_number('size', size, 1, encoder_decoder.MIN_SIDE // 4)
    encoding = encoder_decoder.encoder_layers(encoder, CUT, width=width)
    decoding = encoder_decoder.decoder_layers(encoder, CUT, width=width)

    def encode_style(params: Params, style_image: Array) -> Array:
        return encode(params, style_image[None])[0]

    def apply(params: Params, style: Array, contents: Array, alpha: Any) -> Array:
        features = encode(params, contents)
        features = systems.blend(features, patches.swap(features, style, size=size), alpha)
        pictures = invert(params, decoding, features, (contents.shape[1], contents.shape[2]))
        return jnp.clip(pictures, 0, 1)

    return systems.System(
        name='style-swap',
        title='Style-Swap (Chen and Schmidt 2016)',
        init=functools.partial(encoder_decoder.init_both, encoding=encoding, decoding=decoding),
        encode_style=encode_style,
        apply=apply,
        count=encoder_decoder.parameter_count([*encoding, *decoding]),
        footnote=FOOTNOTE,
    )


def recipe(
    *,
    encoder: str = 'vgg16',
    width: int = encoder_decoder.WIDTH,
    size: int = PATCH,
    variation_weight: float = 1e-6,
    start: str = '',
) -> training_recipe.Recipe:
    """Returns the training of the inverse network.

    The features H are those of the contents, those of the style images, and the contents' features
    with patches of the style images. The network f learns to make a picture whose features they
    are:

        loss = Σ_H |encoder(f(H)) - H|² + variation_weight · variation(f(H))

    Args:
        encoder: one of `encoder_decoder.ENCODERS`.
        width: channels of the first convolution of the encoder.
        size: height and width of a patch.
        variation_weight: weight of the total variation of each picture.
        start: file of trained weights to begin with, see `system_recipe.of_system`.

    Source: Chen and Schmidt 2016, section 4.2.
    """
    decoding = encoder_decoder.decoder_layers(encoder, CUT, width=width)

    def inverted(params: Params, features: Array, images: Array) -> tuple[Array, Array]:
        pictures = invert(params, decoding, features, (images.shape[1], images.shape[2]))
        found = encode(params, pictures)
        return (
            system_recipe.mean_square(found, features),
            system_recipe.total_variation(pictures),
        )

    def loss(params: Params, contents: Array, styles: Array) -> training_recipe.RecipeLoss:
        contents, _ = system_recipe.flat_pairs(contents, styles)
        features, of_styles = encode(params, contents), encode(params, styles)
        # One pair after the other: the comparison of all patches takes much memory.
        each = features.shape[0] // of_styles.shape[0]
        swapped = jax.lax.map(
            lambda pair: patches.swap(pair[0], pair[1], size=size),
            (features.reshape(-1, each, *features.shape[1:]), of_styles),
        ).reshape(features.shape)
        errors, variations = zip(
            inverted(params, features, contents),
            inverted(params, of_styles, styles),
            inverted(params, swapped, contents),
            strict=True,
        )
        content, style = errors[0], errors[1] + errors[2]
        total = content + style + variation_weight * sum(variations)
        return training_recipe.RecipeLoss(total, content, style)

    whole = system(encoder=encoder, width=width, size=size)
    return system_recipe.of_system(whole, loss, encoder=encoder, cut=CUT, width=width, start=start)


def encode(params: Params, images: Array) -> Array:
    """Computes the features whose patches are swapped.

    Args:
        params: `{'encoder': ...}`.
        images: `[N, H, W, 3]` floating in 0..1.

    Returns:
        `[N, ⌈H / 4⌉, ⌈W / 4⌉, C]`.
    """
    return encoder_decoder.encode(params['encoder'], images, (CUT,))[0]


def invert(
    params: Params,
    decoding: tuple[encoder_decoder.Convolution, ...],
    features: Array,
    size: tuple[int, int],
) -> Array:
    """Applies the inverse network.

    Args:
        params: `{'decoder': ...}`.
        decoding: its convolutions, from `encoder_decoder.decoder_layers`.
        features: as from `encode`, swapped or not.
        size: height and width of the pictures.

    Returns:
        `[N, height, width, 3]`, not clipped.
    """
    return encoder_decoder.decode(
        params['decoder'], decoding, features, size, normalize=_instance_norm
    )


def _instance_norm(x: Array) -> Array:
    """Normalizes each channel of each image, without scale and bias."""
    ones = jnp.ones(x.shape[-1], x.dtype)
    return layers.instance_norm(x, ones, jnp.zeros_like(ones))
