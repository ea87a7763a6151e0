"""Named tensors: trees to flat names and back, fingerprints, checked ``.safetensors`` files.

A tensor is named by its path in the tree, ``res1/conv1/kernel``. Whatever is read back is checked
against a SHA-256 taken when it was written, for the container does not notice every damage.
"""

import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from metastyle_jax.core import errors, files, trees, types

Flat: TypeAlias = dict[str, np.ndarray]  # name -> array


class CheckpointError(errors.UserError):
    """A checkpoint, a θ or a run's folder that cannot be written, read or used."""


# Trees and names.


def flatten(tree: types.PyTree) -> Flat:
    """Copies a tree to the host, each array under its '/'-joined path.

    Args:
        tree: a pytree of arrays; typed PRNG keys give their key data.

    Returns:
        Name -> array, in the tree's order; the arrays share no memory with the tree's.
    """
    data = jax.tree.map(lambda x: jax.random.key_data(x) if trees.is_key(x) else x, tree)
    leaves = jax.tree_util.tree_leaves_with_path(jax.device_get(data))
    return {trees.leaf_name(path): np.array(leaf) for path, leaf in leaves}


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Builds nested dicts from '/'-joined paths; the inverse of `flatten` for such trees.

    Raises:
        CheckpointError: if one name is a folder of another.
    """
    tree: dict[str, Any] = {}
    for name, leaf in flat.items():
        *folders, last = name.split('/')
        node = tree
        for folder in folders:
            node = node.setdefault(folder, {})
            if not isinstance(node, dict):
                break
        if not isinstance(node, dict) or last in node:
            raise CheckpointError(f'The tensor name {name} clashes with another: rename it.')
        node[last] = leaf
    return tree


def fingerprint(params: types.Params) -> str:
    """Names parameters: SHA-256 over sorted names, shapes and little-endian float32 bytes.

    Args:
        params: a pytree of arrays, or a flat dict of them.

    Returns:
        64 hexadecimal digits, the same for every container and every structure of equal names.
    """
    return sha256({name: array.astype(np.float32) for name, array in flatten(params).items()})


def sha256(flat: Mapping[str, np.ndarray]) -> str:
    """Hashes names, types, shapes and little-endian bytes, in the order of the names.

    Args:
        flat: name -> array of any type.

    Returns:
        64 hexadecimal digits.
    """
    sha = hashlib.sha256()
    for name, array in sorted(flat.items()):
        sha.update(f'{name} {array.dtype.name} {array.shape}\n'.encode())
        sha.update(array.astype(array.dtype.newbyteorder('<'), copy=False).tobytes())
    return sha.hexdigest()


def restore_tree(
    template: types.PyTree, flat: Mapping[str, np.ndarray], *, source: str, error: type[Exception]
) -> types.PyTree:
    """Gives arrays the structure of a template, whose names and shapes they must have.

    Args:
        template: a pytree of arrays or `jax.ShapeDtypeStruct`; types may differ.
        flat: name -> array.
        source: what errors call the arrays.
        error: the class of the errors.

    Returns:
        The structure of the template, with the arrays on the default device.

    Raises:
        error: if a tensor is missing, unknown or of another shape.
    """
    leaves, treedef = jax.tree_util.tree_flatten_with_path(template)
    names = [trees.leaf_name(path) for path, _ in leaves]
    for name in sorted({*flat, *names}):
        if name not in flat or name not in names:
            what = 'lacks the tensor' if name not in flat else 'has an unknown tensor'
            raise error(f'{source} {what} {name}: it belongs to another network or version.')
    for name, (_, leaf) in zip(names, leaves, strict=True):
        if flat[name].shape != np.shape(leaf):
            raise error(
                f'{name} in {source} has the shape {flat[name].shape}, expected {np.shape(leaf)}: '
                'it belongs to a network of another size.'
            )
    return jax.tree.unflatten(treedef, [jnp.asarray(flat[name]) for name in names])


# Files.


class FileFormat(NamedTuple):
    """A kind of ``.safetensors`` file.

    Attributes:
        name: its entry ``format`` in the metadata, beginning with ``metastyle_jax.``.
        version: of the format; files of others are refused.
        noun: what errors call it.
        remedy: what to do with a file of this package that is of another format.
        keys: metadata that a file must have.
        error: the class of all errors about such files.
    """

    name: str
    version: int
    noun: str
    remedy: str
    keys: tuple[str, ...]
    error: type[Exception]


def write(
    path: pathlib.Path,
    flat: Flat,
    metadata: Mapping[str, str],
    fmt: FileFormat,
    *,
    overwrite: bool,
) -> None:
    """Writes tensors, metadata and their SHA-256 to one file, whole or not at all.

    Args:
        path: the file.
        flat: name -> floating array.
        metadata: the values of `FileFormat.keys`.
        fmt: of the file.
        overwrite: whether an existing file may be replaced.

    Raises:
        fmt.error: if the file exists or cannot be written, or values are not finite.
    """
    check_output(path, fmt, overwrite=overwrite)
    check_finite(flat, path, fmt.error)
    entries = {'format': fmt.name, 'version': str(fmt.version), 'sha256': sha256(flat)}
    files.write_whole(path, safetensors.numpy.save(flat, {**metadata, **entries}), fmt.error)


def check_output(path: pathlib.Path, fmt: FileFormat, *, overwrite: bool) -> None:
    """Raises what `write` would raise for this path, and creates nothing.

    Args:
        path: the file to be written later.
        fmt: of the file.
        overwrite: whether an existing file may be replaced.

    Raises:
        fmt.error: if the suffix is another, the file exists and may not be replaced, or its
            folder is missing or not writable.
    """
    if path.suffix.lower() != '.safetensors':
        raise fmt.error(f'The name of {path} must end in .safetensors.')
    files.check_target(path, fmt.error, overwrite=overwrite)


def read(path: pathlib.Path, fmt: FileFormat) -> tuple[Flat, dict[str, str]]:
    """Reads tensors and metadata, once the file is known to be of the format and whole.

    Args:
        path: the file.
        fmt: of the file.

    Returns:
        Name -> array, and the metadata.

    Raises:
        fmt.error: if the file is missing, damaged, of another format or version, or lacks metadata.
    """
    if not path.is_file():
        raise fmt.error(f'There is no file {path}: check the name.')
    if not path.stat().st_size:
        raise fmt.error(f'{path} is empty: make it again.')
    try:
        with safetensors.safe_open(path, 'np') as opened:
            metadata = opened.metadata() or {}
            _check_metadata(metadata, fmt, path)
            flat = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError, TypeError) as cause:
        raise fmt.error(
            f'{path} is no whole .safetensors file ({files.first_line(cause)}): make it again.'
        ) from cause
    if sha256(flat) != metadata['sha256']:
        raise fmt.error(f'{path} is damaged, its tensors are not those written: make it again.')
    return flat, metadata


def read_json(
    metadata: Mapping[str, str], key: str, path: pathlib.Path, error: type[Exception]
) -> dict[str, Any]:
    """Reads a JSON object from the metadata.

    Args:
        metadata: of `read`.
        key: the entry.
        path: the file, for errors.
        error: the class of the errors.

    Raises:
        error: if the entry is no JSON, or not an object.
    """
    try:
        value = json.loads(metadata[key])
    except (ValueError, RecursionError) as cause:  # also of numbers too long, or nested too deep
        raise error(
            f'{path} has broken JSON as {key} ({files.first_line(cause)}): make it again.'
        ) from cause
    if not isinstance(value, dict):
        raise error(f'{path} has {value!r} as {key}, not an object: make it again.')
    return value


def check_finite(flat: Flat, path: pathlib.Path, error: type[Exception]) -> None:
    """Raises `error` for tensors that hold NaN, infinities or no floating numbers."""
    for name, array in flat.items():
        if not np.issubdtype(array.dtype, np.floating) or not np.isfinite(array).all():
            raise error(f'{name} in {path} is not finite: train or adapt again at a lower rate.')


def as_float32(flat: Flat, path: pathlib.Path, error: type[Exception]) -> Flat:
    """Converts tensors of any floating type; raises `error` as `check_finite`."""
    check_finite(flat, path, error)
    with np.errstate(over='ignore'):  # what float32 cannot hold becomes infinite, and is refused
        flat = {name: array.astype(np.float32, copy=False) for name, array in flat.items()}
    check_finite(flat, path, error)
    return flat


def _check_metadata(metadata: Mapping[str, str], fmt: FileFormat, path: pathlib.Path) -> None:
    """Refuses files of another format, of another version, or without what must be known."""
    found = metadata.get('format')
    if found != fmt.name:
        remedy = fmt.remedy if found and found.startswith('metastyle_jax.') else 'check the name'
        raise fmt.error(f'{path} is no {fmt.noun}, its format is {found!r}: {remedy}.')
    if metadata.get('version') != str(fmt.version):
        raise fmt.error(
            f'{path} has the format version {metadata.get("version")}, this program reads '
            f'{fmt.version}: make it again with this version, or install the other.'
        )
    missing = [key for key in (*fmt.keys, 'sha256') if key not in metadata]
    if missing:
        raise fmt.error(f'{path} lacks the metadata {", ".join(missing)}: make it again.')
