"""Checks the arguments of the functions in `meta`; errors name the argument."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from metastyle_jax.core import trees
from metastyle_jax.core.errors import UserError
from metastyle_jax.core.types import Array, PyTree


def check_rates(rates: Any) -> None:
    """Raises UserError unless learned rates are None or a dict of floats."""
    if rates is None:
        return
    if not isinstance(rates, dict):
        raise UserError(f'the learned rates are of {type(rates).__name__}: give a dict by name')
    for name, rate in rates.items():
        if not is_float(rate):
            raise UserError(f'the learned rate of {name!r} is {rate!r}: give a float, such as 0.1')


def check_predicate(adapted: Any) -> None:
    """Raises UserError unless `adapted` can be called."""
    if not callable(adapted):
        raise UserError(f'adapted={adapted!r}: it must be a function of the name of a tensor')


def check_optimizer(
    optimizer: optax.GradientTransformation,
) -> optax.GradientTransformationExtraArgs:
    """Wraps an optimizer so that its `update` accepts the loss as `value`, used or not.

    Args:
        optimizer: any optimizer of optax.

    Raises:
        UserError: it is not an optimizer.
    """
    if not (hasattr(optimizer, 'init') and hasattr(optimizer, 'update')):
        raise UserError(
            f'optimizer={optimizer!r}: it must be an optimizer of optax, such as optax.sgd(0.1)'
        )
    return optax.with_extra_args_support(optimizer)


def check_fast(fast: dict[str, Array], rates: dict[str, Array] | None) -> None:
    """Checks the adapted tensors, and that learned rates fit them.

    Args:
        fast: adapted tensors by name.
        rates: learned rates by name, or None.

    Raises:
        UserError: a tensor is not of floats, or rates have other names or shapes.
    """
    check_floats(fast)
    if rates is None:
        return
    if set(rates) != set(fast):
        differing = ', '.join(sorted(set(rates) ^ set(fast)))
        raise UserError(f'learned rates and adapted parameters differ in {differing}')
    for name, rate in rates.items():
        if jnp.shape(rate) not in ((), jnp.shape(fast[name])):
            raise UserError(
                f'the learned rate of {name!r} has the shape {jnp.shape(rate)}: it must be a '
                f"scalar or have the parameter's shape, {jnp.shape(fast[name])}"
            )


def check_floats(tree: PyTree) -> None:
    """Raises UserError, with the name of the leaf, if a leaf of a pytree has no derivative."""
    for name, leaf in zip(trees.names(tree), jax.tree.leaves(tree), strict=True):
        if not is_float(leaf):
            kind = getattr(leaf, 'dtype', type(leaf).__name__)
            raise UserError(
                f'the parameter {name!r} is of {kind}, which has no derivative: keep it out of '
                'theta; put it into the batch, or let the loss close over it'
            )


def is_float(leaf: Any) -> bool:
    """Whether a leaf holds real or complex numbers, rather than integers, PRNG keys or others."""
    return isinstance(leaf, float | complex) or (
        hasattr(leaf, 'dtype') and jnp.issubdtype(leaf.dtype, jnp.inexact)
    )


def split_aux(result: Any, has_aux: bool) -> tuple[Array, Any]:
    """Splits the result of an outer loss into its value and its auxiliary output.

    Args:
        result: a scalar, or a pair of a scalar and anything if `has_aux`.
        has_aux: whether the result must be a pair.

    Returns:
        The value, and the auxiliary output or None.

    Raises:
        UserError: the result is not a pair although it must be one.
    """
    if not has_aux:
        return result, None
    if not isinstance(result, tuple) or len(result) != 2:
        raise UserError('with has_aux=True the outer loss must give a pair, (scalar, aux)')
    return result


def leading_axis(batches: PyTree, *, least: int = 1) -> int:
    """Size of the leading axis that all leaves of a pytree share.

    Args:
        batches: pytree of arrays.
        least: the smallest size that is allowed.

    Raises:
        UserError: sizes differ, a leaf has no axis, there are no leaves, or the size is too small.
    """
    sizes = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(batches)}
    if len(sizes) != 1 or () in sizes or min(sizes)[0] < least:
        raise UserError(
            f'batches have leading axes {sorted(sizes) or "of no array"}: each array needs a '
            f'leading axis of the same size, at least {least}'
        )
    return sizes.pop()[0]
