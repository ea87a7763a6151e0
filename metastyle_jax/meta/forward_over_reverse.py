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

The symmetry fails if L contains custom derivative rules that are not true derivatives, such as
clipped gradients or straight-through estimators. `inner` then uses reverse mode.

Source: Kemaev et al. 2025, arXiv 2505.00793.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from metastyle_jax.core import jax_compat
from metastyle_jax.core.errors import UserError
from metastyle_jax.core.types import Array, PyTree

# Folders of source files whose custom derivative rules are known to be true derivatives.
TRUSTED_FOLDERS = (jax_compat.JAX_FOLDER,)


def untrusted_rules(closed: Any) -> list[str]:
    """Lists custom derivative rules that may not be the true derivatives of their functions.

    Args:
        closed: the loss, traced by `trace`.

    Returns:
        Name and place of each function with such a rule, as in 'clip at model.py:12'.
    """
    return list(jax_compat.custom_derivative_rules(closed, TRUSTED_FOLDERS))


def trace(loss: Callable[..., Array], *example: PyTree) -> Any:
    """Traces a loss to a closed jaxpr.

    Args:
        loss: `(fast, slow, batch) -> scalar`, where `fast` are the adapted parameters by name and
            `slow` the frozen ones.
        *example: arguments for `loss`; only their shapes and types are used.

    Returns:
        A closed jaxpr. Its arguments are the leaves of all arguments, and its constants are the
        arrays that the loss closes over.

    Raises:
        UserError: the loss does not return one real number.
    """
    closed, shape = jax.make_jaxpr(loss, return_shape=True)(*example)
    if getattr(shape, 'shape', None) != () or not jnp.issubdtype(shape.dtype, jnp.floating):
        raise UserError(f'the inner loss gives {shape}: it must give one real number, a scalar')
    return closed


def value_and_grad(closed: Any, *, remat: bool) -> Callable[..., tuple[Array, dict[str, Array]]]:
    """Returns a `jax.value_and_grad` whose own derivative is taken forward over reverse.

    Args:
        closed: the loss, traced by `trace`.
        remat: whether the backward pass computes the gradient a second time. If not, the gradient
            is linearized in the forward pass; nothing is computed twice, but the linearization
            stays in memory until the backward pass.

    Returns:
        A function `(fast, slow, batch) -> (L, ∇L)`, with the gradient in `fast`. It can be
        differentiated once, in reverse mode, with respect to all of its arguments and to the
        arrays that the loss closes over.
    """

    def value(fast, *others):
        constants, leaves = others[: len(closed.consts)], others[len(closed.consts) :]
        return jax_compat.evaluate_jaxpr(closed, constants, *jax.tree.leaves(fast), *leaves)[0]

    # `others` is η as a flat list. A custom VJP gets η as arguments because JAX does not
    # differentiate in arrays that a function with a custom VJP closes over.
    @jax.custom_vjp
    def gradient(fast, others):
        return jax.value_and_grad(value)(fast, *others)

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
        (loss, grads), directional = jax.linearize(full_gradient, fast)
        return (loss, grads[0]), (grads, directional, dict.fromkeys(constant))

    def backward(saved, cotangents):
        loss_bar, v = cotangents  # cotangents of L and of its gradient
        v = jax.tree.map(jax_compat.instantiate, v)
        if remat:
            fast, chosen, constant = saved
            full_gradient = _full_gradient(value, chosen, constant)
            (_, grads), (_, products) = jax.jvp(full_gradient, (fast,), (v,))
        else:
            grads, directional, constant = saved
            _, products = directional(v)
        # L itself is also a result, so its own gradient, times its cotangent, is added.
        if not jax_compat.is_symbolic_zero(loss_bar):
            products = jax.tree.map(lambda g, x: _times(loss_bar, g) + x, grads, products)
        fast_bar, chosen_bar = products
        return fast_bar, [chosen_bar.get(i) for i in range(len(chosen_bar) + len(constant))]

    gradient.defvjp(forward, backward, symbolic_zeros=True)
    return lambda fast, slow, batch: gradient(
        fast, [*closed.consts, *jax.tree.leaves((slow, batch))]
    )


def _full_gradient(
    value: Callable[..., Array], chosen: dict[int, Array], constant: dict[int, Array]
) -> Callable[[dict[str, Array]], Any]:
    """The function `fast -> (L, (∂L/∂fast, ∂L/∂chosen))` for fixed other inputs.

    Args:
        value: `(fast, *others) -> L`.
        chosen: the inputs among `others` in which the gradient is needed, by position.
        constant: all other inputs, by position.
    """

    def by_parts(fast, chosen):
        others = chosen | constant
        return value(fast, *(others[i] for i in range(len(others))))

    return lambda fast: jax.value_and_grad(by_parts, argnums=(0, 1))(fast, chosen)


def _is_inexact(x: Array) -> bool:
    """Whether an array can have a derivative; integers and PRNG keys cannot."""
    return jnp.issubdtype(jnp.result_type(x), jnp.inexact)


def _times(factor: Array, x: Array) -> Array:
    """`factor · x` in the type of `x`. If the factor is zero, so is the result.

    The gradient `x` may hold infinities or NaN, which a factor of zero must not let through.
    """
    wide = jnp.promote_types(factor.dtype, x.dtype)
    product = (factor.astype(wide) * x.astype(wide)).astype(x.dtype)
    return jnp.where(factor == 0, jnp.zeros_like(product), product)
