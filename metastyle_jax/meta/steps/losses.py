"""Calls the losses and optimizers of users.

A loss is called as `loss(params, batch)`. If it has one or more of the following parameters,
without a default value, it also gets these extra arguments, by keyword:

    meta    the meta-parameters, so that the loss can use θ and `hyper`
    state   the state that the loss passes from step to step, such as batch statistics or a key
    step    scalar int32, the number of inner steps before this one

An inner loss that declares `state` returns the next state after its value. Likewise, an optimizer
may be a function that declares `meta` and returns an optimizer of optax.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from metastyle_jax.core.errors import UserError
from metastyle_jax.core.types import Array, PyTree
from metastyle_jax.meta import arguments
from metastyle_jax.meta.steps import selection

EXTRAS = ('meta', 'state', 'step')


def extras_of(function: Callable[..., Any]) -> set[str]:
    """Returns the names of the extra arguments that a loss or an optimizer declares."""
    return {*selection.required_parameters(function)} & {*EXTRAS}


def call(function: Callable[..., Any], params: PyTree, batch: PyTree, **extras: Any) -> Any:
    """Calls a loss with parameters, a batch, and those of the extra arguments that it declares."""
    asked = extras_of(function)
    return function(params, batch, **{name: extras[name] for name in extras if name in asked})


def split_inner(result: Any, *, has_state: bool, has_aux: bool) -> tuple[Any, Any, Any]:
    """Splits the result of an inner loss into its value, the next state and the auxiliary output.

    Args:
        result: a scalar, or a tuple that begins with a scalar.
        has_state: whether the loss declares `state`, so that the next state must come second.
        has_aux: whether an auxiliary output must come last.

    Raises:
        UserError: the result is not such a tuple.
    """
    expected = ['scalar', *['state'] * has_state, *['aux'] * has_aux]
    if len(expected) == 1:
        return result, None, None
    if not isinstance(result, tuple) or len(result) != len(expected):
        why = ' and '.join([*['declares `state`'] * has_state, *['has_aux=True'] * has_aux])
        raise UserError(f'an inner loss with {why} must give a tuple, ({", ".join(expected)})')
    return result[0], result[1] if has_state else None, result[-1] if has_aux else None


def outer_as(
    outer_loss: Callable[..., Any] | None,
    has_aux: bool,
    inner_loss: Callable[..., Any],
    inner_has_aux: bool,
) -> Callable[..., tuple[Array, Any]]:
    """Returns the outer loss as a function `(params, batch, **extras) -> (value, aux)`.

    Args:
        outer_loss: the outer loss; None means the inner loss.
        has_aux: whether the outer loss returns a pair of its value and an auxiliary output.
        inner_loss: the inner loss.
        inner_has_aux: whether the inner loss has an auxiliary output.
    """
    loss = inner_loss if outer_loss is None else outer_loss
    has_state = outer_loss is None and 'state' in extras_of(inner_loss)

    def outer(params, batch, **extras):
        result = call(loss, params, batch, **extras)
        if has_state or (outer_loss is None and inner_has_aux):
            value, _, aux = split_inner(result, has_state=has_state, has_aux=inner_has_aux)
            return value, aux
        return arguments.split_aux(result, has_aux)

    return outer


def optimizer_of(
    optimizer: optax.GradientTransformation | Callable[..., Any] | None, meta: Any
) -> optax.GradientTransformationExtraArgs:
    """Returns the inner optimizer; a function of the meta-parameters is called to make it.

    Args:
        optimizer: an optimizer, a function with a parameter `meta` that returns one, or None.
        meta: the meta-parameters.

    Raises:
        UserError: `optimizer` is none of these.
    """
    if optimizer is None:
        optimizer = optax.sgd(1e-4 if meta.rates is None else 1.0)
    elif not hasattr(optimizer, 'init') and callable(optimizer) and extras_of(optimizer):
        optimizer = optimizer(meta=meta)
    return in_float32(arguments.check_optimizer(optimizer))


def in_float32(
    optimizer: optax.GradientTransformationExtraArgs,
) -> optax.GradientTransformationExtraArgs:
    """Returns an optimizer that computes the updates of float16 tensors in float32.

    In float16, the usual `eps_root` of Adam, 1e-8, and the squares of small gradients are rounded
    to zero. Then the second derivative of their square root would be NaN.
    """

    def wide(tree):
        return jax.tree.map(
            lambda x: x.astype(jnp.float32) if jnp.result_type(x) == jnp.float16 else x, tree
        )

    def update(grads, state, params=None, **extra):
        return optimizer.update(wide(grads), state, wide(params), **extra)

    return optax.GradientTransformationExtraArgs(
        lambda params: optimizer.init(wide(params)), update
    )


def visible_meta(loss: Callable[..., Any], meta: Any) -> tuple[Any, Callable[[Any], Any]]:
    """Returns the meta-parameters as a pytree of arrays only, if a loss declares `meta`.

    Args:
        loss: an inner loss.
        meta: the meta-parameters.

    Returns:
        The meta-parameters without settings of modules, or None if the loss does not declare
        `meta`; and a function from this pytree back to the meta-parameters.
    """
    if 'meta' not in extras_of(loss):
        return None, lambda visible: None
    return selection.without_settings(meta), lambda tensors: selection.restore(tensors, meta)


def divide_rates(
    rates: dict[str, Array] | None, fast: dict[str, Array]
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Divides learned rates into those with a leading axis of T steps, and those without it."""
    by_step = {n: r for n, r in (rates or {}).items() if jnp.ndim(r) > jnp.ndim(fast[n])}
    return by_step, {n: r for n, r in (rates or {}).items() if n not in by_step}


def scaled(updates: dict[str, Array], rates: dict[str, Array]) -> dict[str, Array]:
    """Multiplies updates by learned rates, which are broadcast to the shapes of the updates."""

    def times(update, rate):
        wide = jnp.ndim(rate) > 0 and jnp.shape(rate) != update.shape
        return (jnp.broadcast_to(rate, update.shape) if wide else rate) * update

    return {n: times(update, rates[n]) if n in rates else update for n, update in updates.items()}
