"""Optimizers of the inner loop and of the outer step, as a configuration names them."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from metastyle_jax import meta
from metastyle_jax.core import checks
from metastyle_jax.core.errors import UserError
from metastyle_jax.core.types import Array
from metastyle_jax.meta import inner_optimizers

OUTER = ('adam', 'sgd')
OUTER_SCHEDULES = ('inverse', 'cosine')


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
    checks.one_of('config.inner.optimizer', config.inner.optimizer, inner_optimizers.NAMES)
    rate = 1.0 if config.inner.learn_rates else config.inner.rate * decay(config, step)
    return inner_optimizers.by_name(config.inner.optimizer, rate, config.inner.eps_root)


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
