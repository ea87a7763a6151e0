"""The contents of a checkpoint: named arrays, and a description with hashes that reveal damage."""

import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metastyle_jax.core import trees, types
from metastyle_jax.storage import tensor_files

# Entries of a description without a hash of its own, as version 0.1 wrote it.
_DESCRIPTION_0_1 = {'sha256', 'keys', 'data_state'}


class RestoredCheckpoint(NamedTuple):
    """The training state that a checkpoint restored.

    Attributes:
        step: number of finished outer steps.
        state: the training state, bitwise equal to the saved one, in the requested structure.
        data_state: the state of the data iterator.
    """

    step: int
    state: types.PyTree
    data_state: dict[str, Any]


def metadata_of(
    state: types.PyTree,
    flat: tensor_files.Flat,
    data_state: Mapping[str, Any],
    metrics: Mapping[str, float] | None,
) -> dict[str, Any]:
    """Describes a training state by its hash, the kinds of its PRNG keys, and the data position.

    Args:
        state: the training state, see `checkpoints.Manager.save`.
        flat: name -> array of the same state.
        data_state: state of the data iterator, of JSON types and NumPy scalars.
        metrics: the metrics by which Orbax ranks the checkpoint, or None.

    Returns:
        The description, of JSON types, which is saved beside the arrays.

    Raises:
        tensor_files.CheckpointError: `data_state` holds a value of another type.
    """
    meta = {
        'sha256': tensor_files.sha256(flat),
        'keys': {
            trees.leaf_name(path): str(jax.random.key_impl(leaf))
            for path, leaf in jax.tree_util.tree_leaves_with_path(state)
            if trees.is_key(leaf)
        },
        'data_state': _to_json(data_state),
        'metrics': metrics,
    }
    return {**meta, 'meta_sha256': _meta_sha256(meta)}


def is_whole(flat: tensor_files.Flat, meta: Mapping[str, Any]) -> bool:
    """Whether arrays and their description are unchanged since they were saved.

    Args:
        flat: name -> array.
        meta: the description from `metadata_of`.
    """
    is_same = meta.keys() == _DESCRIPTION_0_1 or meta.get('meta_sha256') == _meta_sha256(meta)
    return is_same and tensor_files.sha256(flat) == meta['sha256']


def restore_leaves(
    abstract: types.PyTree, flat: tensor_files.Flat, keys: Mapping[str, str], source: pathlib.Path
) -> types.PyTree:
    """Rebuilds a training state from the arrays of a checkpoint.

    Args:
        abstract: the wanted structure, shapes and types, see `checkpoints.Manager.restore`.
        flat: name -> array.
        keys: name of each PRNG key -> its implementation.
        source: the checkpoint, for messages.

    Returns:
        The state, in the structure of `abstract`.

    Raises:
        tensor_files.CheckpointError: names, shapes or types differ from those of `abstract`.
    """
    shapes = jax.tree.map(
        lambda x: jax.eval_shape(jax.random.key_data, x) if trees.is_key(x) else x, abstract
    )
    tensor_files.restore_tree(shapes, flat, source=str(source), error=tensor_files.CheckpointError)

    def restore(path: Any, leaf: Any) -> Any:
        name = trees.leaf_name(path)
        array: Any = flat[name]
        if name in keys:
            array = jax.random.wrap_key_data(jnp.asarray(array), impl=keys[name])
        if not hasattr(leaf, 'dtype'):
            return type(leaf)(array)
        if array.dtype in (np.int64, np.float64) and not array.ndim and leaf.dtype.itemsize == 4:
            array = _narrow(array, leaf.dtype)
        if leaf.dtype != array.dtype:
            raise tensor_files.CheckpointError(
                f'{name} in {source} is {array.dtype}, expected {leaf.dtype}: it was saved with '
                'another configuration. Choose another workdir=FOLDER, or the old configuration.'
            )
        return array if isinstance(leaf, np.ndarray | np.generic) else jnp.asarray(array)

    return jax.tree_util.tree_map_with_path(restore, abstract)


def _narrow(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Converts a 64-bit number to 32 bits if this does not change its value.

    Python numbers are saved with 64 bits, but JAX computes with 32 bits.
    """
    narrow = array.astype(dtype)
    return narrow if narrow.dtype.kind == array.dtype.kind and narrow == array else array


def _to_json(value: Any) -> str:
    """Encodes a value, which may contain NumPy scalars and arrays, as JSON."""

    def encode(x: Any) -> Any:
        if isinstance(x, np.generic | np.ndarray):
            return x.tolist()
        raise tensor_files.CheckpointError(
            f'{x!r} in the state of the data cannot be saved as JSON.'
        )

    return json.dumps(value, default=encode)


def _meta_sha256(meta: Mapping[str, Any]) -> str:
    """Computes the SHA-256 of a description, which contains the hash of the arrays."""
    rest = {name: value for name, value in meta.items() if name != 'meta_sha256'}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()
