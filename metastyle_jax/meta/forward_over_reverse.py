"""Mixed-mode differentiation: the derivative of a gradient, forward over reverse.

Let v be the cotangent of the inner gradient ∇_w L(w, η), where η is any other input: parameters
that stay, the batch, and arrays that the loss closes over. By the symmetry of second derivatives

    vᵀ ∂²L/∂w²  and  vᵀ ∂²L/∂w∂η

are both the directional derivative of ∇_{(w,η)} L along (v, 0): one `jax.jvp` of a gradient in
place of the reverse pass through one.

What `jax.custom_vjp` and `jax.custom_jvp` call a derivative need not be one (reversed or clipped
gradients, straight-through estimators), and then nothing is symmetric: `own_rules` finds such.

Source: Kemaev et al. 2025, arXiv 2505.00793.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from metastyle_jax.core.errors import UserError
from metastyle_jax.core.types import Array, PyTree

_JAX = os.path.dirname(jax.__file__) + os.sep
# `jax.custom_gradient` makes a rule of its own there of whatever its user wrote.
_OF_USERS = os.path.join(_JAX, '_src', 'custom_derivatives.py')


def trace(loss: Callable[..., Array], *example: PyTree) -> Any:
    """The jaxpr of a loss.

    Args:
        loss: `(fast, slow, batch) -> scalar`.
        *example: arguments of it, of which shapes and types are used.

    Returns:
        A closed jaxpr of the leaves of all arguments.

    Raises:
        UserError: the loss gives something else than one real number.
    """
    closed, shape = jax.make_jaxpr(loss, return_shape=True)(*example)
    if getattr(shape, 'shape', None) != () or not jnp.issubdtype(shape.dtype, jnp.floating):
        raise UserError(f'the inner loss gives {shape}: it must give one real number, a scalar')
    return closed


def own_rules(jaxpr: Any) -> Iterator[str]:
    """Names and places of functions with derivative rules that JAX did not bring.

    Args:
        jaxpr: not differentiated yet.
    """
    for equation in jaxpr.eqns:
        if equation.primitive.name.startswith(('custom_jvp_call', 'custom_vjp_call')):
            info = getattr(equation.params.get('call_jaxpr'), 'debug_info', None)
            where = getattr(info, 'func_src_info', None) or 'a function'
            file = where.rpartition(' at ')[2].rpartition(':')[0]
            if not file.startswith(_JAX) or file == _OF_USERS:
                yield where
                continue
        for inner in _within(equation.params.values()):
            yield from own_rules(inner)


def _within(values: Iterable[Any]) -> Iterator[Any]:
    """Jaxprs among the parameters of an equation."""
    for value in values:
        inner = getattr(value, 'jaxpr', value)
        if hasattr(inner, 'eqns'):
            yield inner
        elif isinstance(value, tuple | list):
            yield from _within(value)
        elif hasattr(value, 'in_avals'):  # from JAX 0.12 on, a primitive with some of its own
            yield from _within(vars(value).values())


def value_and_grad(closed: Any, *, remat: bool) -> Callable[..., tuple[Array, dict[str, Array]]]:
    """`jax.value_and_grad` of a loss, whose own derivative is forward over reverse.

    Args:
        closed: the loss, of `trace`.
        remat: whether the derivative computes the gradient again. If not, the gradient is
            linearized where it is computed, and nothing is computed twice, but memory holds it.

    Returns:
        `(fast, slow, batch) -> (L, dL/dfast)`, differentiable once, in reverse mode, in all of
        its arguments and in what the loss closes over.
    """

    def value(fast, *others):
        leaves = [*jax.tree.leaves(fast), *others[len(closed.consts) :]]
        return jax.core.eval_jaxpr(closed.jaxpr, others[: len(closed.consts)], *leaves)[0]

    def gradients(chosen, rest):
        """`fast -> (L, ∇L)`, the gradient also in the other inputs that are chosen by place."""

        def by_parts(fast, chosen):
            others = chosen | rest
            return value(fast, *(others[i] for i in range(len(others))))

        return lambda fast: jax.value_and_grad(by_parts, argnums=(0, 1))(fast, chosen)

    @jax.custom_vjp
    def gradient(fast, others):
        return jax.value_and_grad(value)(fast, *others)

    def forward(fast, others):
        fast = {name: leaf.value for name, leaf in fast.items()}
        # Nothing is computed for inputs in which nobody differentiates, such as frozen weights.
        wanted = [leaf.perturbed and _is_smooth(leaf.value) for leaf in others]
        chosen = {i: leaf.value for i, leaf in enumerate(others) if wanted[i]}
        rest = {i: leaf.value for i, leaf in enumerate(others) if not wanted[i]}
        if remat:
            return gradient(fast, [leaf.value for leaf in others]), (fast, chosen, rest)
        (value, grads), product = jax.linearize(gradients(chosen, rest), fast)
        return (value, grads[0]), (grads, product, dict.fromkeys(rest))

    def backward(saved, cotangents):
        value_bar, v = cotangents
        v = jax.tree.map(_instantiate, v)
        if remat:
            fast, chosen, rest = saved
            (_, grads), (_, products) = jax.jvp(gradients(chosen, rest), (fast,), (v,))
        else:
            grads, product, rest = saved
            _, products = product(v)
        if not isinstance(value_bar, jax.custom_derivatives.SymbolicZero):
            products = jax.tree.map(lambda g, x: _times(value_bar, g) + x, grads, products)
        fast_bar, chosen_bar = products
        return fast_bar, [chosen_bar.get(i) for i in range(len(chosen_bar) + len(rest))]

    gradient.defvjp(forward, backward, symbolic_zeros=True)
    return lambda fast, slow, batch: gradient(
        fast, [*closed.consts, *jax.tree.leaves((slow, batch))]
    )


def _is_smooth(x: Array) -> bool:
    """Whether an array can have a derivative: integers and keys have none."""
    return jnp.issubdtype(jnp.result_type(x), jnp.inexact)


def _times(factor: Array, x: Array) -> Array:
    """A product of the type of `x`; zero, where the factor is, whatever `x` is."""
    wide = jnp.promote_types(factor.dtype, x.dtype)
    product = (factor.astype(wide) * x.astype(wide)).astype(x.dtype)
    return jnp.where(factor == 0, jnp.zeros_like(product), product)


def _instantiate(cotangent: Any) -> Array:
    """Zeros for a cotangent that JAX knows to be zero, which it marks instead of making."""
    if isinstance(cotangent, jax.custom_derivatives.SymbolicZero):
        return jnp.zeros(cotangent.shape, cotangent.dtype)
    return cotangent
