"""Which arrays differ between devices inside `jax.shard_map`.

By default `jax.shard_map` keeps track, in the type of each array, of the mesh axes along which the
array varies. Gradients depend on it: the gradient in an array that does not vary is summed over the
devices, because all devices use the same array. Tasks on different devices must not be mixed in
this way, so their parameters are marked as varying.
"""

import jax

from metastyle_jax.core import jax_compat
from metastyle_jax.core.types import PyTree


def varying_axes(tree: PyTree) -> frozenset[str]:
    """Mesh axes along which at least one leaf of a pytree varies between devices."""
    return frozenset[str]().union(*map(jax_compat.varying_axes, jax.tree.leaves(tree)))


def is_active() -> bool:
    """Whether the caller is inside a `jax.shard_map` that tracks which arrays vary.

    `jax.shard_map(..., check_vma=False)` does not track it.
    """
    names = jax_compat.manual_axes()
    # The index of a device varies by definition, so its type shows whether JAX keeps track.
    return bool(names) and bool(varying_axes(jax.lax.axis_index(names[0])))


def mark_varying(tree: PyTree, axes: frozenset[str]) -> PyTree:
    """The same pytree, with each leaf marked as varying along the given mesh axes."""

    def mark(leaf):
        missing = tuple(sorted(axes - varying_axes(leaf)))
        return jax.lax.pcast(leaf, missing, to='varying') if missing else leaf

    return jax.tree.map(mark, tree) if axes else tree
