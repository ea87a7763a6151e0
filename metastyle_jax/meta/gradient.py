"""The meta-gradient: the exact gradient of an outer loss through the inner loop.

Sources: MAML, Finn et al. 2017, arXiv 1703.03400; the outer loss after each step: MAML++, Antoniou
et al. 2019, arXiv 1810.09502.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from metastyle_jax.core.types import Array, PyTree
from metastyle_jax.meta import objective, types
from metastyle_jax.meta.steps import selection


class MetaGradient(NamedTuple):
    """Result of `meta_gradient` and of the other estimators.

    Attributes:
        gradient: the gradient, a `Meta` with the structure of the argument `meta`. In modules,
            leaves without a derivative are None.
        outer_loss: scalar, `L'(w_T, b')`; with `outer_weights` the weighted sum over the steps.
        inner_losses: `[T]`, the inner loss before each step.
        first_order_norm: scalar, norm of `∇L'` at `w_T`, which is the gradient of first-order MAML.
            None if an estimator does not compute it.
        second_order_norm: scalar, norm of the difference between the exact gradient and the
            first-order gradient. It is zero with `order='first'`, unless the optimizer itself
            depends on θ, as with weight decay. None if an estimator does not compute it.
        aux: the auxiliary output of the outer loss, or None.
        inner_aux: the auxiliary outputs of the inner loss, with a leading axis of size T, or None.
        outer_losses: `[T]`, the outer loss after each step, if `outer_weights` was given; else
            None.
        carry: the carry from which a later call can continue the inner loop, if `carry` or `state`
            was given; else None.
    """

    gradient: types.Meta
    outer_loss: Array
    inner_losses: Array
    first_order_norm: Any
    second_order_norm: Any
    aux: Any
    inner_aux: Any = None
    outer_losses: Array | None = None
    carry: Any = None


def meta_gradient(
    meta: types.Meta,
    inner_batches: PyTree,
    outer_batch: PyTree,
    *,
    inner_loss: types.LossFn,
    outer_loss: types.LossFn | None = None,
    has_aux: bool = False,
    inner_has_aux: bool = False,
    outer_weights: Array | None = None,
    optimizer: optax.GradientTransformation | Callable[..., Any] | None = None,
    adapted: Any = lambda name: True,
    steps: int | None = None,
    carry: types.Carry | None = None,
    state: Any = None,
    order: str = 'exact',
    mode: str = 'reverse',
    remat: Any = None,
    unroll: int | None = None,
    trust_rules: bool = False,
) -> MetaGradient:
    """Computes the gradient of the outer loss through the inner loop, for one task.

    The meta-parameters are θ, the inner rates r and others, h. The inner loop computes from them
    the adapted parameters w_T. The result is the gradient with respect to θ, r and h of::

        F(θ, r, h) = L'(w_T(θ, r, h), b')

    with the outer loss L' and the outer batch b'. It contains all second derivatives of the inner
    loss. With outer weights v, F is the weighted sum of the outer losses after all steps::

        F(θ, r, h) = Σ_t v_t L'(w_t(θ, r, h), b')

    A loss that uses the meta-parameters must get them as an argument, `loss(params, batch, meta)`.
    If it closed over them, they would be constants for the derivative, and a part of the gradient
    would be missing. This is an error where it can be detected. The same is true for the optimizer,
    for a function of batches, and for meta-parameters that are part of the batches or the state.

    Inside `jax.shard_map`, each device gets the meta-gradient of its own task. To average them, use
    `jax.lax.pmean`.

    Args:
        meta: the meta-parameters: θ and, if they are learned, the inner rates and others.
        inner_batches: pytree whose leaves have a leading axis of size T; other forms if `steps` is
            given, see `inner_loop`. With T = 0 the result is the gradient of the outer loss at θ.
        outer_batch: pytree.
        inner_loss: `(params, batch) -> scalar`; more arguments and results, see `inner_loop`.
        outer_loss: `(params, batch) -> scalar`, or `-> (scalar, aux)` with `has_aux`. It gets
            `meta`, the last `state` of the inner loss and `step` if it declares them. None means
            the inner loss.
        has_aux: whether the outer loss returns a pair of its value and an auxiliary output.
        inner_has_aux: whether the inner loss has an auxiliary output.
        outer_weights: `[T]`, weights of the outer losses after each step; None for the last only.
        optimizer: the inner optimizer, see `inner_loop`.
        adapted: which tensors the inner loop adapts, see `inner_loop`.
        steps: T, if the inner batches have no leading axis, see `inner_loop`.
        carry: where the inner loop continues, see `inner_loop`. It is a constant for the gradient.
            So the gradient is truncated: it contains only the steps of this call.
        state: the first state of the inner loss, see `inner_loop`.
        order: 'exact' or 'first', see `inner_loop`.
        mode: 'reverse' or 'mixed', see `inner_loop`.
        remat: what the backward pass recomputes, see `inner_loop`.
        unroll: inner steps in each iteration of the compiled loop, see `inner_loop`.
        trust_rules: whether custom derivative rules in the loss are true derivatives, see
            `inner_loop`.

    Returns:
        A `MetaGradient`.

    Raises:
        UserError: see `inner_loop`; also if θ holds an array that has no derivative, or if a loss
            or another argument closes over an array of the meta-parameters, or holds one.

    Example:
        >>> loss = lambda w, b: 0.5 * jnp.sum((w - b) ** 2)
        >>> result = meta_gradient(Meta(jnp.zeros(2)), jnp.ones((1, 2)), jnp.ones(2),
        ...                        inner_loss=loss, optimizer=optax.sgd(0.5))
        >>> result.gradient.theta  # (1 - 0.5)² (θ - 1)
        Array([-0.25, -0.25], dtype=float32)
    """
    problem = objective.problem(
        meta, inner_batches, outer_batch, inner_loss=inner_loss, outer_loss=outer_loss,
        has_aux=has_aux, inner_has_aux=inner_has_aux, outer_weights=outer_weights,
        optimizer=optimizer, adapted=adapted, steps=steps, carry=carry, state=state, order=order,
        mode=mode, remat=remat, unroll=unroll, trust_rules=trust_rules,
    )  # fmt: skip
    (value, outcome), (gradient, first) = jax.value_and_grad(
        problem.evaluate, argnums=(0, 1), has_aux=True
    )(problem.tensors, problem.offset)
    return as_result(meta, gradient, value, outcome, norms_of(gradient, first))


def meta_jacobian(
    meta: types.Meta,
    inner_batches: PyTree,
    outer_batch: PyTree,
    *,
    inner_loss: types.LossFn,
    outer_loss: types.LossFn,
    **options: Any,
) -> MetaGradient:
    """Computes the meta-gradients of several outer losses in one pass through the inner loop.

    The inner loop runs once. Its backward pass is vectorized over the K outer losses::

        J_k = ∇ L'_k(w_T(θ, r, h), b')        k = 1 … K

    Args:
        meta: the meta-parameters.
        inner_batches: see `meta_gradient`.
        outer_batch: pytree.
        inner_loss: see `meta_gradient`.
        outer_loss: `(params, batch) -> [K]`, a vector of outer losses.
        **options: all other arguments of `meta_gradient`.

    Returns:
        A `MetaGradient` in which the gradient, the outer loss and both norms have a leading axis
        of size K.

    Raises:
        UserError: see `meta_gradient`.
    """
    problem = objective.problem(
        meta, inner_batches, outer_batch, inner_loss=inner_loss, outer_loss=outer_loss, rank=1,
        **options,
    )  # fmt: skip
    values, pull_back, outcome = jax.vjp(
        problem.evaluate, problem.tensors, problem.offset, has_aux=True
    )
    gradient, first = jax.vmap(pull_back)(jnp.eye(len(values), dtype=values.dtype))
    return as_result(meta, gradient, values, outcome, jax.vmap(norms_of)(gradient, first))


def as_result(
    meta: types.Meta,
    gradient: types.Meta,
    value: Array,
    outcome: objective.Outcome,
    norms: tuple[Any, Any] = (None, None),
) -> MetaGradient:
    """Makes a `MetaGradient` from the results of an estimator.

    Args:
        meta: the meta-parameters; the settings of their modules are put back into the carry.
        gradient: gradient with respect to `Problem.tensors`.
        value: the value of the outer loss.
        outcome: the other results of `Problem.evaluate`.
        norms: norms of the first-order and of the second-order part; None if unknown.
    """
    carry = outcome.carry
    if carry is not None:
        carry = carry._replace(params=selection.restore(carry.params, meta.theta))
    inner = outcome.inner
    return MetaGradient(
        gradient, value, inner.losses, *norms, outcome.aux, inner.aux, outcome.outer_losses, carry
    )


def norms_of(gradient: types.Meta, first: PyTree) -> tuple[Array, Array]:
    """Computes the norms of the first-order gradient and of its difference from the exact one.

    Args:
        gradient: the exact gradient.
        first: gradient with respect to `Problem.offset`, which is the first-order gradient.
    """
    second = jax.tree.map(jnp.subtract, gradient.theta, first)
    return global_norm(first), global_norm(second)


def global_norm(tree: PyTree) -> Array:
    """Computes the Euclidean norm of all leaves together, in at least float32.

    In float16, the squares would overflow.
    """
    return optax.tree.norm(
        jax.tree.map(lambda x: x.astype(jnp.promote_types(x.dtype, jnp.float32)), tree)
    )
