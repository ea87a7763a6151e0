"""WCT: the features of the content get the covariance matrix of the style, layer by layer.

Five pairs of encoder and decoder, from relu5_1 to relu1_1, each work on the picture of the pair
before. The decoders are trained to reconstruct pictures, without any style.

Source: Li et al. 2017, arXiv 1705.08086.
"""

import jax
import jax.numpy as jnp

from metastyle_jax.baselines import systems
from metastyle_jax.baselines.features import encoder_decoder, statistics, system_recipe
from metastyle_jax.core import checks
from metastyle_jax.core.types import Array, Params
from metastyle_jax.training.recipes import training_recipe

CUTS = ('relu5_1', 'relu4_1', 'relu3_1', 'relu2_1', 'relu1_1')  # in the order of the pairs
ALPHA = 0.6  # of the paper's experiments, in each pair


def system(
    *, encoder: str = 'vgg19', width: int = encoder_decoder.WIDTH, deepest: str = CUTS[0]
) -> systems.System:
    """Returns WCT as a system.

    Its parameters are `{'encoder': up to relu5_1, 'decoders': {'relu5_1', ..., 'relu1_1'}}`. The
    style is a `statistics.CovarianceRoots` of the style image for each pair.

    Args:
        encoder: one of `encoder_decoder.ENCODERS`.
        width: channels of the first convolution.
        deepest: the layer of the first pair, one of `CUTS`; the pairs before it are left out.

    Raises:
        UserError: an argument has a value that is not possible.
    """
    cuts = pairs_from(deepest)
    encoders = {c: encoder_decoder.encoder_layers(encoder, c, width=width) for c in cuts}
    decoders = {c: encoder_decoder.decoder_layers(encoder, c, width=width) for c in cuts}

    def init(rng: Array) -> Params:
        encoder_rng, *rngs = jax.random.split(rng, 1 + len(cuts))
        return {
            'encoder': encoder_decoder.init(encoder_rng, encoders[deepest]),
            'decoders': {
                cut: encoder_decoder.init_decoder(decoder_rng, decoders[cut])
                for cut, decoder_rng in zip(cuts, rngs, strict=True)
            },
        }

    def encode_style(params: Params, style_image: Array) -> dict[str, statistics.CovarianceRoots]:
        features = encoder_decoder.encode(params['encoder'], style_image[None], cuts[::-1])
        return {
            cut: statistics.covariance_roots(layer)
            for cut, layer in zip(cuts[::-1], features, strict=True)
        }

    def apply(
        params: Params,
        style: dict[str, statistics.CovarianceRoots],
        contents: Array,
        alpha: Array,
    ) -> Array:
        pictures = contents
        for cut in cuts:
            (features,) = encoder_decoder.encode(params['encoder'], pictures, (cut,))
            styled = statistics.with_covariance(features, style[cut])
            height, width = contents.shape[1:3]
            pictures = encoder_decoder.decode(
                params['decoders'][cut],
                decoders[cut],
                systems.blend(features, styled, alpha),
                (height, width),
            )
            # What the next pair encodes is a picture, so its values are in 0..1.
            pictures = jnp.clip(pictures, 0, 1)
        return pictures

    stored = encoders[deepest] + sum(decoders.values(), ())
    return systems.System(
        name='wct',
        title='WCT (Li et al. 2017)',
        init=init,
        encode_style=encode_style,
        apply=apply,
        count=encoder_decoder.parameter_count(sum((*encoders.values(), *decoders.values()), ())),
        footnote=(
            'Each pair counts with its encoder, as on the poster. The shorter encoders are parts '
            'of the longest, so only '
            f'{encoder_decoder.parameter_count(stored):,} parameters are stored.'
        ),
        alpha=ALPHA,
    )


def recipe(
    *,
    encoder: str = 'vgg16',
    width: int = encoder_decoder.WIDTH,
    deepest: str = CUTS[0],
    pixel_weight: float = 1.0,
    feature_weight: float = 1.0,
    start: str = '',
) -> training_recipe.Recipe:
    """Returns the training of the decoders, which reconstruct contents; styles are not used.

        loss = Σ pixel_weight · |picture - content|² + feature_weight · |f(picture) - f(content)|²

    The sum is over the pairs. Each term depends on one decoder only, so this is the same as
    training them one after the other.

    Args:
        encoder: one of `encoder_decoder.ENCODERS`.
        width: channels of the first convolution.
        deepest: the layer of the first pair, see `system`.
        pixel_weight: weight of the mean squared difference of pixels.
        feature_weight: weight of that of the features at which the encoder of the pair ends, in the
            units of `system_recipe.feature_loss`.
        start: file of trained weights to begin with, see `system_recipe.of_system`.
    """
    cuts = pairs_from(deepest)
    decoders = {c: encoder_decoder.decoder_layers(encoder, c, width=width) for c in cuts}

    def loss(params: Params, contents: Array, styles: Array) -> training_recipe.RecipeLoss:
        contents, _ = system_recipe.flat_pairs(contents, styles)
        features = encoder_decoder.encode(params['encoder'], contents, cuts[::-1])
        height, width = contents.shape[1:3]
        total = jnp.zeros(())
        for cut, wanted in zip(cuts[::-1], features, strict=True):
            pictures = encoder_decoder.decode(
                params['decoders'][cut], decoders[cut], wanted, (height, width)
            )
            (found,) = encoder_decoder.encode(params['encoder'], pictures, (cut,))
            total += pixel_weight * system_recipe.mean_square(pictures, contents)
            total += feature_weight * system_recipe.feature_loss(found, wanted)
        return training_recipe.RecipeLoss(total, total, jnp.zeros_like(total))

    whole = system(encoder=encoder, width=width, deepest=deepest)
    return system_recipe.of_system(
        whole, loss, encoder=encoder, cut=deepest, width=width, start=start
    )


def pairs_from(deepest: str) -> tuple[str, ...]:
    """Returns the layers of the pairs, from the deepest one to the first layer of VGG.

    Args:
        deepest: one of `CUTS`.

    Raises:
        UserError: there is no such pair.
    """
    checks.one_of('deepest', deepest, CUTS)
    return CUTS[CUTS.index(deepest) :]
