"""What differs between devices inside `jax.shard_map`, as JAX's types tell."""

import jax

from metastyle_jax.core.types import PyTree


def axes(tree: PyTree) -> frozenset[str]:
    """Mesh axes along which some leaf of a pytree differs between devices."""
    found: set[str] = set()
    for leaf in jax.tree.leaves(tree):
        kind = leaf if hasattr(leaf, 'manual_axis_type') else jax.typeof(leaf)
        found |= set(getattr(kind.manual_axis_type, 'varying', ()))
    return frozenset(found)


def told() -> bool:
    """Whether this is inside a `jax.shard_map` whose types tell what differs (`check_vma`)."""
    names = jax.sharding.get_abstract_mesh().manual_axes
    return bool(names) and bool(axes(jax.lax.axis_index(names[0])))


def vary(tree: PyTree, along: frozenset[str]) -> PyTree:
    """The same pytree, which JAX takes to differ between devices along these mesh axes."""

    def cast(leaf):
        missing = tuple(sorted(along - axes(leaf)))
        return jax.lax.pcast(leaf, missing, to='varying') if missing else leaf

    return jax.tree.map(cast, tree) if along else tree
