"""Style-Swap: patches of the content's features are replaced by the most similar of the style's.

An encoder computes features at relu3_1. Their patches of 3 × 3 are swapped, see `patches.swap`, and
an inverse network turns the swapped features into a picture. The inverse network mirrors the
encoder. An instance norm without scale and bias follows each of its convolutions but the last.

Source: Chen and Schmidt 2016, arXiv 1612.04337.
"""

from typing import Any

import jax
import jax.numpy as jnp

from metastyle_jax.baselines import systems
from metastyle_jax.baselines.features import encoder_decoder, patches
from metastyle_jax.core import checks
from metastyle_jax.core.types import Array, Params
from metastyle_jax.models import layers

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

    def init(rng: Array) -> Params:
        first, second = jax.random.split(rng)
        return {
            'encoder': encoder_decoder.init(first, encoding),
            'decoder': encoder_decoder.init(second, decoding),
        }

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
        init=init,
        encode_style=encode_style,
        apply=apply,
        count=encoder_decoder.parameter_count([*encoding, *decoding]),
        footnote=FOOTNOTE,
    )


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
