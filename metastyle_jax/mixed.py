"""Mixed-mode differentiation: the derivative of a gradient, forward over reverse.

Let v be the cotangent of the inner gradient ∇_w L(w, η), where η is any other input: parameters
that stay, the batch, and arrays that the loss closes over. By the symmetry of second derivatives

    vᵀ ∂²L/∂w²  and  vᵀ ∂²L/∂w∂η

are both the directional derivative of ∇_{(w,η)} L along (v, 0): one `jax.jvp` of a gradient in
place of the reverse pass through one.

Source: Kemaev et al. 2025, arXiv 2505.00793.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from metastyle_jax.types import Array, PyTree


def value_and_grad(
    loss: Callable[..., Array], *example: PyTree, remat: bool
) -> Callable[..., tuple[Array, dict[str, Array]]]:
    """`jax.value_and_grad(loss)`, whose own derivative is forward over reverse.

    Args:
        loss: `(fast, slow, batch) -> scalar`.
        *example: arguments of it, of which shapes and types are used.
        remat: whether the derivative computes the gradient again. If not, the gradient is
            linearized where it is computed, and nothing is computed twice, but memory holds it.

    Returns:
        `(fast, slow, batch) -> (L, dL/dfast)`, differentiable once, in reverse mode, in all of
        its arguments and in what the loss closes over.
    """
    # Traced once, so that arrays which the loss closes over become inputs like the others.
    # `jax.closure_convert` does the same, but keeps every array it has seen alive in a cache.
    closed = jax.make_jaxpr(loss)(*example)

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
        value_bar, v = jax.tree.map(_instantiate, cotangents)
        if remat:
            fast, chosen, rest = saved
            (_, grads), (_, products) = jax.jvp(gradients(chosen, rest), (fast,), (v,))
        else:
            grads, product, rest = saved
            _, products = product(v)
        fast_bar, chosen_bar = jax.tree.map(
            lambda g, product: value_bar * g + product, grads, products
        )
        return fast_bar, [chosen_bar.get(i) for i in range(len(chosen_bar) + len(rest))]

    gradient.defvjp(forward, backward, symbolic_zeros=True)
    return lambda fast, slow, batch: gradient(
        fast, [*closed.consts, *jax.tree.leaves((slow, batch))]
    )


def _is_smooth(x: Array) -> bool:
    """Whether an array can have a derivative: integers and keys have none."""
    return jnp.issubdtype(jnp.result_type(x), jnp.inexact)


def _instantiate(cotangent: Any) -> Array:
    """Zeros for a cotangent that JAX knows to be zero, which it marks instead of making."""
    if isinstance(cotangent, jax.custom_derivatives.SymbolicZero):
        return jnp.zeros(cotangent.shape, cotangent.dtype)
    return cotangent
