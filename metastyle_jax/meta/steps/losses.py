"""How the losses and optimizers of users are called.

A loss is called as `loss(params, batch)`. It gets more if it asks for it: it declares one or more
of these parameters, without a default value, and gets them by keyword.

    meta    the meta-parameters, so that θ and `hyper` may occur in the loss
    state   what the loss carries from step to step, such as batch statistics or a random key
    step    scalar int32, the number of inner steps that were done before

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
    """Names of the extra arguments that a loss or an optimizer asks for."""
    return {*selection.required_parameters(function)} & {*EXTRAS}


def call(function: Callable[..., Any], params: PyTree, batch: PyTree, **extras: Any) -> Any:
    """Calls a loss with its parameters, a batch and those extra arguments that it asks for."""
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
    """The outer loss as a function `(params, batch, **extras) -> (value, aux)`.

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
    """The inner optimizer, if necessary made from the meta-parameters.

    Args:
        optimizer: an optimizer, a function with a parameter `meta` that returns one, or None.
        meta: the meta-parameters.

    Raises:
        UserError: it is neither.
    """
    if optimizer is None:
        optimizer = optax.sgd(1e-4 if meta.rates is None else 1.0)
    elif not hasattr(optimizer, 'init') and callable(optimizer) and extras_of(optimizer):
        optimizer = optimizer(meta=meta)
    return in_float32(arguments.check_optimizer(optimizer))


def in_float32(
    optimizer: optax.GradientTransformationExtraArgs,
) -> optax.GradientTransformationExtraArgs:
    """The same optimizer, but what it computes for float16 tensors it computes in float32.

    In float16, the usual `eps_root` of Adam, 1e-8, is zero, and so are the squares of small
    gradients. The second derivative of their square root would not be a number.
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
    """The part of the meta-parameters that a loss sees, without the settings of modules.

    Args:
        loss: an inner loss.
        meta: the meta-parameters.

    Returns:
        A pytree of arrays, or None if the loss does not declare `meta`; and the inverse, a function
        from this pytree to the meta-parameters.
    """
    if 'meta' not in extras_of(loss):
        return None, lambda visible: None
    return selection.without_settings(meta), lambda tensors: selection.restore(tensors, meta)


def divide_rates(
    rates: dict[str, Array] | None, fast: dict[str, Array]
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Divides learned rates into those with an axis of steps and those without."""
    by_step = {n: r for n, r in (rates or {}).items() if jnp.ndim(r) > jnp.ndim(fast[n])}
    return by_step, {n: r for n, r in (rates or {}).items() if n not in by_step}


def scaled(updates: dict[str, Array], rates: dict[str, Array]) -> dict[str, Array]:
    """Updates times learned rates, which are broadcast to their shapes."""

    def times(update, rate):
        wide = jnp.ndim(rate) > 0 and jnp.shape(rate) != update.shape
        return (jnp.broadcast_to(rate, update.shape) if wide else rate) * update

    return {n: times(update, rates[n]) if n in rates else update for n, update in updates.items()}
