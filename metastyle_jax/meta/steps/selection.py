"""Selects the leaves of θ that the inner loop adapts: by names, boolean masks, types or filters.

θ may be any pytree. Its leaves are of three kinds: *adapted* tensors, which the inner loop changes;
*frozen* tensors, which the inner loop does not change but which have a meta-gradient; and
*settings*, which have no derivative, such as the activation function inside an `equinox.Module`.
"""

import inspect
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metastyle_jax.core import trees
from metastyle_jax.core.errors import UserError
from metastyle_jax.core.types import Array, PyTree


class Leaf(NamedTuple):
    """A leaf of a pytree, and its position in the pytree.

    Attributes:
        path: the path of the leaf, as `jax.tree_util.tree_leaves_with_path` gives it.
        value: the leaf itself.
        parents: all nodes that contain the leaf, from the root on.
    """

    path: tuple[Any, ...]
    value: Any
    parents: tuple[Any, ...]

    @property
    def in_module(self) -> bool:
        """Whether the leaf is inside a module, and not only inside dicts, lists and tuples."""
        return any(not isinstance(node, dict | list | tuple) for node in self.parents)

    @property
    def is_setting(self) -> bool:
        """Whether the leaf is inside a module and has no derivative."""
        is_array = hasattr(self.value, 'dtype') and jnp.issubdtype(self.value.dtype, jnp.inexact)
        return self.in_module and not is_array


class Parts(NamedTuple):
    """The parts of a pytree, from `divide`.

    Attributes:
        fast: name -> adapted tensor.
        slow: name -> frozen tensor.
        combine: function `(fast, slow) -> pytree`, which builds the pytree again with its settings.
    """

    fast: dict[str, Array]
    slow: dict[str, Array]
    combine: Callable[[dict[str, Array], dict[str, Array]], PyTree]


def leaves_of(tree: PyTree) -> list[Leaf]:
    """Returns all leaves of a pytree, in the order of `jax.tree.leaves`."""
    return list(_walk(tree, (), ()))


def _walk(node: Any, path: tuple[Any, ...], parents: tuple[Any, ...]) -> Iterator[Leaf]:
    children, _ = jax.tree_util.tree_flatten_with_path(node, is_leaf=lambda x: x is not node)
    for key, child in children:
        if child is node:
            yield Leaf(path, node, parents)
        elif child is not None:
            yield from _walk(child, (*path, *key), (*parents, node))


def names(tree: PyTree) -> list[str]:
    """Returns a different name for each leaf, in the order of `jax.tree.leaves`.

    A name is the path of the leaf with '/' between the keys, such as 'layers/0/weight'. If keys
    themselves contain '/' and two names would be equal, both leaves get their full paths as names,
    such as "['a/b']" and "['a']['b']". The value of a Flax variable has the name of the variable.
    """
    leaves = leaves_of(tree)
    simple = [trees.leaf_name(_path_of_variable(leaf)) for leaf in leaves]
    return [
        name if simple.count(name) == 1 else jax.tree_util.keystr(leaf.path)
        for name, leaf in zip(simple, leaves, strict=True)
    ]


def divide(tree: PyTree, adapted: Any) -> Parts:
    """Divides a pytree into adapted tensors, frozen tensors and settings.

    Args:
        tree: θ, any pytree.
        adapted: which tensors are adapted, see `inner_loop`.

    Raises:
        UserError: `adapted` selects no tensor, or is of a wrong type.
    """
    leaves, treedef = leaves_of(tree), jax.tree.structure(tree)
    named = dict(zip(names(tree), leaves, strict=True))
    chosen = dict(zip(named, choose(tree, adapted), strict=True))
    tensors = {name: leaf.value for name, leaf in named.items() if not leaf.is_setting}
    settings = {name: leaf.value for name, leaf in named.items() if leaf.is_setting}
    fast = {name: value for name, value in tensors.items() if chosen[name]}
    slow = {name: value for name, value in tensors.items() if not chosen[name]}
    if not fast:
        raise UserError(f'no parameter is adapted: none of {", ".join(tensors)} is chosen')

    def combine(fast, slow):
        values = {**settings, **slow, **fast}
        return jax.tree.unflatten(treedef, [values[name] for name in named])

    return Parts(fast, slow, combine)


def without_settings(tree: PyTree) -> PyTree:
    """Returns the same pytree with each setting replaced by None."""
    values = [None if leaf.is_setting else leaf.value for leaf in leaves_of(tree)]
    return jax.tree.unflatten(jax.tree.structure(tree), values)


def restore(tensors: PyTree, tree: PyTree) -> PyTree:
    """Puts the settings of another pytree back into tensors; the inverse of `without_settings`.

    Args:
        tensors: result of `without_settings`, or a pytree of the same structure.
        tree: pytree with the wanted structure and settings; its tensors are not used.
    """
    values = iter(jax.tree.leaves(tensors))
    filled = [leaf.value if leaf.is_setting else next(values) for leaf in leaves_of(tree)]
    return jax.tree.unflatten(jax.tree.structure(tree), filled)


def choose(tree: PyTree, adapted: Any) -> list[bool]:
    """Returns for each leaf, in the order of `jax.tree.leaves`, whether it is adapted.

    Args:
        tree: any pytree.
        adapted: which tensors are adapted, see `inner_loop`.

    Raises:
        UserError: `adapted` is of a wrong type.
    """
    leaves = leaves_of(tree)
    if isinstance(adapted, type):
        return [
            any(isinstance(node, adapted) for node in (*leaf.parents, leaf.value))
            for leaf in leaves
        ]
    if adapted is ...:
        return [True] * len(leaves)
    # A module of booleans can be called, too, so masks are recognized first.
    if _is_mask(adapted):
        return _by_mask(tree, adapted)
    if _is_of_equinox(adapted):
        return [bool(adapted(leaf.value)) for leaf in leaves]
    if callable(adapted):
        if _takes_two(adapted):
            return [bool(adapted(*_path_and_variable(leaf))) for leaf in leaves]
        return [bool(adapted(name)) for name in names(tree)]
    raise UserError(
        f'adapted={adapted!r}: it must be a function of the name of a tensor, a pytree of '
        'booleans like theta, or a filter of flax.nnx or equinox'
    )


def _is_mask(tree: PyTree) -> bool:
    flags = jax.tree.leaves(tree)
    return bool(flags) and all(isinstance(flag, bool) or _is_boolean(flag) for flag in flags)


def _by_mask(tree: PyTree, mask: PyTree) -> list[bool]:
    """Does the same as `choose` for a pytree of booleans, like `tree` or a prefix of it."""
    try:
        return [bool(flag) for flag in jax.tree.leaves(jax.tree.broadcast(mask, tree))]
    except ValueError as error:
        raise UserError(f'the booleans of adapted do not fit theta: {error}') from error


def _is_boolean(flag: Any) -> bool:
    return getattr(flag, 'dtype', None) == jnp.bool_ and getattr(flag, 'shape', None) == ()


def _is_of_equinox(predicate: Any) -> bool:
    """Whether a predicate is a filter of Equinox, which asks for the leaf, not for its name."""
    return callable(predicate) and (getattr(predicate, '__module__', '') or '').startswith(
        'equinox.'
    )


def _takes_two(predicate: Callable[..., Any]) -> bool:
    """Whether a predicate has two parameters `(path, value)`, as in `flax.nnx`, and not a name."""
    return len(required_parameters(predicate)) == 2


def required_parameters(function: Callable[..., Any]) -> list[str]:
    """Returns the names of the parameters of a function that have no default value."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # some functions that are written in C
        return []
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in parameters if p.default is p.empty and p.kind not in variable]


def _is_variable(node: Any) -> bool:
    """Whether a node is a variable of Flax NNX; this function never imports `flax`."""
    nnx = sys.modules.get('flax.nnx')
    return nnx is not None and isinstance(node, nnx.Variable)


def _path_of_variable(leaf: Leaf) -> tuple[Any, ...]:
    """Returns the path of a leaf; for the value of a Flax variable, the path of the variable."""
    return leaf.path[:-1] if leaf.parents and _is_variable(leaf.parents[-1]) else leaf.path


def _path_and_variable(leaf: Leaf) -> tuple[tuple[Any, ...], Any]:
    """Returns the arguments of a `flax.nnx` filter: the keys, and the variable of the leaf."""
    path = _path_of_variable(leaf)
    keys = tuple(getattr(k, 'key', getattr(k, 'name', getattr(k, 'idx', k))) for k in path)
    return keys, leaf.value if path == leaf.path else leaf.parents[-1]
