"""Adam with the learning-rate schedule of adaptations."""

from typing import Any

import jax.numpy as jnp
import optax

from metastyle_jax.adaptation import config
from metastyle_jax.core import checks
from metastyle_jax.core.types import Array


def momentum(step: Array) -> Array:
    """Returns Adam's β₁ at a step: min(0.9, (step + 1) / (step + 4)), from 1/4 to 0.9.

    The loss changes fastest in the first steps, where older gradients point in wrong directions.

    Args:
        step: number of finished steps, a scalar.
    """
    return jnp.minimum(0.9, (step + 1) / (step + 4))


def warm_and_fall(step: Array) -> Array:
    """Returns the factor of the rate at a step: min(1, (step + 1) / 3) / (1 + step / 50).

    Adam's first steps change every element by the full rate, even if its gradient is small. With
    the full rate they overshoot, so the rate rises over three steps.

    Args:
        step: number of finished steps, a scalar.
    """
    return jnp.minimum(1.0, (step + 1) / 3) / (1 + step / 50)


def adam(rate: Any, schedule: str) -> optax.GradientTransformation:
    """Returns Adam with a schedule.

    Args:
        rate: learning rate, a number or scalar array.
        schedule: 'constant' for plain Adam; 'falling' for Adam with the rate of `warm_and_fall` and
            the β₁ of `momentum`, which work well if the start is already close to the style.

    Raises:
        UserError: the schedule is unknown.
    """
    checks.one_of('schedule', schedule, config.SCHEDULES)
    if schedule == 'constant':
        return optax.adam(rate)
    return optax.inject_hyperparams(optax.adam)(
        learning_rate=lambda step: rate * warm_and_fall(step), b1=momentum
    )
