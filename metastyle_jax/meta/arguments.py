"""Checks the arguments of the functions in `meta`; error messages name the argument."""

import contextlib
import functools
import os
import sys
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import optax

from metastyle_jax.core import checks, jax_compat
from metastyle_jax.core.errors import UserError
from metastyle_jax.core.types import Array, PyTree
from metastyle_jax.meta.steps import selection
from metastyle_jax.meta.types import MODES, ORDERS, Carry, Meta, Options

# Between this file and the code of the user, the stack holds frames of these files only.
_FILES_BETWEEN = (
    os.path.dirname(__file__) + os.sep,
    jax_compat.JAX_FOLDER,
    contextlib.__file__,
    functools.__file__,
)


def check_meta(meta: Any) -> None:
    """Raises UserError unless `meta` is a `Meta`, and its rates are None or a dict of floats."""
    if not isinstance(meta, Meta):
        raise UserError(f'meta is of {type(meta).__name__}: give Meta(theta)')
    check_rates(meta.rates)


def check_options(options: Options) -> None:
    """Raises UserError unless `order`, `mode`, `remat`, `carry` and `state` are valid."""
    checks.one_of('order', options.order, ORDERS)
    checks.one_of('mode', options.mode, MODES)
    remat = options.remat
    if not (remat is None or isinstance(remat, bool) or callable(remat) or remat == 'sqrt'):
        raise UserError(
            f"remat={remat!r}: it must be True, False, 'sqrt', None or a policy of jax.checkpoint"
        )
    if options.carry is None:
        return
    if not isinstance(options.carry, Carry):
        raise UserError(f'carry is of {type(options.carry).__name__}: make it with init_carry')
    if options.state is not None:
        raise UserError('carry and state are both given: carry already holds the state')


def check_rates(rates: Any) -> None:
    """Raises UserError unless learned rates are None or a dict of floats."""
    if rates is None:
        return
    if not isinstance(rates, dict):
        raise UserError(f'the learned rates are of {type(rates).__name__}: give a dict by name')
    for name, rate in rates.items():
        if not is_float(rate):
            raise UserError(f'the learned rate of {name!r} is {rate!r}: give a float, such as 0.1')


def check_optimizer(
    optimizer: optax.GradientTransformation,
) -> optax.GradientTransformationExtraArgs:
    """Wraps an optimizer so that its `update` accepts the loss as `value`, even if it ignores it.

    Args:
        optimizer: any optimizer of optax.

    Raises:
        UserError: `optimizer` is not an optimizer.
    """
    if not (hasattr(optimizer, 'init') and hasattr(optimizer, 'update')):
        raise UserError(
            f'optimizer={optimizer!r}: it must be an optimizer of optax, such as optax.sgd(0.1)'
        )
    return optax.with_extra_args_support(optimizer)


def check_fast(
    fast: dict[str, Array], rates: dict[str, Array] | None, steps: int | None = None
) -> None:
    """Checks the adapted tensors, and the names and shapes of their learned rates.

    Args:
        fast: name -> adapted tensor.
        rates: name -> learned rate, or None.
        steps: T, for rates that differ between steps.

    Raises:
        UserError: a tensor is not of floats, or rates have other names than the adapted tensors, or
            shapes that cannot be broadcast to theirs.
    """
    check_floats(fast)
    if rates is None:
        return
    if set(rates) != set(fast):
        differing = ', '.join(sorted(set(rates) ^ set(fast)))
        raise UserError(f'learned rates and adapted parameters differ in {differing}')
    for name, rate in rates.items():
        shape, wanted = jnp.shape(rate), jnp.shape(fast[name])
        by_step = len(shape) == len(wanted) + 1
        if not _broadcasts(shape[1:] if by_step else shape, wanted, scalar=by_step) or (
            by_step and shape[0] != steps
        ):
            raise UserError(
                f'the learned rate of {name!r} has the shape {shape}: it must be a scalar or have '
                f"the parameter's shape, {wanted}, or one that is broadcast to it; for rates of "
                f'each step, with one more axis of size T in front'
            )


def _broadcasts(shape: tuple[int, ...], wanted: tuple[int, ...], *, scalar: bool) -> bool:
    """Whether the shape of a rate can be broadcast to the shape of a tensor.

    Args:
        shape: the shape of the rate; `()` is always allowed.
        wanted: the shape of the tensor.
        scalar: whether `(1, …, 1)`, one rate for all elements, is allowed too.
    """
    if shape == wanted or shape == ():
        return True
    if len(shape) > len(wanted) or (not scalar and all(size == 1 for size in shape)):
        return False
    return all(a in (1, b) for a, b in zip(reversed(shape), reversed(wanted), strict=False))


def check_floats(tree: PyTree, where: str = 'theta') -> None:
    """Raises UserError if a leaf of a pytree has no derivative; the message names the leaf.

    Settings of modules are not checked, see `selection`.

    Args:
        tree: the pytree.
        where: name of the pytree in the message.
    """
    for name, leaf in zip(selection.names(tree), selection.leaves_of(tree), strict=True):
        if not leaf.is_setting and not is_float(leaf.value):
            kind = getattr(leaf.value, 'dtype', type(leaf.value).__name__)
            raise UserError(
                f'the parameter {name!r} is of {kind}, which has no derivative: keep it out of '
                f'{where}; put it into the batch, or let the loss close over it'
            )


def is_float(leaf: Any) -> bool:
    """Whether a leaf holds real or complex floating-point numbers, so it can have a derivative."""
    return isinstance(leaf, float | complex) or (
        hasattr(leaf, 'dtype') and jnp.issubdtype(leaf.dtype, jnp.inexact)
    )


def split_aux(result: Any, has_aux: bool) -> tuple[Array, Any]:
    """Splits the result of an outer loss into its value and its auxiliary output.

    Args:
        result: a scalar; with `has_aux` a pair (scalar, auxiliary output).
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
    """Returns the size of the leading axis, which must be the same for all leaves of a pytree.

    Args:
        batches: pytree of arrays.
        least: smallest allowed size.

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


def warn_caller(message: str) -> None:
    """Warns, and names the line of the user that called the package, maybe through JAX."""
    frame, level = sys._getframe(), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_FILES_BETWEEN):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)
