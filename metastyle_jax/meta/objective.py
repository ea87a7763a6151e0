"""The outer loss as a function of the meta-parameters. All estimators differentiate it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metastyle_jax.core.errors import UserError
from metastyle_jax.core.types import Array, Params, PyTree
from metastyle_jax.meta import arguments, shard_map
from metastyle_jax.meta.steps import closures, losses, running, selection
from metastyle_jax.meta.types import Carry, Inner, LossFn, Meta, Options


class Outcome(NamedTuple):
    """All results of the inner loop and the outer loss, except the value of the outer loss.

    Attributes:
        inner: result of the inner loop. Settings of modules are None in its parameters, so that
            transformations of JAX, such as `jax.vmap`, can return it.
        aux: auxiliary output of the outer loss, or None.
        outer_losses: `[T]`, the outer loss after each step; None without `outer_weights`.
        carry: `inner.carry` if the caller gave `carry` or `state`, else None.
    """

    inner: Inner
    aux: Any
    outer_losses: Array | None
    carry: Carry | None


class Problem(NamedTuple):
    """A bilevel problem in the form in which estimators differentiate it.

    Attributes:
        tensors: the meta-parameters that have a derivative; settings of modules are None.
        offset: zeros like `tensors.theta`.
        evaluate: function `(tensors, offset) -> (F, Outcome)`: runs the inner loop, and computes
            the outer loss F. The offset is added to the adapted parameters that the outer loss
            gets. So the gradient with respect to the offset is ∇L'(w_T), the first-order gradient,
            and one backward pass computes both gradients.
        outer: function `(tensors, params, offset, carry) -> (L', aux)`: computes only the outer
            loss.
    """

    tensors: Meta
    offset: Params
    evaluate: Callable[[Meta, Params], tuple[Array, Outcome]]
    outer: Callable[[Meta, Params, Params, Carry], tuple[Array, Any]]


def problem(
    meta: Meta,
    inner_batches: PyTree,
    outer_batch: PyTree,
    *,
    inner_loss: LossFn,
    outer_loss: LossFn | None = None,
    has_aux: bool = False,
    inner_has_aux: bool = False,
    outer_weights: Any = None,
    rank: int = 0,
    **options: Any,
) -> Problem:
    """Checks the arguments of `meta_gradient`, and builds the outer loss as a function from them.

    Args:
        meta: the meta-parameters.
        inner_batches: see `meta_gradient`.
        outer_batch: see `meta_gradient`.
        inner_loss: see `meta_gradient`.
        outer_loss: see `meta_gradient`.
        has_aux: see `meta_gradient`.
        inner_has_aux: see `meta_gradient`.
        outer_weights: see `meta_gradient`.
        rank: 0 if the outer loss is a scalar, 1 if it is a vector.
        **options: further arguments of `inner_loop`.

    Raises:
        UserError: see `meta_gradient`.
    """
    arguments.check_meta(meta)
    arguments.check_floats(meta.theta)
    arguments.check_floats(meta.hyper, 'hyper')
    loop = Options(inner_loss, inner_has_aux, **options)
    continues = loop.carry is not None or loop.state is not None
    outer = losses.outer_as(outer_loss, has_aux, inner_loss, inner_has_aux)
    # A learned rate may well be an array that other parts of the program use, too.
    learned = selection.leaves_of(meta._replace(rates=None))
    outside = {jax.tree_util.keystr(leaf.path): leaf.value for leaf in learned}
    data = {'inner_batches': inner_batches, 'outer_batch': outer_batch, 'state': loop.state}
    closures.check_data(data, outside)
    closures.warn_unused(meta, inner_loss, outer_loss, loop.optimizer)

    def outer_at(tensors, params, offset, carry):
        def value(shifted, tensors, state, step):
            extras = {'meta': selection.restore(tensors, meta), 'state': state, 'step': step}
            return outer(selection.restore(shifted, params), outer_batch, **extras)

        shifted = jax.tree.map(jnp.add, selection.without_settings(params), offset)
        given = shifted, tensors, carry.state, carry.step
        # This trace serves the check only: the auxiliary output need not consist of arrays.
        closed = jax.make_jaxpr(lambda *given: value(*given)[0])(*given)
        closures.check_loss(closed, outside, 'outer')
        found, aux = value(*given)
        if jnp.ndim(found) != rank:
            wanted = 'a vector of losses' if rank else 'a scalar'
            raise UserError(f'the outer loss has the shape {jnp.shape(found)}: give {wanted}')
        return found, aux

    def evaluate(tensors, offset):
        full = selection.restore(tensors, meta)

        def after_step(params, *, state, step):
            return outer_at(tensors, params, offset, Carry(params, None, state, step))

        after = None if outer_weights is None else after_step
        inner, seen = running.run(full, inner_batches, loop, after_step=after, outside=outside)
        if after is None:
            values = None
            value, aux = outer_at(tensors, inner.params, offset, inner.carry)
        else:
            value, aux, values = _weighted(outer_weights, seen, len(inner.losses))
        params = selection.without_settings(inner.params)
        carry = inner.carry._replace(params=params)
        inner = inner._replace(params=params, carry=carry)
        return value, Outcome(inner, aux, values, carry if continues else None)

    tensors = selection.without_settings(meta)
    offset = jax.tree.map(jnp.zeros_like, tensors.theta)
    if shard_map.is_active():  # otherwise JAX would sum the gradients of all devices' tasks
        axes = shard_map.varying_axes(jax.eval_shape(evaluate, tensors, offset)[0])
        tensors, offset = shard_map.mark_varying((tensors, offset), axes)
    return Problem(tensors, offset, evaluate, outer_at)


def _weighted(weights: Any, seen: Any, steps: int) -> tuple[Array, Any, Array]:
    """Computes the weighted sum of the outer losses after all steps.

    Args:
        weights: `[T]`, weight of each step.
        seen: outer losses, `[T]` or `[T, K]`, and auxiliary outputs with a leading axis of size T.
        steps: T.

    Returns:
        The sum, the auxiliary output after the last step, and the outer losses.
    """
    weights = jnp.asarray(weights)
    if weights.shape != (steps,) or not steps:
        raise UserError(
            f'outer_weights have the shape {weights.shape}: give one weight for each of the '
            f'{steps} inner steps, and at least one step'
        )
    values, aux = seen
    return weights @ values, jax.tree.map(lambda leaf: leaf[-1], aux), values
