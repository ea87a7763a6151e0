"""The meta-gradient: the exact gradient of an outer loss through the inner loop.

Source: MAML, Finn et al. 2017, arXiv 1703.03400.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from metastyle_jax.core.types import Array, PyTree
from metastyle_jax.meta import arguments, inner, shard_map


class MetaGradient(NamedTuple):
    """Result of `meta_gradient`.

    Attributes:
        gradient: the gradient, a `Meta` of the same structure as the argument.
        outer_loss: scalar, `L'(w_T, b')`.
        inner_losses: `[T]`, the inner loss before each step.
        first_order_norm: norm of `∇L'` at `w_T`, the gradient that first-order MAML uses.
        second_order_norm: norm of the difference between the exact gradient and the first-order
            one. It is zero with `order='first'`, unless the optimizer itself depends on θ, as
            weight decay does.
        aux: the auxiliary output of the outer loss, or None.
    """

    gradient: inner.Meta
    outer_loss: Array
    inner_losses: Array
    first_order_norm: Array
    second_order_norm: Array
    aux: Any


def meta_gradient(
    meta: inner.Meta,
    inner_batches: PyTree,
    outer_batch: PyTree,
    *,
    inner_loss: inner.LossFn,
    outer_loss: inner.LossFn | None = None,
    has_aux: bool = False,
    optimizer: optax.GradientTransformation | None = None,
    adapted: Callable[[str], bool] = lambda name: True,
    order: str = 'exact',
    mode: str = 'reverse',
    remat: bool | None = None,
    unroll: int | None = None,
    trust_rules: bool = False,
) -> MetaGradient:
    """Computes the gradient of the outer loss through the inner loop, for one task.

    The inner loop takes θ and the inner rates r to adapted parameters w_T. The result is the
    gradient in θ and in r of::

        F(θ, r) = L'(w_T(θ, r), b')

    with the outer loss L', the outer batch b', and every second derivative of the inner loss.

    Inside `jax.shard_map` each device gets the meta-gradient of its own task; average them with
    `jax.lax.pmean`.

    Args:
        meta: the meta-parameters: θ and, if they are learned, the inner rates.
        inner_batches: pytree whose leaves have a leading axis of size T. With T = 0 the result is
            the gradient of the outer loss at θ.
        outer_batch: pytree.
        inner_loss: `(params, batch) -> scalar`.
        outer_loss: `(params, batch) -> scalar`, or `-> (scalar, aux)` with `has_aux`. None means
            the inner loss.
        has_aux: whether the outer loss returns a pair of its value and an auxiliary output.
        optimizer: the inner optimizer, see `inner_loop`.
        adapted: predicate on the names of the tensors that the inner loop adapts.
        order: 'exact' or 'first', see `inner_loop`.
        mode: 'reverse' or 'mixed', see `inner_loop`.
        remat: whether the backward pass recomputes inner steps, see `inner_loop`.
        unroll: inner steps in each iteration of the compiled loop, see `inner_loop`.
        trust_rules: whether custom derivative rules in the loss are true, see `inner_loop`.

    Returns:
        A `MetaGradient`.

    Raises:
        UserError: as `inner_loop`; also if θ holds an array that has no derivative.

    Example:
        >>> loss = lambda w, b: 0.5 * jnp.sum((w - b) ** 2)
        >>> result = meta_gradient(Meta(jnp.zeros(2)), jnp.ones((1, 2)), jnp.ones(2),
        ...                        inner_loss=loss, optimizer=optax.sgd(0.5))
        >>> result.gradient.theta  # (1 - 0.5)² (θ - 1)
        Array([-0.25, -0.25], dtype=float32)
    """
    inner.check_meta(meta)
    arguments.check_floats(meta.theta)

    def objective(meta, offset):
        result = inner.inner_loop(
            meta,
            inner_batches,
            loss=inner_loss,
            optimizer=optimizer,
            adapted=adapted,
            order=order,
            mode=mode,
            remat=remat,
            unroll=unroll,
            trust_rules=trust_rules,
        )
        params = jax.tree.map(jnp.add, result.params, offset)
        value, aux = arguments.split_aux((outer_loss or inner_loss)(params, outer_batch), has_aux)
        return value, (aux, result.losses)

    # An offset of zero is added to w_T. The gradient in the offset is ∇L'(w_T), the first-order
    # gradient: the same backward pass gives both gradients.
    offset = jax.tree.map(jnp.zeros_like, meta.theta)
    if shard_map.is_active():  # otherwise JAX would sum the gradients of all devices' tasks
        axes = shard_map.varying_axes(jax.eval_shape(objective, meta, offset)[0])
        meta, offset = shard_map.mark_varying((meta, offset), axes)
    (value, (aux, losses)), (gradient, first) = jax.value_and_grad(
        objective, argnums=(0, 1), has_aux=True
    )(meta, offset)
    second = jax.tree.map(jnp.subtract, gradient.theta, first)
    return MetaGradient(gradient, value, losses, global_norm(first), global_norm(second), aux)


def global_norm(tree: PyTree) -> Array:
    """Euclidean norm of all leaves together, computed in at least float32.

    The squares of float16 numbers would overflow.
    """
    return optax.tree.norm(
        jax.tree.map(lambda x: x.astype(jnp.promote_types(x.dtype, jnp.float32)), tree)
    )
