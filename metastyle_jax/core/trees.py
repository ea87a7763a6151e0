"""Leaves of pytrees by name, such as 'res1/conv1/kernel'."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from metastyle_jax.core.errors import UserError
from metastyle_jax.core.types import Array, PyTree


def leaf_name(path: Any) -> str:
    """Spells the path of a leaf, as JAX's `..._with_path` functions give it."""
    return jax.tree_util.keystr(path, simple=True, separator='/')


def is_key(leaf: Any) -> bool:
    """Tells typed PRNG keys, abstract ones included, from other leaves."""
    return hasattr(leaf, 'dtype') and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def names(tree: PyTree) -> list[str]:
    """Names of the leaves of a pytree, in its order: 'down1/norm/scale'."""
    return [leaf_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]


def partition(
    tree: PyTree, predicate: Callable[[str], bool]
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Divides the leaves of a pytree in two, by their names.

    Args:
        tree: of arrays.
        predicate: on names as `names` gives them.

    Returns:
        Leaves for whose names the predicate holds, and the others, each by name.

    Raises:
        UserError: the predicate holds for no leaf, or two leaves have one name.
    """
    leaves = dict(zip(names(tree), jax.tree.leaves(tree), strict=True))
    if len(leaves) < len(names(tree)):
        raise UserError(f'two parameters share a name: rename one of {", ".join(names(tree))}')
    chosen = {name: leaf for name, leaf in leaves.items() if predicate(name)}
    if not chosen:
        raise UserError(f'no parameter is adapted: none of {", ".join(leaves)} is chosen')
    return chosen, {name: leaf for name, leaf in leaves.items() if name not in chosen}


def combine(tree: PyTree, *parts: dict[str, Array]) -> PyTree:
    """Inverse of `partition`.

    Args:
        tree: its structure and names alone are used.
        *parts: leaves by name, all of the tree's among them.

    Returns:
        A pytree of that structure.
    """
    leaves = {name: leaf for part in parts for name, leaf in part.items()}
    return jax.tree.unflatten(jax.tree.structure(tree), [leaves[name] for name in names(tree)])
