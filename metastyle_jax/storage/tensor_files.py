"""Named tensors: pytrees as flat dicts, fingerprints, and ``.safetensors`` files with a hash.

The name of a tensor is its path in the pytree, such as ``down1/conv/kernel``. The file format does
not reveal every damage, so each file holds a SHA-256 that is compared when it is read.
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
from metastyle_jax.core.commands import paths

Flat: TypeAlias = dict[str, np.ndarray]  # name -> array


class CheckpointError(errors.UserError):
    """A checkpoint, a θ or the folder of a run cannot be written, read or used."""


# Pytrees and names.


def flatten(tree: types.PyTree) -> Flat:
    """Copies the arrays of a pytree to the host, each under its path with '/' between the parts.

    Args:
        tree: a pytree of arrays; typed PRNG keys are replaced by their key data.

    Returns:
        Name -> array, in the order of the pytree. The arrays share no memory with the pytree.
    """
    data = jax.tree.map(lambda x: jax.random.key_data(x) if trees.is_key(x) else x, tree)
    leaves = jax.tree_util.tree_leaves_with_path(jax.device_get(data))
    return {trees.leaf_name(path): np.array(leaf) for path, leaf in leaves}


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Builds nested dicts from paths with '/'; the inverse of `flatten` for nested dicts.

    Args:
        flat: name -> array.

    Raises:
        CheckpointError: one name is also a folder in the path of another name.
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
    """Computes a SHA-256 of parameters from their names, shapes and float32 values.

    Args:
        params: a pytree of arrays, or a flat dict of arrays.

    Returns:
        64 hexadecimal digits. They do not depend on the file format or on the order of the names.
    """
    return sha256({name: array.astype(np.float32) for name, array in flatten(params).items()})


def sha256(flat: Mapping[str, np.ndarray]) -> str:
    """Computes the SHA-256 of names, types, shapes and little-endian bytes, sorted by name.

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
    """Builds a pytree with the structure of a template from named arrays.

    Args:
        template: a pytree of arrays or `jax.ShapeDtypeStruct`; its values are not used.
        flat: name -> array.
        source: name of the origin of the arrays, for messages.
        error: class of the errors.

    Returns:
        The pytree, with the arrays on the default device.

    Raises:
        error: a tensor is missing, unknown or of another shape.
    """
    leaves, treedef = jax.tree_util.tree_flatten_with_path(template)
    names = [trees.leaf_name(path) for path, _ in leaves]
    for name in sorted({*flat, *names}):
        if name not in flat or name not in names:
            problem = 'lacks the tensor' if name not in flat else 'has an unknown tensor'
            raise error(f'{source} {problem} {name}: it belongs to another network or version.')
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
        name: value of ``format`` in the metadata; it begins with ``metastyle_jax.``.
        version: version of the format; files of other versions are refused.
        noun: name of the format in messages.
        remedy: advice for the message if a `metastyle_jax` file of another format is given.
        keys: metadata that a file must have.
        error: class of all errors about such files.
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
    """Writes tensors, metadata and the SHA-256 of the tensors to one file, or nothing on failure.

    Args:
        path: the file.
        flat: name -> floating-point array.
        metadata: a text for each of `FileFormat.keys`.
        fmt: format of the file.
        overwrite: whether an existing file may be replaced.

    Raises:
        fmt.error: the file exists or cannot be written, or a value is not finite.
    """
    check_output(path, fmt, overwrite=overwrite)
    check_finite(flat, path, fmt.error)
    entries = {'format': fmt.name, 'version': str(fmt.version), 'sha256': sha256(flat)}
    files.write_whole(path, safetensors.numpy.save(flat, {**metadata, **entries}), fmt.error)


def check_output(path: pathlib.Path, fmt: FileFormat, *, overwrite: bool) -> None:
    """Checks that `write` will be able to write a file; creates nothing.

    Args:
        path: the file to be written later.
        fmt: format of the file.
        overwrite: whether an existing file may be replaced.

    Raises:
        fmt.error: the suffix is not ``.safetensors``, the file exists and may not be replaced, or
            its folder is missing or not writable.
    """
    if path.suffix.lower() != '.safetensors':
        raise fmt.error(f'The name of {path} must end in .safetensors.')
    files.check_target(path, fmt.error, overwrite=overwrite)


def read(path: pathlib.Path, fmt: FileFormat) -> tuple[Flat, dict[str, str]]:
    """Reads the tensors and metadata of a file, after checking its format and its checksum.

    Args:
        path: the file.
        fmt: format of the file.

    Returns:
        Name -> array, and the metadata.

    Raises:
        fmt.error: the file is missing, damaged, of another format or version, or lacks metadata.
    """
    if not path.is_file():
        raise fmt.error(
            f'There is no file {path}: {paths.address_remedy(path) or "check the name"}.'
        )
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
    """Decodes an entry of the metadata that holds a JSON object.

    Args:
        metadata: the metadata that `read` returned.
        key: name of the entry.
        path: the file, for messages.
        error: class of the errors.

    Raises:
        error: the entry is not valid JSON, or not an object.
    """
    try:
        value = json.loads(metadata[key])
    except (ValueError, RecursionError) as cause:  # also for huge numbers and deep nesting
        raise error(
            f'{path} has broken JSON as {key} ({files.first_line(cause)}): make it again.'
        ) from cause
    if not isinstance(value, dict):
        raise error(f'{path} has {value!r} as {key}, not an object: make it again.')
    return value


def check_finite(flat: Flat, path: pathlib.Path, error: type[Exception]) -> None:
    """Raises `error` if a tensor holds NaN or infinity, or is not floating point.

    Args:
        flat: name -> array.
        path: the file, for messages.
        error: class of the error.
    """
    for name, array in flat.items():
        if not np.issubdtype(array.dtype, np.floating) or not np.isfinite(array).all():
            raise error(f'{name} in {path} is not finite: train or adapt again at a lower rate.')


def as_float32(flat: Flat, path: pathlib.Path, error: type[Exception]) -> Flat:
    """Converts tensors of any floating-point type to float32.

    Args:
        flat: name -> array.
        path: the file, for messages.
        error: class of the error.

    Raises:
        error: a value is not finite, or too large for float32.
    """
    check_finite(flat, path, error)
    with np.errstate(over='ignore'):  # a value too large for float32 becomes infinite
        flat = {name: array.astype(np.float32, copy=False) for name, array in flat.items()}
    check_finite(flat, path, error)
    return flat


def _check_metadata(metadata: Mapping[str, str], fmt: FileFormat, path: pathlib.Path) -> None:
    """Raises an error for files of another format or version, or without required metadata."""
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
