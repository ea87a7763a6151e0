"""AdaIN: the features of the content get each channel's mean and standard deviation of the style.

An encoder computes features of the content and of the style image, and a decoder turns the changed
features into a picture. Only the decoder is trained.

Source: Huang and Belongie 2017, arXiv 1703.06868.
"""

import functools

import jax.numpy as jnp

from metastyle_jax.baselines import systems
from metastyle_jax.baselines.features import encoder_decoder, statistics, system_recipe
from metastyle_jax.core.types import Array, Params
from metastyle_jax.training.recipes import training_recipe

CUT = 'relu4_1'
STYLE_LAYERS = ('relu1_1', 'relu2_1', 'relu3_1', 'relu4_1')  # of the style loss


def system(*, encoder: str = 'vgg19', width: int = encoder_decoder.WIDTH) -> systems.System:
    """Returns AdaIN as a system.

    Its parameters are `{'encoder', 'decoder'}`, see `encoder_decoder`. The style is the
    `statistics.Moments` of the style image, `[1, C]`.

    Args:
        encoder: one of `encoder_decoder.ENCODERS`.
        width: channels of the first convolution.
    """
    encoder_layers = encoder_decoder.encoder_layers(encoder, CUT, width=width)
    decoder_layers = encoder_decoder.decoder_layers(encoder, CUT, width=width)

    def encode_style(params: Params, style_image: Array) -> statistics.Moments:
        (features,) = encoder_decoder.encode(params['encoder'], style_image[None], (CUT,))
        return statistics.moments(features)

    def apply(params: Params, style: statistics.Moments, contents: Array, alpha: Array) -> Array:
        (features,) = encoder_decoder.encode(params['encoder'], contents, (CUT,))
        features = systems.blend(features, statistics.with_moments(features, style), alpha)
        height, width = contents.shape[1:3]
        pictures = encoder_decoder.decode(
            params['decoder'], decoder_layers, features, (height, width)
        )
        return jnp.clip(pictures, 0, 1)

    return systems.System(
        name='adain',
        title='AdaIN (Huang and Belongie 2017)',
        init=functools.partial(
            encoder_decoder.init_both, encoding=encoder_layers, decoding=decoder_layers
        ),
        encode_style=encode_style,
        apply=apply,
        count=encoder_decoder.parameter_count([*encoder_layers, *decoder_layers]),
    )


def recipe(
    *,
    encoder: str = 'vgg16',
    width: int = encoder_decoder.WIDTH,
    content_weight: float = 1.0,
    style_weight: float = 10.0,
    start: str = '',
) -> training_recipe.Recipe:
    """Returns the training of the decoder.

        t = AdaIN(f(content), f(style));  picture = decoder(t)
        loss = content_weight · |f(picture) - t|² + style_weight · Σ moment differences

    Differences are in units of `system_recipe.feature_loss`.

    Args:
        encoder: one of `encoder_decoder.ENCODERS`.
        width: channels of the first convolution.
        content_weight: weight of the mean squared difference to the target t at relu4_1.
        style_weight: weight of the differences of means and standard deviations to those of the
            style image at `STYLE_LAYERS`.
        start: file of trained weights to begin with, see `system_recipe.of_system`.
    """
    decoder_layers = encoder_decoder.decoder_layers(encoder, CUT, width=width)

    def loss(params: Params, contents: Array, styles: Array) -> training_recipe.RecipeLoss:
        contents, styles = system_recipe.flat_pairs(contents, styles)
        (features,) = encoder_decoder.encode(params['encoder'], contents, (CUT,))
        of_styles = encoder_decoder.encode(params['encoder'], styles, STYLE_LAYERS)
        target = statistics.with_moments(features, statistics.moments(of_styles[-1]))
        height, width = contents.shape[1:3]
        pictures = encoder_decoder.decode(
            params['decoder'], decoder_layers, target, (height, width)
        )
        found = encoder_decoder.encode(params['encoder'], pictures, STYLE_LAYERS)
        content = content_weight * system_recipe.feature_loss(found[-1], target)
        style = style_weight * system_recipe.moment_loss(found, of_styles)
        return training_recipe.RecipeLoss(content + style, content, style)

    whole = system(encoder=encoder, width=width)
    return system_recipe.of_system(whole, loss, encoder=encoder, cut=CUT, width=width, start=start)
