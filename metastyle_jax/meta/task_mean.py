"""Computes the mean of the meta-gradients of several tasks."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from metastyle_jax.core.types import PyTree
from metastyle_jax.meta import arguments, shard_map
from metastyle_jax.meta.gradient import MetaGradient
from metastyle_jax.meta.steps import loops


def mean_over_tasks(
    gradient: Callable[[PyTree, PyTree], MetaGradient],
    inner_batches: PyTree,
    outer_batches: PyTree,
    *,
    unroll: int | None = None,
) -> MetaGradient:
    """Averages the meta-gradients of several tasks, one after another in a `lax.scan`.

    With the outer loss F_s of task s as a function of the meta-parameters m::

        g = 1 / S Σ_s ∇F_s(m)        s = 1 … S

    Gradients are added up task by task, so memory does not grow with the number of tasks.

    Algorithm 1 of MetaStyle uses the sum over tasks. The mean differs only by a constant factor,
    which has no effect with Adam. With the mean, logged losses and clipping thresholds do not
    depend on the number of tasks.

    Args:
        gradient: `(inner_batches, outer_batch) -> MetaGradient`, for one task.
        inner_batches: pytree with leaves `[S, T, ...]` for S tasks.
        outer_batches: pytree with leaves `[S, ...]`.
        unroll: number of tasks in each iteration of the compiled loop; None chooses it as in
            `inner_loop`.

    Returns:
        A `MetaGradient` in which each leaf is the mean over the S tasks. Integers and booleans,
        such as counts in the auxiliary output, become floats. The carry is None.

    Raises:
        UserError: the batches have no common leading axis, or there are no tasks.
    """
    tasks = arguments.leading_axis((inner_batches, outer_batches))

    def one_task(*batches):
        # The carry, with the adapted parameters of a task, has no meaningful mean.
        result = gradient(*batches)._replace(carry=None)
        return jax.tree.map(lambda x: x if arguments.is_float(x) else jnp.asarray(x, float), result)

    def add(total, batches):
        return jax.tree.map(jnp.add, total, one_task(*batches)), None

    # The scan must start with zeros of the result's shapes; inside `jax.shard_map` they must also
    # be marked as varying where the result varies.
    first = jax.tree.map(lambda leaf: leaf[0], (inner_batches, outer_batches))
    traced, shapes = jax.make_jaxpr(one_task, return_shape=True)(*first)
    zero = jax.tree.map(
        lambda x: shard_map.mark_varying(jnp.zeros(x.shape, x.dtype), shard_map.varying_axes(x)),
        shapes,
    )
    if unroll is None:
        # As in the inner loop, only convolutions on CPU gain by unrolling.
        needed = tasks == 1 or loops.has_convolutions(traced)
        unroll = loops.default_unroll(tasks) if needed else 1
    total, _ = jax.lax.scan(add, zero, (inner_batches, outer_batches), unroll=unroll)
    return jax.tree.map(lambda leaf: leaf / tasks, total)
