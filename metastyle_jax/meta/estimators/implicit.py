"""Implicit meta-gradients, which assume that the inner loop has reached a minimum."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.scipy.sparse.linalg

from metastyle_jax.core import checks
from metastyle_jax.core.errors import UserError
from metastyle_jax.core.types import Array, PyTree
from metastyle_jax.meta import gradient, objective, types
from metastyle_jax.meta.steps import losses, running, selection

SOLVERS = ('cg', 'neumann')


def implicit_gradient(
    meta: types.Meta,
    inner_batches: PyTree,
    outer_batch: PyTree,
    *,
    inner_loss: types.LossFn,
    solver: str = 'cg',
    iterations: int = 20,
    damping: float = 0.0,
    rate: float = 0.1,
    **options: Any,
) -> gradient.MetaGradient:
    """Computes the meta-gradient from the implicit function theorem, as iMAML does.

    If the inner loop ends in a minimum w* of the mean inner loss L, then ∇_w L(w*, m) = 0 for all
    meta-parameters m. The derivative of this equation with respect to m gives, with the Hessian
    H = ∂²L/∂w∂w + damping::

        ∇F(m) = ∂L'/∂m − (∂²L/∂m∂w) q        where  H q = ∂L'/∂w

    Memory and time of the gradient do not depend on T. The inner steps are not differentiated, so
    any optimizer can be used. A minimum does not depend on where the search for it began. So the
    gradient with respect to θ is zero, unless the inner loss contains θ, as in
    `L(w) + λ/2 |w − θ|²` with `meta.theta`. The gradient with respect to learned rates is zero for
    the same reason.

    Args:
        meta: the meta-parameters.
        inner_batches: see `meta_gradient`. L is the mean over the batches of all steps.
        outer_batch: pytree.
        inner_loss: see `meta_gradient`. The state of the loss is a constant for the derivative.
        solver: how the linear system is solved: 'cg', conjugate gradients, for a positive definite
            H; or 'neumann', the series `rate Σ_k (I − rate H)^k`, for `rate` below `2 / |H|`.
        iterations: largest number of iterations of 'cg', or number of terms of the series.
        damping: number that is added to the diagonal of H.
        rate: factor of the Neumann series.
        **options: further arguments of `meta_gradient`, except for `outer_weights`.

    Returns:
        A `MetaGradient`.

    Raises:
        UserError: see `meta_gradient`; also if the solver is unknown, a number is out of range, or
            `outer_weights` is given.

    Sources: iMAML, Rajeswaran et al. 2019, arXiv 1909.04630; Neumann series, Lorraine, Vicol and
    Duvenaud 2020, arXiv 1911.02590.
    """
    checks.one_of('solver', solver, SOLVERS)
    checks.whole_number('iterations', iterations, 1)
    checks.real_number('damping', damping, least=0)
    checks.real_number('rate', rate, above=0)
    if options.get('outer_weights') is not None:
        raise UserError(
            'implicit_gradient has only the outer loss after the last step: leave outer_weights out'
        )
    given = {**options, 'inner_loss': inner_loss, 'order': 'first'}
    problem = objective.problem(meta, inner_batches, outer_batch, **given)
    outcome = problem.evaluate(problem.tensors, problem.offset)[1]._replace(aux=None)
    outcome = jax.lax.stop_gradient(outcome)
    carry = outcome.inner.carry
    adapted = options.get('adapted', ...)
    fast = selection.divide(selection.restore(carry.params, meta.theta), adapted).fast

    def params_of(tensors):
        theta = selection.restore(tensors, meta).theta
        parts = selection.divide(theta, adapted)
        return parts.combine(fast, parts.slow)

    (value, aux), (direct, first) = jax.value_and_grad(
        lambda tensors, offset: problem.outer(tensors, params_of(tensors), offset, carry),
        argnums=(0, 1), has_aux=True,
    )(problem.tensors, problem.offset)  # fmt: skip
    mean_loss = _mean_inner_loss(meta, inner_batches, inner_loss, carry, options)
    inner_gradient = lambda fast, tensors: jax.grad(mean_loss)(fast, tensors)

    def hessian_times(v):
        product = jax.jvp(lambda w: inner_gradient(w, problem.tensors), (fast,), (v,))[1]
        return jax.tree.map(lambda a, b: a + damping * b, product, v)

    outer_slope = selection.divide(selection.restore(first, meta.theta), adapted).fast
    q = _solve(hessian_times, outer_slope, solver, iterations, rate)
    (indirect,) = jax.vjp(lambda tensors: inner_gradient(fast, tensors), problem.tensors)[1](q)
    found = jax.tree.map(jnp.subtract, direct, indirect)
    norms = gradient.norms_of(found, first)
    return gradient.as_result(meta, found, value, outcome._replace(aux=aux), norms)


def _solve(
    product: Callable[[PyTree], PyTree], right: PyTree, solver: str, iterations: int, rate: float
) -> PyTree:
    """Solves H q = right for q, where `product` multiplies a vector by H."""
    if solver == 'cg':
        return jax.scipy.sparse.linalg.cg(product, right, maxiter=iterations, tol=1e-10)[0]

    def add(carry, _):
        term, total = carry
        term = jax.tree.map(lambda a, b: a - rate * b, term, product(term))
        return (term, jax.tree.map(jnp.add, total, term)), None

    total = jax.lax.scan(add, (right, right), length=iterations - 1)[0][1]
    return jax.tree.map(lambda x: rate * x, total)


def _mean_inner_loss(
    meta: types.Meta,
    batches: PyTree,
    loss: types.LossFn,
    carry: types.Carry,
    options: dict[str, Any],
) -> Callable[[dict[str, Array], types.Meta], Array]:
    """Returns the function `(fast, tensors) -> mean inner loss`, over the batches of all steps."""
    feed = running.feed_of(batches, options.get('steps'))

    def mean_loss(fast, tensors):
        full = selection.restore(tensors, meta)
        parts = selection.divide(full.theta, options.get('adapted', ...))
        params = parts.combine(fast, parts.slow)

        def one(item, step):
            extras = {'meta': full, 'state': carry.state, 'step': step}
            result = losses.call(loss, params, feed.of_step(item, step), **extras)
            has_state = 'state' in losses.extras_of(loss)
            return losses.split_inner(
                result, has_state=has_state, has_aux=options.get('inner_has_aux', False)
            )[0]

        same = options.get('steps') is not None and not callable(batches)
        if same and 'step' not in losses.extras_of(loss):
            return one(None, carry.step)
        numbers = carry.step - feed.steps + jnp.arange(feed.steps, dtype=jnp.int32)
        return jnp.mean(jax.lax.map(lambda x: one(*x), (feed.stacked, numbers)))

    return mean_loss
