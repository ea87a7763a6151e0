"""Settings of instant styles: defaults, ranges and help texts.

This module loads neither JAX nor NumPy, so that `--help` answers at once.
"""

import dataclasses

from metastyle_jax.core import checks

STEPS_FROM_THETA = 30  # if θ has neither a predictor nor learned rates


@dataclasses.dataclass(frozen=True, kw_only=True)
class InstantConfig:
    """Settings with which the style of a painting is made."""

    steps: int | None = checks.setting(
        None,
        'With a painting as --style: number of gradient steps that refine the predicted style; 0 '
        'for no refinement (default: as many steps as θ has learned rates for).',
        least=0,
    )
    """Number of gradient steps that refine the instance norms, at least 0. θ's predictor computes
    their first values from the painting. None for the number of steps for which θ has learned
    rates. If θ has no rates for instance norms, None means 0, or 30 if θ has no predictor either.
    """

    def validate(self) -> None:
        """Raises UserError unless every setting has its type and lies in its range."""
        checks.check_settings(self)
