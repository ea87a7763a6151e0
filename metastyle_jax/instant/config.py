"""Settings of instant styles: the one place for their defaults, ranges and help texts.

This module loads neither JAX nor NumPy, so that `--help` answers at once.
"""

import dataclasses

from metastyle_jax.core import checks

STEPS_FROM_THETA = 30  # if θ has neither a predictor nor learned rates


@dataclasses.dataclass(frozen=True, kw_only=True)
class InstantConfig:
    """Settings of a style that is made of a painting when it is needed."""

    steps: int | None = checks.setting(
        None,
        'Paintings as --style: number of gradient steps that refine the predicted style; 0 for '
        'the prediction alone (default: as many steps as θ has learned rates for).',
        least=0,
    )
    """Number of gradient steps on the instance norms that θ's predictor gives for the painting, at
    least 0. None for the number of steps for which θ has learned rates. If θ has no rates for
    instance norms, None means 0, or 30 if θ has no predictor either."""

    def validate(self) -> None:
        """Raises UserError unless every setting has its type and lies in its range."""
        checks.check_settings(self)
