"""The compiled loop over inner steps, with its rematerialization and unrolling.

Source of the division into √T segments: Chen et al. 2016, arXiv 1604.06174.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from metastyle_jax.core import jax_compat
from metastyle_jax.core.types import PyTree

_MAX_UNROLL = 8  # on CPU; a program grows, and compiles more slowly, with each unrolled step
_SMALL = 2**16  # bytes of parameters; up to here, an iteration of a loop costs more than its step

Step = Callable[[PyTree, PyTree], tuple[PyTree, PyTree]]


def scan(
    step: Step, carry: PyTree, xs: PyTree, *, length: int, unroll: int, remat: Any, recompute: bool
) -> tuple[PyTree, PyTree]:
    """Does the same as `jax.lax.scan`, with rematerialization.

    Args:
        step: `(carry, x) -> (carry, y)`.
        carry: the first carry.
        xs: pytree with leaves `[T, ...]`.
        length: T.
        unroll: steps in each iteration of the compiled loop.
        remat: False, True, 'sqrt' or a policy of `jax.checkpoint`.
        recompute: whether each single step is recomputed if `remat` is True or 'sqrt'; False if the
            step itself already does this.

    Returns:
        The last carry, and the results y with a leading axis of size T.
    """
    # Without a barrier, XLA would merge the recomputation of an unrolled step with the step.
    barrier = unroll > 1
    if callable(remat):
        step = jax.checkpoint(step, policy=remat, prevent_cse=barrier)
    elif remat and recompute:
        step = jax.checkpoint(step, prevent_cse=barrier)

    def segment(carry, xs):
        return jax.lax.scan(step, carry, xs, unroll=unroll)

    if remat != 'sqrt':
        return segment(carry, xs)
    size = math.isqrt(length - 1) + 1
    segments = length // size
    whole = jax.tree.map(lambda x: x[: segments * size].reshape(segments, size, *x.shape[1:]), xs)
    segment = jax.checkpoint(segment, prevent_cse=False)
    carry, ys = jax.lax.scan(segment, carry, whole)
    ys = jax.tree.map(lambda y: y.reshape(segments * size, *y.shape[2:]), ys)
    if segments * size < length:
        carry, rest = segment(carry, jax.tree.map(lambda x: x[segments * size :], xs))
        ys = jax.tree.map(lambda *parts: jnp.concatenate(parts), ys, rest)
    return carry, ys


def has_convolutions(jaxpr: Any) -> bool:
    """Whether a jaxpr contains convolutions, which XLA computes slowly inside a loop on CPU."""
    return jax_compat.has_primitive(jaxpr, 'conv_general', 'convol')


def is_bound_by_activations(jaxpr: Any, params: PyTree) -> bool:
    """Whether the intermediate results of a loss need more memory than its parameters.

    If so, recomputing each inner step saves memory, because then only its parameters are stored.

    Args:
        jaxpr: jaxpr of the loss.
        params: all parameters.
    """
    return jax_compat.bytes_of_results(jaxpr) > _bytes(params)


def _bytes(tree: PyTree) -> int:
    return sum(x.size * x.dtype.itemsize for x in map(jnp.asarray, jax.tree.leaves(tree)))


def default_unroll(length: int) -> int:
    """Returns the number of iterations of a `lax.scan` to unroll on the current backend.

    On CPU, XLA computes convolutions much more slowly inside a loop, so iterations are unrolled. On
    other backends a loop is not slower, and compiles faster.

    Args:
        length: number of iterations.
    """
    # A scan of length 1 with unroll=1 would remain a loop, with a single iteration.
    return min(max(length, 2), _MAX_UNROLL) if jax.default_backend() == 'cpu' else 1


def unroll_of(jaxpr: Any, length: int, params: PyTree) -> int:
    """Returns the number of inner steps to unroll by default.

    On CPU, loops slow down convolutions, and also very small steps, because each iteration has a
    fixed cost. Steps of other losses are not unrolled, because that would need more memory and, for
    large matrices, more time.

    Args:
        jaxpr: jaxpr of the inner loss.
        length: T.
        params: all parameters.
    """
    if length == 1 or has_convolutions(jaxpr) or _bytes(params) <= _SMALL:
        return default_unroll(length)
    return 1
