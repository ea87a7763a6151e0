"""Names the leaves of pytrees, such as 'down1/conv/kernel', and splits pytrees by these names."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from metastyle_jax.core.errors import UserError
from metastyle_jax.core.types import Array, PyTree


def leaf_name(path: Any) -> str:
    """Returns the name of a leaf.

    Args:
        path: path of the leaf, as `jax.tree_util.tree_leaves_with_path` gives it.
    """
    return jax.tree_util.keystr(path, simple=True, separator='/')


def is_key(leaf: Any) -> bool:
    """Whether a leaf is a typed PRNG key, or a `jax.ShapeDtypeStruct` of one."""
    return hasattr(leaf, 'dtype') and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def names(tree: PyTree) -> list[str]:
    """Returns the names of all leaves, in the order of `jax.tree.leaves`."""
    return [leaf_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]


def partition(
    tree: PyTree, predicate: Callable[[str], bool]
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Splits the leaves of a pytree into two dicts by their names.

    Args:
        tree: pytree of arrays.
        predicate: function from the name of a leaf to bool.

    Returns:
        Two dicts, name -> leaf: the leaves for which the predicate is true, and all others.

    Raises:
        UserError: the predicate is true for no leaf, or two leaves have the same name.
    """
    leaves = dict(zip(names(tree), jax.tree.leaves(tree), strict=True))
    if len(leaves) < len(names(tree)):
        raise UserError(
            f'two parameters have the same name: rename one of {", ".join(names(tree))}'
        )
    chosen = {name: leaf for name, leaf in leaves.items() if predicate(name)}
    if not chosen:
        raise UserError(f'no parameter is adapted: none of {", ".join(leaves)} is chosen')
    return chosen, {name: leaf for name, leaf in leaves.items() if name not in chosen}


def combine(tree: PyTree, *parts: dict[str, Array]) -> PyTree:
    """Builds a pytree from dicts of its leaves; the inverse of `partition`.

    Args:
        tree: pytree with the wanted structure and names; its values are not used.
        *parts: dicts of leaves by name, which together hold all leaves of the tree.
    """
    leaves = {name: leaf for part in parts for name, leaf in part.items()}
    return jax.tree.unflatten(jax.tree.structure(tree), [leaves[name] for name in names(tree)])
