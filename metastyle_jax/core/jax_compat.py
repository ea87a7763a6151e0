"""Wraps the private and unstable parts of JAX that this package needs.

No other module imports `jax._src`, `jax.interpreters` or `jax.extend`, or reads undocumented
attributes of JAX. So a new release of JAX that changes them needs changes only in this module. The
releases 0.10.2 to 0.12 are supported.
"""

import contextlib
import functools
import inspect
import math
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.extend
import jax.numpy as jnp
from jax._src import distributed
from jax.interpreters import ad, batching, mlir

from metastyle_jax.core.types import Array

JAX_FOLDER = os.path.dirname(jax.__file__) + os.sep
# `jax.custom_gradient` wraps the user's function in a rule that is defined in this file of JAX.
_CUSTOM_GRADIENT_FILE = os.path.join(JAX_FOLDER, '_src', 'custom_derivatives.py')


def coordinator_client() -> Any:
    """Returns the client of JAX's coordinator, which has a key-value store and barriers.

    The coordinator runs in the first process after `jax.distributed.initialize`. Before this call
    the result is None.
    """
    return distributed.global_state.client


def compilations(jitted: Any) -> int:
    """Returns the number of programs that a function from `jax.jit` has compiled so far."""
    return jitted._cache_size()


@contextlib.contextmanager
def no_source_locations() -> Iterator[None]:
    """Keeps file names of this machine out of programs that are exported inside the block."""
    name = 'jax_traceback_in_locations_limit'
    before = getattr(jax.config, name)
    jax.config.update(name, 0)
    try:
        yield
    finally:
        jax.config.update(name, before)


# Jaxprs: the traced form of a function. -----------------------------------------------------------


def evaluate_jaxpr(closed: Any, constants: Sequence[Any], *leaves: Any) -> list[Any]:
    """Evaluates a traced function, with its constants replaced by new ones.

    Args:
        closed: a closed jaxpr, as `jax.make_jaxpr` returns it.
        constants: arrays that replace `closed.consts`, of the same shapes.
        *leaves: leaves of the arguments, as from `jax.tree.leaves`.

    Returns:
        Leaves of the results.
    """
    return jax.core.eval_jaxpr(closed.jaxpr, constants, *leaves)


def custom_derivative_rules(jaxpr: Any, trusted_folders: Collection[str]) -> Iterator[str]:
    """Finds functions in a jaxpr with user-defined derivative rules, which may be wrong.

    Such functions use `jax.custom_vjp`, `jax.custom_jvp` or `jax.custom_gradient`.

    Args:
        jaxpr: a jaxpr or closed jaxpr of a function that was not differentiated yet.
        trusted_folders: functions from source files in these folders are not reported, because
            their rules are known to be correct.

    Yields:
        Name and place of each function, such as 'clip at model.py:12'.
    """
    for equation in getattr(jaxpr, 'jaxpr', jaxpr).eqns:
        if equation.primitive.name.startswith(('custom_jvp_call', 'custom_vjp_call')):
            info = getattr(equation.params.get('call_jaxpr'), 'debug_info', None)
            place = getattr(info, 'func_src_info', None) or 'a function'
            file = place.rpartition(' at ')[2].rpartition(':')[0]
            if not file.startswith(tuple(trusted_folders)) or file == _CUSTOM_GRADIENT_FILE:
                yield place
                continue
        for sub_jaxpr in _sub_jaxprs(equation.params.values()):
            yield from custom_derivative_rules(sub_jaxpr, trusted_folders)


def has_primitive(jaxpr: Any, *parts: str) -> bool:
    """Whether a jaxpr has a primitive whose name contains one of the texts `parts`.

    Jaxprs inside it, such as bodies of loops, are searched too.
    """
    for equation in getattr(jaxpr, 'jaxpr', jaxpr).eqns:
        if any(part in equation.primitive.name for part in parts):
            return True
        if any(has_primitive(sub, *parts) for sub in _sub_jaxprs(equation.params.values())):
            return True
    return False


def closed_over(closed: Any) -> Iterator[Any]:
    """Yields the arrays that a traced function, and functions inside it, close over.

    Args:
        closed: a closed jaxpr, as `jax.make_jaxpr` returns it.
    """
    yield from getattr(closed, 'consts', ())
    for equation in getattr(closed, 'jaxpr', closed).eqns:
        for sub in _sub_jaxprs(equation.params.values()):
            yield from closed_over(sub)


def bytes_of_results(jaxpr: Any) -> int:
    """Counts the bytes of the results of all operations in a jaxpr.

    This is a rough estimate of the memory that a gradient needs. The body of a loop counts once for
    each iteration if their number is known. All branches of `cond` count.
    """
    total = 0
    for equation in getattr(jaxpr, 'jaxpr', jaxpr).eqns:
        inside = sum(bytes_of_results(sub) for sub in _sub_jaxprs(equation.params.values()))
        outside = sum(
            math.prod(shape) * getattr(getattr(out.aval, 'dtype', None), 'itemsize', 0)
            for out in equation.outvars
            if (shape := getattr(out.aval, 'shape', None)) is not None
        )
        total += max(inside * equation.params.get('length', 1), outside)
    return total


def _sub_jaxprs(values: Iterable[Any]) -> Iterator[Any]:
    """Yields the jaxprs among the parameters of an equation, such as the body of a loop."""
    for value in values:
        if hasattr(getattr(value, 'jaxpr', value), 'eqns'):
            yield value
        elif isinstance(value, tuple | list):
            yield from _sub_jaxprs(value)
        elif hasattr(value, 'in_avals'):  # since JAX 0.12 some primitives keep jaxprs in an object
            yield from _sub_jaxprs(vars(value).values())


def instantiate(cotangent: Any) -> Array:
    """Returns a cotangent as an array; JAX's marker for zeros becomes an array of zeros."""
    if is_symbolic_zero(cotangent):
        return jnp.zeros(cotangent.shape, cotangent.dtype)
    return cotangent


def is_symbolic_zero(cotangent: Any) -> bool:
    """Whether a cotangent is JAX's marker for zeros instead of an array.

    JAX passes such markers to a rule of `jax.custom_vjp` if it was defined with
    `symbolic_zeros=True`.
    """
    return isinstance(cotangent, jax.custom_derivatives.SymbolicZero)


# Types of arrays inside `jax.shard_map`. ----------------------------------------------------------


def manual_axes() -> tuple[str, ...]:
    """Returns the mesh axes of the enclosing `jax.shard_map`; empty outside of one."""
    return tuple(jax.sharding.get_abstract_mesh().manual_axes)


def varying_axes(leaf: Any) -> frozenset[str]:
    """Returns the mesh axes along which an array in `jax.shard_map` may differ between devices."""
    described = leaf if hasattr(leaf, 'manual_axis_type') else jax.typeof(leaf)
    return frozenset(getattr(described.manual_axis_type, 'varying', ()))


# Primitives: operations whose derivatives this package defines. -----------------------------------


def bilinear_primitive(compute: Callable[..., Array]) -> Any:
    """Makes a JAX primitive from a function that is linear in each of its two array arguments.

    The primitive can be differentiated after `define_transposes` has been called for it.

    Args:
        compute: the function `(a, b, *, options) -> array`. The name of the primitive is
            'metastyle' followed by the name of this function.

    Returns:
        The primitive; its method `bind(a, b, **options)` computes the function.
    """
    parameters = inspect.signature(compute).parameters.values()
    options = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    jitted = jax.jit(compute, static_argnames=options)  # traced once for each set of shapes
    primitive = jax.extend.core.Primitive(f'metastyle{compute.__name__}')
    primitive.def_impl(jitted)

    def abstract_result(a, b, **options):
        result = jax.eval_shape(functools.partial(jitted, **options), a, b)
        return jax.core.ShapedArray(result.shape, result.dtype)

    def batch(args, axes, **options):
        return jax.vmap(functools.partial(compute, **options), axes)(*args), 0

    primitive.def_abstract_eval(abstract_result)
    mlir.register_lowering(primitive, mlir.lower_fun(jitted, multiple_results=False))
    batching.primitive_batchers[primitive] = batch
    return primitive


def define_transposes(
    primitive: Any, of_first: Callable[..., Array], of_second: Callable[..., Array]
) -> None:
    """Defines the reverse-mode derivatives of a bilinear primitive for each of its two operands.

    Forward-mode derivatives need no definition: they are the primitive itself, applied to tangents.

    Args:
        primitive: the primitive, from `bilinear_primitive`.
        of_first: `(cotangent, a, b, **options) -> cotangent of a`, where `a` is only a placeholder
            whose shape is `a.aval.shape`.
        of_second: `(cotangent, a, b, **options) -> cotangent of b`, where `b` is only such a
            placeholder.
    """
    ad.defbilinear(primitive, of_first, of_second)
