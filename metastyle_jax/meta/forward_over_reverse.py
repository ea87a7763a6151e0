"""Mixed-mode differentiation: derivatives of a gradient, in forward-over-reverse mode.

Let L(w, η) be the inner loss. Here w are the adapted parameters, and η is every other input: frozen
parameters, the batch, and arrays that the loss closes over. An inner step uses the gradient
`g(w, η) = ∇_w L(w, η)`. To differentiate an outer loss through this step, the backward pass gets a
cotangent v of g, of the shape of w, and needs two products:

    vᵀ ∂g/∂w = vᵀ ∂²L/∂w∂w   and   vᵀ ∂g/∂η = vᵀ ∂²L/∂w∂η.

Reverse mode would compute them as a backward pass through a backward pass. But second derivatives
are symmetric, so both products are also the parts of one directional derivative of the full
gradient, along v in w and along zero in η:

    ∂/∂ε ∇_{(w,η)} L(w + ε v, η)  at ε = 0.

This is one `jax.jvp` of a gradient. It costs about as much as one more gradient, and the
intermediate values of the gradient need not be stored for a second backward pass.

Second derivatives are not symmetric if L contains custom derivative rules that are not true
derivatives, such as clipped gradients or straight-through estimators. Reverse mode is then used.

Source: Kemaev et al. 2025, arXiv 2505.00793.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metastyle_jax.core import jax_compat
from metastyle_jax.core.errors import UserError
from metastyle_jax.core.types import Array, PyTree

# Folders of source files whose custom derivative rules are known to be true derivatives.
TRUSTED_FOLDERS = (jax_compat.JAX_FOLDER,)


class TracedLoss(NamedTuple):
    """A loss that was traced to a jaxpr.

    Attributes:
        closed: the closed jaxpr. Its inputs are the leaves of all arguments of the loss, its
            constants are the arrays that the loss closes over, and its first result is the value
            of the loss. Further results are the leaves of the extras.
        extras: tree structure of the extras, which are all results of the loss except its value.
    """

    closed: Any
    extras: Any


def untrusted_rules(traced: TracedLoss) -> list[str]:
    """Lists custom derivative rules that may not be the true derivatives of their functions.

    Args:
        traced: the loss, traced by `trace`.

    Returns:
        Name and place of each function with such a rule, such as 'clip at model.py:12'.
    """
    return list(jax_compat.custom_derivative_rules(traced.closed, TRUSTED_FOLDERS))


def is_supported(traced: TracedLoss, fast: dict[str, Array], *others: PyTree) -> bool:
    """Whether JAX can differentiate the gradient of a loss in forward mode.

    JAX cannot if the rules of a `jax.custom_vjp` themselves contain a `jax.custom_vjp`, such as
    those of `jax.experimental.ode.odeint`.

    Args:
        traced: the loss, traced by `trace`.
        fast: adapted parameters; only shapes and types of the arguments are used.
        *others: the other arguments of the loss.
    """
    if not jax_compat.has_primitive(traced.closed, 'custom_vjp_call'):
        return True
    leaves = [*traced.closed.consts, *jax.tree.leaves(others)]
    chosen = {i: leaf for i, leaf in enumerate(leaves) if _is_inexact(leaf)}
    constant = {i: leaf for i, leaf in enumerate(leaves) if i not in chosen}

    def derivative(fast, chosen):
        full_gradient = _full_gradient(_evaluation(traced), chosen, constant)
        return jax.jvp(lambda fast: full_gradient(fast)[1], (fast,), (fast,))[1]

    try:
        derived = jax.make_jaxpr(derivative)(fast, chosen)
    except TypeError as error:
        if 'custom_vjp' in str(error):
            return False
        raise
    # JAX leaves this operation in place of a derivative that it can only compute in reverse mode.
    return not jax_compat.has_primitive(derived, 'custom_lin')


def trace(loss: Callable[..., tuple[Array, Any]], *example: PyTree) -> TracedLoss:
    """Traces a loss to a jaxpr.

    Args:
        loss: function `(fast, *others) -> (scalar, extras)`, where `fast` is name -> adapted
            parameter. All arguments and results are pytrees of arrays.
        *example: arguments for `loss`; only their shapes and types are used.

    Raises:
        UserError: the loss does not return one real number.
    """
    closed, (shape, extras) = jax.make_jaxpr(loss, return_shape=True)(*example)
    if getattr(shape, 'shape', None) != () or not jnp.issubdtype(shape.dtype, jnp.floating):
        raise UserError(f'the inner loss gives {shape}: it must give one real number, a scalar')
    return TracedLoss(closed, jax.tree.structure(extras))


def value_and_grad(traced: TracedLoss, *, remat: bool) -> Callable[..., Any]:
    """Returns the value and gradient of a loss as a function with a fast derivative.

    The derivative of this function is computed in forward-over-reverse mode.

    Args:
        traced: the loss, traced by `trace`.
        remat: whether the backward pass computes the gradient a second time, which saves memory.
            If False, the gradient is linearized in the forward pass, and the linearization stays
            in memory until the backward pass.

    Returns:
        A function `(fast, *others) -> ((L, extras), ∇L)`, where ∇L is the gradient with respect to
        `fast`. It can be differentiated once, in reverse mode, with respect to all of its arguments
        and to the arrays that the loss closes over.
    """
    value = _evaluation(traced)

    # `others` is η as a flat list. A custom VJP gets η as arguments because JAX does not
    # differentiate in arrays that a function with a custom VJP closes over.
    @jax.custom_vjp
    def gradient(fast, others):
        return jax.value_and_grad(value, has_aux=True)(fast, *others)

    def forward(fast, others):
        fast = {name: leaf.value for name, leaf in fast.items()}
        # `perturbed` tells whether anybody differentiates in an input. For the others, such as the
        # loss network's weights, no product is computed.
        needed = [leaf.perturbed and _is_inexact(leaf.value) for leaf in others]
        chosen = {i: leaf.value for i, leaf in enumerate(others) if needed[i]}
        constant = {i: leaf.value for i, leaf in enumerate(others) if not needed[i]}
        if remat:
            result = gradient(fast, [leaf.value for leaf in others])
            return result, (fast, chosen, constant)
        full_gradient = _full_gradient(value, chosen, constant)
        (result, grads), directional = jax.linearize(full_gradient, fast)
        pull_back = _pull_back_of_extras(value, fast, chosen, constant)
        return (result, grads[0]), (grads, directional, pull_back, dict.fromkeys(constant))

    def backward(saved, cotangents):
        (loss_bar, extras_bar), v = cotangents  # of L, of the extras, and of the gradient of L
        v = jax.tree.map(jax_compat.instantiate, v)
        if remat:
            fast, chosen, constant = saved
            full_gradient = _full_gradient(value, chosen, constant)
            (_, grads), (_, products) = jax.jvp(full_gradient, (fast,), (v,))
        else:
            grads, directional, pull_back, constant = saved
            _, products = directional(v)
        # L itself is also a result, so its own gradient, times its cotangent, is added.
        if not jax_compat.is_symbolic_zero(loss_bar):
            products = jax.tree.map(lambda g, x: _times(loss_bar, g) + x, grads, products)
        if not all(map(jax_compat.is_symbolic_zero, extras_bar)):
            if remat:
                pull_back = _pull_back_of_extras(value, fast, chosen, constant)
            bars = [jax_compat.instantiate(bar) for bar in extras_bar if _is_inexact(bar)]
            products = jax.tree.map(jnp.add, products, pull_back(bars))
        fast_bar, chosen_bar = products
        return fast_bar, [chosen_bar.get(i) for i in range(len(chosen_bar) + len(constant))]

    gradient.defvjp(forward, backward, symbolic_zeros=True)

    def with_extras(fast, *others):
        leaves = [*traced.closed.consts, *jax.tree.leaves(others)]
        (loss, extras), grads = gradient(fast, leaves)
        return (loss, jax.tree.unflatten(traced.extras, extras)), grads

    return with_extras


def _evaluation(traced: TracedLoss) -> Callable[..., tuple[Array, list[Array]]]:
    """Returns a traced loss as a function `(fast, *constants, *leaves) -> (L, extras)`."""
    closed = traced.closed

    def value(fast, *others):
        constants, leaves = others[: len(closed.consts)], others[len(closed.consts) :]
        results = jax_compat.evaluate_jaxpr(closed, constants, *jax.tree.leaves(fast), *leaves)
        return results[0], results[1:]

    return value


def _full_gradient(
    value: Callable[..., Any], chosen: dict[int, Array], constant: dict[int, Array]
) -> Callable[[dict[str, Array]], Any]:
    """Returns the function `fast -> ((L, extras), (∂L/∂fast, ∂L/∂chosen))` for fixed other inputs.

    Args:
        value: `(fast, *others) -> (L, extras)`.
        chosen: position in `others` -> input with respect to which the gradient is needed.
        constant: position in `others` -> each other input.
    """
    by_parts = _by_parts(value, constant)
    gradient = jax.value_and_grad(by_parts, argnums=(0, 1), has_aux=True)
    return lambda fast: gradient(fast, chosen)


def _pull_back_of_extras(
    value: Callable[..., Any],
    fast: dict[str, Array],
    chosen: dict[int, Array],
    constant: dict[int, Array],
) -> Callable[[list[Array]], Any]:
    """Returns the function from cotangents of the extras to cotangents of (fast, chosen).

    Only extras of floating-point type have cotangents.
    """
    by_parts = _by_parts(value, constant)

    def floats(fast, chosen):
        return [extra for extra in by_parts(fast, chosen)[1] if _is_inexact(extra)]

    return jax.vjp(floats, fast, chosen)[1]


def _by_parts(value: Callable[..., Any], constant: dict[int, Array]) -> Callable[..., Any]:
    """Returns the function `(fast, chosen) -> (L, extras)` for fixed other inputs."""

    def by_parts(fast, chosen):
        others = chosen | constant
        return value(fast, *(others[i] for i in range(len(others))))

    return by_parts


def _is_inexact(x: Array) -> bool:
    """Whether an array can have a derivative; integers and PRNG keys cannot."""
    return jnp.issubdtype(x.dtype if hasattr(x, 'dtype') else jnp.result_type(x), jnp.inexact)


def _times(factor: Array, x: Array) -> Array:
    """Computes `factor · x` in the type of `x`; the result is zero if the factor is zero.

    This also holds if the gradient `x` has infinite or NaN values.
    """
    wide = jnp.promote_types(factor.dtype, x.dtype)
    product = (factor.astype(wide) * x.astype(wide)).astype(x.dtype)
    return jnp.where(factor == 0, jnp.zeros_like(product), product)
