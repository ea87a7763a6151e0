"""The contents of a checkpoint: arrays by name, and metadata that shows whether they are whole."""

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

_META_1 = {'sha256', 'keys', 'data_state'}  # the metadata of checkpoints of version 0.1


class RestoredCheckpoint(NamedTuple):
    """A checkpoint, read back into the structure of a training state.

    Attributes:
        step: its step.
        state: the saved state, bit for bit, in the structure that the caller asked for.
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
    """Collects what is saved beside the arrays of a state, with hashes of both.

    Args:
        state: see `checkpoints.Manager.save`.
        flat: the arrays of the state by name.
        data_state: state of the data iterator: JSON types and NumPy scalars.
        metrics: metrics that Orbax ranks the checkpoint by; None if there are none.

    Returns:
        JSON types.

    Raises:
        CheckpointError: `data_state` contains another type.
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
    """Whether the arrays and the metadata of a checkpoint are the ones that were saved."""
    # Version 0.1 saved no hash of the metadata.
    same = meta.keys() == _META_1 or meta.get('meta_sha256') == _meta_sha256(meta)
    return same and tensor_files.sha256(flat) == meta['sha256']


def restore_leaves(
    abstract: types.PyTree, flat: tensor_files.Flat, keys: Mapping[str, str], source: pathlib.Path
) -> types.PyTree:
    """Converts the arrays of a checkpoint to the structure and leaf types of an abstract state.

    Args:
        abstract: see `checkpoints.Manager.restore`.
        flat: name -> array.
        keys: names of the PRNG keys -> their implementation.
        source: the checkpoint, for messages.

    Raises:
        CheckpointError: names, shapes or types differ.
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
                'another configuration. Choose another workdir, or the old configuration.'
            )
        return array if isinstance(leaf, np.ndarray | np.generic) else jnp.asarray(array)

    return jax.tree_util.tree_map_with_path(restore, abstract)


def _narrow(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Converts a Python number, which is saved with 64 bits, to 32 bits if that is exact."""
    narrow = array.astype(dtype)
    return narrow if narrow.dtype.kind == array.dtype.kind and narrow == array else array


def _to_json(value: Any) -> str:
    """Writes JSON, in which NumPy scalars and arrays become numbers and lists."""

    def encode(x: Any) -> Any:
        if isinstance(x, np.generic | np.ndarray):
            return x.tolist()
        raise tensor_files.CheckpointError(
            f'{x!r} in the state of the data cannot be saved as JSON.'
        )

    return json.dumps(value, default=encode)


def _meta_sha256(meta: Mapping[str, Any]) -> str:
    """Hashes the metadata of a checkpoint, which contains the hash of its tensors."""
    hashed = {name: value for name, value in meta.items() if name != 'meta_sha256'}
    return hashlib.sha256(json.dumps(hashed, sort_keys=True).encode()).hexdigest()
