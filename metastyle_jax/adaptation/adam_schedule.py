"""Adam with the schedule of its rate that adaptation uses."""

from typing import Any

import jax.numpy as jnp
import optax

from metastyle_jax.adaptation import config
from metastyle_jax.core import checks
from metastyle_jax.core.types import Array


def momentum(step: Array) -> Array:
    """Adam's β₁ at a step, counted from 0: it builds up from 1/4 to 0.9, at step 26.

    The loss falls fastest in the first steps, so that old gradients mislead there.
    """
    return jnp.minimum(0.9, (step + 1) / (step + 4))


def warm_and_fall(step: Array) -> Array:
    """Factor of the rate at a step, counted from 0: up in three steps, then 1 / (1 + step/50).

    Adam's first steps are of the full rate in every tensor, whatever the gradient; at full length
    they overshoot.
    """
    return jnp.minimum(1.0, (step + 1) / 3) / (1 + step / 50)


def adam(rate: Any, schedule: str) -> optax.GradientTransformation:
    """Adam by the name of its schedule.

    Args:
        rate: a number or scalar array.
        schedule: 'constant' for plain Adam at this rate; 'falling' for `warm_and_fall` and
            `momentum`, made for starts that are good already.

    Raises:
        UserError: unknown name.
    """
    checks.one_of('schedule', schedule, config.SCHEDULES)
    if schedule == 'constant':
        return optax.adam(rate)
    return optax.inject_hyperparams(optax.adam)(
        learning_rate=lambda step: rate * warm_and_fall(step), b1=momentum
    )
