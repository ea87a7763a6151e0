"""Checks that meta-parameters do not reach a computation as constants.

If they did, a part of the gradient would be missing. A loss or an optimizer that uses
meta-parameters must get them as its argument `meta`. It must not close over them, and its data must
not contain them.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metastyle_jax.core import jax_compat
from metastyle_jax.core.errors import UserError
from metastyle_jax.core.types import Array, PyTree
from metastyle_jax.meta import arguments
from metastyle_jax.meta.steps import losses, selection

IN_LOSS = 'give the loss a third parameter, as in `loss(params, batch, meta)`, and use {} there'
IN_OPTIMIZER = (
    'make the optimizer by a function of meta, as in `lambda meta: optax.sgd(meta.hyper)`'
)


def check_loss(closed: Any, outside: dict[str, Any], which: str) -> None:
    """Raises UserError if a loss closes over an array of the meta-parameters.

    Args:
        closed: the loss as a closed jaxpr.
        outside: name -> leaf of the meta-parameters, as the caller gave them.
        which: 'inner' or 'outer', for the message.
    """
    _refuse(f'the {which} loss closes over', list(jax_compat.closed_over(closed)), outside, IN_LOSS)


def check_optimizer(
    optimizer: Any, meta: Any, fast: dict[str, Array], outside: dict[str, Any]
) -> None:
    """Raises UserError if the inner optimizer closes over an array of the meta-parameters.

    Args:
        optimizer: an optimizer, a function with a parameter `meta` that returns one, or None.
        meta: the meta-parameters.
        fast: name -> adapted tensor.
        outside: name -> leaf of the meta-parameters, as the caller gave them.
    """

    def update(tensors, fast, value):
        chain = losses.optimizer_of(optimizer, selection.restore(tensors, meta))
        return chain.update(fast, chain.init(fast), fast, value=value)

    # With the meta-parameters as its arguments, the jaxpr has no other arrays of them than those
    # that the optimizer closes over.
    closed = jax.make_jaxpr(update)(selection.without_settings(meta), fast, jnp.zeros(()))
    _refuse(
        'the optimizer closes over', list(jax_compat.closed_over(closed)), outside, IN_OPTIMIZER
    )


def check_batches(batches: Callable[[Array], PyTree], step: Array, outside: dict[str, Any]) -> None:
    """Raises UserError if a function of batches closes over an array of the meta-parameters.

    Args:
        batches: the function from the number of a step to its batch.
        step: the number of the first step.
        outside: name -> leaf of the meta-parameters, as the caller gave them.
    """
    constants = list(jax_compat.closed_over(jax.make_jaxpr(batches)(step)))
    _refuse('the function of batches closes over', constants, outside, IN_LOSS)


def warn_unused(meta: Any, *functions: Any) -> None:
    """Warns if there are hyperparameters but no function has a parameter `meta`.

    `check_optimizer` does not find the hyperparameter in an optimizer such as `optax.sgd(hyper)`,
    because optax has already computed other arrays from it.

    Args:
        meta: the meta-parameters.
        *functions: the losses and the optimizer.
    """
    if not jax.tree.leaves(meta.hyper) or any(
        callable(f) and 'meta' in losses.extras_of(f) for f in functions
    ):
        return
    arguments.warn_caller(
        'meta.hyper has the gradient zero: neither the losses nor the optimizer declare a '
        f'parameter `meta` without a default value. To use it, {IN_LOSS.format("meta.hyper")}, '
        f'or {IN_OPTIMIZER}'
    )


def check_data(data: dict[str, PyTree], outside: dict[str, Any]) -> None:
    """Raises UserError if batches, the state or other data hold an array of the meta-parameters.

    Args:
        data: name of an argument -> its pytree.
        outside: name -> leaf of the meta-parameters, as the caller gave them.
    """
    for name, tree in data.items():
        _refuse(f'{name} holds', jax.tree.leaves(tree), outside, IN_LOSS)


def _refuse(what: str, constants: list[Any], outside: dict[str, Any], remedy: str) -> None:
    for name in _shared_with(constants, outside):
        raise UserError(
            f'{what} meta{name}, a constant for the gradient: {remedy.format(f"meta{name}")}. '
            'If a constant is meant, use a copy that jnp.copy made beforehand'
        )


def _shared_with(constants: list[Any], outside: dict[str, Any]) -> Iterator[str]:
    """Yields the names of the arrays in `outside` that are also among the constants."""
    for name, leaf in outside.items():
        # Python itself may use one object for equal numbers.
        if not isinstance(leaf, jax.Array | np.ndarray):
            continue
        if (
            any(leaf is constant for constant in constants)
            or isinstance(leaf, np.ndarray)
            and any(  # JAX wraps arrays of NumPy, without a copy
                isinstance(constant, np.ndarray) and np.shares_memory(leaf, constant)
                for constant in constants
            )
        ):
            yield name
