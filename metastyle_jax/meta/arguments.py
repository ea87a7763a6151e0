"""Arguments of the functions of `meta`, refused by name where they are of the wrong kind."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from metastyle_jax.core import trees
from metastyle_jax.core.errors import UserError
from metastyle_jax.core.types import Array, PyTree


def check_optimizer(
    optimizer: optax.GradientTransformation,
) -> optax.GradientTransformationExtraArgs:
    """An optimizer that takes the loss as `value`, whether it makes use of it or not.

    Args:
        optimizer: any of optax.

    Raises:
        UserError: it is no optimizer.
    """
    if not (hasattr(optimizer, 'init') and hasattr(optimizer, 'update')):
        raise UserError(f'optimizer={optimizer!r}: it must be one of optax, as optax.sgd(0.1)')
    return optax.with_extra_args_support(optimizer)


def check_floats(tree: PyTree) -> None:
    """Raises UserError, naming it, where a leaf of a pytree can have no derivative."""
    for name, leaf in zip(trees.names(tree), jax.tree.leaves(tree), strict=True):
        if not is_float(leaf):
            kind = getattr(leaf, 'dtype', type(leaf).__name__)
            raise UserError(
                f'the parameter {name!r} is of {kind}, which has no derivative: keep it out of '
                'theta, in the batch or in what the loss closes over'
            )


def is_float(leaf: Any) -> bool:
    """Whether a leaf is of real or complex numbers, and not of whole ones, keys or else."""
    return isinstance(leaf, float | complex) or (
        hasattr(leaf, 'dtype') and jnp.issubdtype(leaf.dtype, jnp.inexact)
    )


def check_rates(rates: Any) -> None:
    """Raises UserError unless learned rates are a dict of floats, or None."""
    if rates is None:
        return
    if not isinstance(rates, dict):
        raise UserError(f'learned rates are of {type(rates).__name__}: give a dict by name')
    for name, rate in rates.items():
        if not is_float(rate):
            raise UserError(f'the learned rate of {name!r} is {rate!r}: give a float, as 0.1')


def check_shapes(rates: dict[str, Array], fast: dict[str, Array]) -> None:
    """Raises UserError unless there is a rate for each adapted tensor, of a shape for it."""
    if set(rates) != set(fast):
        wrong = ', '.join(sorted(set(rates) ^ set(fast)))
        raise UserError(f'learned rates and adapted parameters differ in {wrong}')
    for name, rate in rates.items():
        if jnp.shape(rate) not in ((), jnp.shape(fast[name])):
            raise UserError(
                f'the learned rate of {name!r} has the shape {jnp.shape(rate)}: it must be a '
                f'scalar, or have that of the parameter, {jnp.shape(fast[name])}'
            )


def value_and_aux(found: Any, has_aux: bool) -> tuple[Array, Any]:
    """What an outer loss gave, and what beside it, or None.

    Raises:
        UserError: there should be a pair, and there is none.
    """
    if not has_aux:
        return found, None
    if not isinstance(found, tuple) or len(found) != 2:
        raise UserError('with has_aux=True the outer loss must give a pair, (scalar, aux)')
    return found


def leading_axis(batches: PyTree, *, least: int = 1) -> int:
    """The size of the first axis that all leaves share."""
    sizes = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(batches)}
    if len(sizes) != 1 or () in sizes or min(sizes)[0] < least:
        found = sorted(sizes) or 'of no array'
        raise UserError(
            f'batches have leading axes {found}: each array needs one axis of the same size, at '
            f'least {least}, in front'
        )
    return sizes.pop()[0]
