"""Optimizers of the inner loop, of the outer step and of adaptation, by name."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from metastyle_jax import meta
from metastyle_jax.core.types import Array, UserError

INNER = ('sgd', 'momentum', 'adam')
OUTER = ('adam', 'sgd')
OUTER_SCHEDULES = ('inverse', 'cosine')
SCHEDULES = ('falling', 'constant')  # of adaptation


def inner(name: str, rate: Any, eps_root: float) -> optax.GradientTransformation:
    """An optimizer that the inner loop can be differentiated through.

    Args:
        name: 'sgd', 'momentum' or 'adam'.
        rate: a number or scalar array.
        eps_root: of Adam.

    Raises:
        UserError: unknown name.
    """
    if name == 'sgd':
        return optax.sgd(rate)
    if name == 'momentum':
        return optax.sgd(rate, momentum=0.9)
    if name == 'adam':
        # Without eps_root the second derivative at a zero gradient is not a number.
        return optax.adam(rate, eps_root=eps_root)
    raise UserError(f'config.inner.optimizer={name!r}: it must be one of {", ".join(INNER)}')


def decay(config: Any, step: Array) -> Array:
    """Factor of both rates at an outer step.

    `1 / (1 + decay·step)`, or half a cosine from 1 to 1/20 over all steps.

    Args:
        config: see `configs/`.
        step: scalar, outer steps done.

    Raises:
        UserError: unknown schedule.
    """
    if config.outer.schedule == 'cosine':
        share = jnp.minimum(1.0, step / config.steps)
        return 0.05 + 0.95 * (1 + jnp.cos(jnp.pi * share)) / 2
    if config.outer.schedule != 'inverse':
        raise UserError(
            f'config.outer.schedule={config.outer.schedule!r}: it must be one of '
            f'{", ".join(OUTER_SCHEDULES)}'
        )
    return 1.0 / (1.0 + config.outer.decay * step)


def inner_of(config: Any, step: Array) -> optax.GradientTransformation:
    """The optimizer of the inner loop at an outer step.

    With learned rates it has unit rate: the rates multiply its updates.

    Args:
        config: see `configs/`.
        step: scalar, outer steps done.

    Raises:
        UserError: unknown name.
    """
    rate = 1.0 if config.inner.learn_rates else config.inner.rate * decay(config, step)
    return inner(config.inner.optimizer, rate, config.inner.eps_root)


def outer(config: Any) -> optax.GradientTransformation:
    """Adam or SGD with warm-up and decay, after clipping by norm (0 switches either off).

    Args:
        config: see `configs/`.

    Returns:
        A transformation of a `meta.Meta`; θ and learned rates are clipped each by itself.

    Raises:
        UserError: unknown name.
    """
    name = config.outer.optimizer
    if name not in OUTER:
        raise UserError(f'config.outer.optimizer={name!r}: it must be one of {", ".join(OUTER)}')

    def rate(step):
        warm = jnp.minimum(1.0, (step + 1) / max(1, config.outer.warmup))
        return config.outer.rate * warm * decay(config, step)

    def clip(updates, params):
        del params
        # Each part by itself: gradients of rates can be far larger than those of θ.
        transform = optax.clip_by_global_norm(config.outer.clip)
        return meta.Meta(*(transform.update(part, optax.EmptyState())[0] for part in updates))

    def speed(updates, params):
        del params
        factor = config.outer.rates_speed
        return updates._replace(rates=jax.tree.map(lambda x: factor * x, updates.rates))

    return optax.chain(
        optax.stateless(clip) if config.outer.clip else optax.identity(),
        optax.adam(rate) if name == 'adam' else optax.sgd(rate),
        optax.stateless(speed),
    )


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
    if schedule == 'constant':
        return optax.adam(rate)
    if schedule == 'falling':
        return optax.inject_hyperparams(optax.adam)(
            learning_rate=lambda step: rate * warm_and_fall(step), b1=momentum
        )
    raise UserError(f'schedule {schedule!r}: it must be one of {", ".join(SCHEDULES)}')
