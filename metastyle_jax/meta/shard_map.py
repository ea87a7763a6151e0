"""Marks arrays as different between devices inside `jax.shard_map`.

By default, `jax.shard_map` records in the type of each array the mesh axes along which the array
varies between devices. Gradients depend on this: if an array does not vary, its gradient is summed
over the devices. The gradients of tasks on different devices must not be summed, so the parameters
of these tasks are marked as varying.
"""

import jax

from metastyle_jax.core import jax_compat
from metastyle_jax.core.types import PyTree


def varying_axes(tree: PyTree) -> frozenset[str]:
    """Returns the mesh axes along which at least one leaf of a pytree varies between devices."""
    return frozenset[str]().union(*map(jax_compat.varying_axes, jax.tree.leaves(tree)))


def is_active() -> bool:
    """Whether the caller is inside a `jax.shard_map` that records which arrays vary.

    `jax.shard_map(..., check_vma=False)` does not record this.
    """
    names = jax_compat.manual_axes()
    # The index of a device varies by definition, so its type shows whether JAX keeps track.
    return bool(names) and bool(varying_axes(jax.lax.axis_index(names[0])))


def mark_varying(tree: PyTree, axes: frozenset[str]) -> PyTree:
    """Returns the same pytree, with each leaf marked as varying along the given mesh axes."""

    def mark(leaf):
        missing = tuple(sorted(axes - varying_axes(leaf)))
        return jax.lax.pcast(leaf, missing, to='varying') if missing else leaf

    return jax.tree.map(mark, tree) if axes else tree
