"""Evolution strategies: estimate meta-gradients from values of the outer loss only."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metastyle_jax.core import checks
from metastyle_jax.core.errors import UserError
from metastyle_jax.core.types import Array, PyTree
from metastyle_jax.meta import arguments, gradient, inner, objective, types
from metastyle_jax.meta.steps import selection


class Particles(NamedTuple):
    """The state of `pes_gradient`: N pairs of inner training runs.

    Attributes:
        carries: carries of the inner loop, with leading axes `[2, N]`: index 0 of the first axis is
            for the runs with m + ε, index 1 for those with m − ε. Settings of modules are None.
        perturbation: sum of all perturbations of each pair since its start, a `Meta` with a leading
            axis `[N]`.
    """

    carries: types.Carry
    perturbation: types.Meta


def es_gradient(
    meta: types.Meta,
    inner_batches: PyTree,
    outer_batch: PyTree,
    *,
    rng: Array,
    sigma: float = 0.01,
    pairs: int = 16,
    parts: Sequence[str] = ('theta', 'rates', 'hyper'),
    **options: Any,
) -> gradient.MetaGradient:
    """Estimates the meta-gradient by an evolution strategy with antithetic pairs.

    With N pairs of perturbations ε_i ~ N(0, σ² I) of the meta-parameters m::

        g = 1 / (2 N σ²) Σ_i ε_i (F(m + ε_i) − F(m − ε_i))

    The expectation of g is the gradient of F after smoothing by a normal distribution of width σ.
    Losses need not be differentiable with respect to m, and inner loops may be long and chaotic.

    Args:
        meta: the meta-parameters.
        inner_batches: see `meta_gradient`.
        outer_batch: pytree.
        rng: random key.
        sigma: σ, the width of the perturbations.
        pairs: N. The 2 N inner loops run at once, by `jax.vmap`.
        parts: attributes of `Meta` that are perturbed; the gradient of the others is zero.
        **options: further arguments of `meta_gradient`, such as the losses.

    Returns:
        A `MetaGradient` whose norms are None. Losses and auxiliary outputs are means over all
        perturbations.

    Raises:
        UserError: see `meta_gradient`; also if `sigma`, `pairs` or `parts` is invalid.

    Source: Salimans et al. 2017, arXiv 1703.03864.
    """
    _check(sigma, pairs, parts)
    noise = _noise(meta, rng, sigma, pairs, parts)
    problem = objective.problem(meta, inner_batches, outer_batch, **{**options, 'order': 'first'})
    run = lambda tensors: problem.evaluate(tensors, problem.offset)
    values, outcome = jax.vmap(jax.vmap(run))(_both(problem.tensors, noise))
    return _estimate(meta, values, noise, outcome, sigma)


def init_particles(meta: types.Meta, pairs: int, **options: Any) -> Particles:
    """Makes the state of `pes_gradient` before the first inner step.

    Args:
        meta: the meta-parameters.
        pairs: N, the number of pairs of inner training runs.
        **options: `optimizer`, `adapted` and `state` of `init_carry`.
    """
    checks.whole_number('pairs', pairs, 1)
    carry = inner.init_carry(meta, **options)._replace(
        params=selection.without_settings(meta.theta)
    )
    repeat = lambda x, *axes: jnp.broadcast_to(x, (*axes, *jnp.shape(x)))
    zeros = jax.tree.map(jnp.zeros_like, selection.without_settings(meta))
    return Particles(
        jax.tree.map(lambda x: repeat(x, 2, pairs), carry),
        jax.tree.map(lambda x: repeat(x, pairs), zeros),
    )


def pes_gradient(
    meta: types.Meta,
    inner_batches: PyTree,
    outer_batch: PyTree,
    *,
    rng: Array,
    carry: Particles,
    sigma: float = 0.01,
    parts: Sequence[str] = ('rates', 'hyper'),
    **options: Any,
) -> gradient.MetaGradient:
    """Estimates online meta-gradients by a persistent evolution strategy.

    If an inner loop is divided into many calls, truncated meta-gradients are biased, because each
    call ignores the effect of the meta-parameters on later calls. This estimate has no such bias.

    N pairs of inner training runs continue from call to call, with new perturbations
    ε_i ~ N(0, σ² I) in each call. With the sum ξ_i of all perturbations of a pair since its start::

        g = 1 / (2 N σ²) Σ_i ξ_i (F(m + ε_i) − F(m − ε_i))

    If the meta-parameters do not change between calls, the expectation of the sum of all estimates
    is the gradient of the sum of all outer losses, smoothed as in `es_gradient`.

    Args:
        meta: the meta-parameters.
        inner_batches: see `meta_gradient`.
        outer_batch: pytree.
        rng: random key; each call needs a different one.
        carry: the pairs, from `init_particles` or from the result of the last call.
        sigma: σ, the width of the perturbations.
        parts: attributes of `Meta` that are perturbed; the gradient of the others is zero.
        **options: further arguments of `meta_gradient`, such as the losses.

    Returns:
        A `MetaGradient` whose `carry` holds the pairs for the next call; its norms are None.

    Raises:
        UserError: see `meta_gradient`; also if `carry`, `sigma` or `parts` is invalid.

    Source: Vicol, Metz and Sohl-Dickstein 2021, arXiv 2112.13835.
    """
    if not isinstance(carry, Particles):
        raise UserError(f'carry is of {type(carry).__name__}: make it with init_particles')
    pairs = jnp.shape(carry.carries.step)[1]
    _check(sigma, pairs, parts)
    noise = _noise(meta, rng, sigma, pairs, parts)
    total = jax.tree.map(jnp.add, carry.perturbation, noise)
    tensors = selection.without_settings(meta)

    def run(tensors, one):
        one = one._replace(params=selection.restore(one.params, meta.theta))
        problem = objective.problem(
            meta, inner_batches, outer_batch, **{**options, 'order': 'first', 'carry': one}
        )
        return problem.evaluate(tensors, problem.offset)

    values, outcome = jax.vmap(jax.vmap(run))(_both(tensors, noise), carry.carries)
    next_carry = Particles(outcome.inner.carry, total)
    return _estimate(meta, values, total, outcome, sigma)._replace(carry=next_carry)


def _check(sigma: float, pairs: int, parts: Sequence[str]) -> None:
    checks.real_number('sigma', sigma, above=0)
    checks.whole_number('pairs', pairs, 1)
    for part in parts:
        checks.one_of('parts', part, types.Meta._fields)


def _noise(
    meta: types.Meta, rng: Array, sigma: float, pairs: int, parts: Sequence[str]
) -> types.Meta:
    """Draws N perturbations of the meta-parameters, with a leading axis `[N]`.

    They are zero for the attributes of `Meta` that are not in `parts`.
    """
    arguments.check_meta(meta)
    tensors = selection.without_settings(meta)
    keys = jax.random.split(rng, len(types.Meta._fields))

    def of_part(part, key):
        leaves, treedef = jax.tree.flatten(getattr(tensors, part))
        shapes = [((pairs, *jnp.shape(x)), jnp.result_type(x)) for x in leaves]
        if part not in parts:
            return jax.tree.unflatten(treedef, [jnp.zeros(*shape) for shape in shapes])
        keys = jax.random.split(key, max(1, len(leaves)))
        drawn = zip(keys, shapes, strict=False)
        return jax.tree.unflatten(
            treedef, [sigma * jax.random.normal(k, *shape) for k, shape in drawn]
        )

    return types.Meta(*map(of_part, types.Meta._fields, keys))


def _both(tensors: types.Meta, noise: types.Meta) -> types.Meta:
    """Returns the meta-parameters plus and minus the perturbations, with leading axes `[2, N]`."""
    wide = lambda x, e: jnp.broadcast_to(x, e.shape)
    return jax.tree.map(lambda x, e: jnp.stack([wide(x, e) + e, wide(x, e) - e]), tensors, noise)


def _estimate(
    meta: types.Meta, values: Array, weights: types.Meta, outcome: objective.Outcome, sigma: float
) -> gradient.MetaGradient:
    """Computes the gradient from the outer losses `[2, N]`, and averages the other results."""
    slopes = (values[0] - values[1]) / (2 * sigma**2 * values.shape[1])
    estimate = jax.tree.map(lambda e: jnp.tensordot(slopes, e, 1).astype(e.dtype), weights)
    each = gradient.as_result(meta, types.Meta(None), values, outcome._replace(carry=None))
    mean = jax.tree.map(lambda x: jnp.mean(x, axis=(0, 1)), each)
    return mean._replace(gradient=estimate)
