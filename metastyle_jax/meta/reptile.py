"""Reptile: a meta-learning direction that needs no second derivatives."""

from typing import Any

import jax
import jax.numpy as jnp

from metastyle_jax.core.types import PyTree
from metastyle_jax.meta import arguments, inner
from metastyle_jax.meta.gradient import MetaGradient, global_norm


def reptile_gradient(
    meta: inner.Meta,
    inner_batches: PyTree,
    outer_batch: PyTree,
    *,
    inner_loss: inner.LossFn,
    outer_loss: inner.LossFn | None = None,
    has_aux: bool = False,
    **options: Any,
) -> MetaGradient:
    """Computes Reptile's direction for one task, `θ - w_T`.

    An outer optimizer that follows this direction in place of a gradient moves θ towards the
    adapted parameters w_T. Nothing is differentiated through the inner loop.

    Args:
        meta: θ and, optionally, inner rates. Reptile does not learn the rates: their part of the
            result is zero.
        inner_batches: pytree whose leaves have a leading axis of size T.
        outer_batch: pytree for the outer loss, which is reported but does not change the direction.
        inner_loss: `(params, batch) -> scalar`.
        outer_loss: `(params, batch) -> scalar`, or `-> (scalar, aux)` with `has_aux`. None means
            the inner loss.
        has_aux: whether the outer loss returns a pair of its value and an auxiliary output.
        **options: of `inner_loop`, except for `order`.

    Returns:
        A `MetaGradient` with the direction as its gradient. Its `first_order_norm` is the norm of
        the direction, its `second_order_norm` is zero.

    Raises:
        UserError: as `inner_loop`.

    Source: Nichol, Achiam and Schulman 2018, arXiv 1803.02999.
    """
    result = inner.inner_loop(meta, inner_batches, loss=inner_loss, **{**options, 'order': 'first'})
    value, aux = arguments.split_aux(
        (outer_loss or inner_loss)(result.params, outer_batch), has_aux
    )
    direction = jax.tree.map(jnp.subtract, meta.theta, result.params)
    norm = global_norm(direction)
    gradient = inner.Meta(direction, jax.tree.map(jnp.zeros_like, meta.rates))
    return MetaGradient(gradient, value, result.losses, norm, jnp.zeros_like(norm), aux)
