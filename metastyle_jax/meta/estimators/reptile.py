"""Reptile: a meta-learning direction that needs no second derivatives."""

from typing import Any

import jax
import jax.numpy as jnp

from metastyle_jax.core.types import PyTree
from metastyle_jax.meta import gradient, objective, types


def reptile_gradient(
    meta: types.Meta, inner_batches: PyTree, outer_batch: PyTree, **options: Any
) -> gradient.MetaGradient:
    """Computes Reptile's direction for one task.

    With the adapted parameters w_T of the inner loop that starts at θ::

        g = θ − w_T(θ, r, h)

    If an outer optimizer uses this direction instead of a gradient, it moves θ towards the adapted
    parameters w_T. The inner loop is not differentiated.

    Args:
        meta: θ and, optionally, inner rates and other meta-parameters. Reptile learns only θ; the
            result is zero for the other parts.
        inner_batches: pytree whose leaves have a leading axis of size T.
        outer_batch: pytree for the outer loss, which is reported but does not change the direction.
        **options: further arguments of `meta_gradient`, such as the losses, except for `order`.

    Returns:
        A `MetaGradient` with the direction as its gradient. Its `first_order_norm` is the norm of
        the direction, its `second_order_norm` is zero.

    Raises:
        UserError: see `meta_gradient`.

    Source: Nichol, Achiam and Schulman 2018, arXiv 1803.02999.
    """
    problem = objective.problem(meta, inner_batches, outer_batch, **{**options, 'order': 'first'})
    value, outcome = problem.evaluate(problem.tensors, problem.offset)
    zeros = jax.tree.map(jnp.zeros_like, problem.tensors)
    direction = jax.tree.map(jnp.subtract, problem.tensors.theta, outcome.inner.params)
    norm = gradient.global_norm(direction)
    norms = norm, jnp.zeros_like(norm)
    return gradient.as_result(meta, zeros._replace(theta=direction), value, outcome, norms)
