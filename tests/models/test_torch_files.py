"""Reading .pth files and other pickles without running code."""

import collections
import hashlib
import io
import pathlib
import pickle
import struct
import zipfile

import helpers
import jax.numpy as jnp
import numpy as np
import pytest

from metastyle_jax.core import errors
from metastyle_jax.models import torch_files, vgg, vgg_weights

DATA = pathlib.Path(__file__).parent


def test_a_hash_in_the_name_of_a_file_is_checked(tmp_path):
    data = (DATA / 'vgg_width2_zip.pth').read_bytes()
    digits = hashlib.sha256(data).hexdigest()[:8]
    (tmp_path / f'vgg-{digits}.pth').write_bytes(data)
    vgg.load(tmp_path / f'vgg-{digits}.pth', digest=None)
    (tmp_path / 'vgg16-397923af.pth').write_bytes(data)
    with pytest.raises(errors.UserError, match=f'SHA-256 {digits}.*expected 397923af'):
        vgg.load(tmp_path / 'vgg16-397923af.pth', digest=None)


@pytest.mark.parametrize('name', ['vgg_width2_zip.pth', 'vgg_width2_legacy.pth'])
def test_files_written_by_torch_are_read_exactly(name):
    params = vgg.load(DATA / name, digest=None)
    for layer, (index, _) in vgg_weights.LAYERS.items():
        kernel = helpers.torch_arrays()[f'features.{index}.weight'].transpose(2, 3, 1, 0)
        np.testing.assert_array_equal(params[layer]['kernel'], np.float32(kernel))
        bias = helpers.torch_arrays()[f'features.{index}.bias']
        np.testing.assert_array_equal(params[layer]['bias'], np.float32(bias))
        assert params[layer]['kernel'].dtype == jnp.float32


# Hostile files. An `Exploit` in a file would create a folder if it were ever called.


def write_zip(file, pickled, **members):
    with zipfile.ZipFile(file, 'w') as archive:
        archive.writestr('a/data.pkl', pickled)
        for name, data in members.items():
            archive.writestr(name, data)


def write_legacy(file, tree, *rest):
    opened = io.BytesIO()
    info = {'protocol_version': 1001, 'little_endian': True, 'type_sizes': {}}
    for x in (torch_files.LEGACY_MAGIC, 1001, info):
        pickle.dump(x, opened, protocol=2)
    opened.write(tree)
    for x in rest:
        opened.write(x)
    file.write_bytes(opened.getvalue())


@pytest.mark.parametrize('container', ['zip', 'legacy', 'bare'])
def test_a_pickle_that_would_run_code_is_refused(tmp_path, container):
    mark, file = tmp_path / 'mark', tmp_path / 'a.pth'
    data = pickle.dumps({'features.0.weight': helpers.Exploit(mark)}, protocol=2)
    if container == 'bare':
        file.write_bytes(data)
    else:
        (write_zip if container == 'zip' else write_legacy)(file, data)
    with pytest.raises(errors.UserError, match='asks for .*mkdir'):
        vgg.load(file, digest=None)
    assert not mark.exists()


@pytest.mark.parametrize(
    'name', ['builtins.eval', 'torch.load', 'torch._utils._rebuild_wrapper_subclass', 'os.system']
)
def test_objects_that_are_not_admitted_are_refused(tmp_path, name):
    module, _, attribute = name.rpartition('.')
    write_zip(tmp_path / 'a.pth', b'\x80\x02c%s\n%s\n.' % (module.encode(), attribute.encode()))
    with pytest.raises(errors.UserError, match=f'asks for {name}'):
        vgg.load(tmp_path / 'a.pth', digest=None)


class _Global:
    """Pickles to an object of torch, which is not installed here."""

    def __init__(self, name):
        self.name = name


class _TorchPickler(pickle._Pickler):
    def persistent_id(self, obj):
        return obj if isinstance(obj, tuple) and obj[:1] == ('storage',) else None

    def save(self, obj, save_persistent_id=True):
        if isinstance(obj, _Global):
            module, _, name = obj.name.rpartition('.')
            self.write(b'c%s\n%s\n' % (module.encode(), name.encode()))
        else:
            super().save(obj, save_persistent_id)


def torch_pickle(offset=0, size=(2,), stride=(1,), key='0', numel=2, view=(), function=None):
    """Pickles a state dict of one tensor; the opcodes are spelt out, so it may be nonsense."""
    opened = io.BytesIO()
    pickler = _TorchPickler(opened, protocol=2)
    pickler.write(b'\x80\x02}X\x0f\x00\x00\x00features.0.bias')
    pickler.save(_Global(function or 'torch._utils._rebuild_tensor'))
    pickler.write(b'(')
    pickler.save(('storage', _Global('torch.FloatStorage'), key, 'cpu', numel, *view))
    for x in (offset, size, stride):
        pickler.save(x)
    pickler.write(b'tRs.')
    return opened.getvalue()


TWO = struct.pack('<2f', 1, 2)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'size': (3,)}, 'reaches out'),
        ({'offset': 1}, 'reaches out'),
        ({'offset': -1}, 'reaches out'),
        ({'stride': (-1,), 'offset': 1}, 'reaches out'),
        ({'size': (1 << 40,), 'stride': (0,)}, 'is larger'),
        ({'size': (0,)}, 'reaches out'),
        ({'size': (2, 1)}, 'not a complete'),
        ({'size': 'ab'}, 'not a complete'),
        ({'numel': 1 << 40}, 'does not hold'),
        ({'numel': -2}, 'does not hold'),
        ({'key': '../0'}, 'not a complete'),
        ({'key': '/etc/passwd'}, 'not a complete'),
        ({'view': (('1', 0, 1),)}, 'unknown kind'),
        ({'function': 'torch.FloatStorage'}, 'not a complete'),
    ],
)
def test_tensors_never_reach_out_of_their_storage(tmp_path, options, message):
    file = tmp_path / 'a.pth'
    write_zip(file, torch_pickle(), **{'a/data/0': TWO})
    with pytest.raises(
        errors.UserError, match='lacks features.0.weight'
    ):  # so the rest is in order
        vgg.load(file, digest=None)
    write_zip(file, torch_pickle(**options), **{'a/data/0': TWO})
    with pytest.raises(errors.UserError, match=message):
        vgg.load(file, digest=None)


def test_big_endian_compressed_and_ambiguous_archives_are_refused(tmp_path):
    file = tmp_path / 'a.pth'
    storage = {'a/data/0': TWO}
    write_zip(file, torch_pickle(), **storage, **{'a/byteorder': b'big'})
    with pytest.raises(errors.UserError, match='not little-endian'):
        vgg.load(file, digest=None)
    write_zip(file, torch_pickle(), **storage, **{'b/data.pkl': torch_pickle()})
    with pytest.raises(errors.UserError, match='not a complete'):
        vgg.load(file, digest=None)
    with zipfile.ZipFile(file, 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('a/data.pkl', torch_pickle())
    with pytest.raises(errors.UserError, match='compressed'):
        vgg.load(file, digest=None)
    write_zip(file, pickle.dumps([1], protocol=2))
    with pytest.raises(errors.UserError, match='no state dict'):
        vgg.load(file, digest=None)


def test_a_legacy_file_with_storages_that_do_not_fit_is_refused(tmp_path):
    file = tmp_path / 'a.pth'
    keys, storage = pickle.dumps(['0'], protocol=2), struct.pack('<q', 2) + TWO
    write_legacy(file, torch_pickle(view=(None,)), keys, storage)
    with pytest.raises(
        errors.UserError, match='lacks features.0.weight'
    ):  # so the rest is in order
        vgg.load(file, digest=None)
    for rest in (
        (pickle.dumps(['1'], protocol=2), storage),
        (keys, struct.pack('<q', 3) + TWO),
        (keys, storage[:-1]),
        (pickle.dumps([], protocol=2), storage),
    ):
        write_legacy(file, torch_pickle(view=(None,)), *rest)
        with pytest.raises(errors.UserError, match='not a complete'):
            vgg.load(file, digest=None)


def test_parameters_are_read_as_tensors(tmp_path):
    # As old files have them: copyreg's NEWOBJ of a Parameter, and BUILD with three flags.
    tensor = torch_pickle()
    start = tensor.index(b'ctorch._utils')
    body = tensor[start : tensor.rindex(b's.')]
    data = tensor[:start] + b'ctorch.nn.parameter\nParameter\n(' + body + b't\x81\x88\x89N\x87bs.'
    file = tmp_path / 'a.pth'
    write_zip(file, data, **{'a/data/0': TWO})
    arrays = vgg_weights.read(file, ['features.0.bias'])
    np.testing.assert_array_equal(arrays['features.0.bias'], [1, 2])


def test_a_state_dict_with_attributes_is_accepted(tmp_path):
    state = collections.OrderedDict()
    state._metadata = {'': {'version': 1}}
    write_zip(tmp_path / 'a.pth', pickle.dumps(state, protocol=2))
    with pytest.raises(errors.UserError, match='lacks features.0.weight'):
        vgg.load(tmp_path / 'a.pth', digest=None)


@pytest.mark.parametrize('code', [b'r\xff\xff\xff\x7f', b'p2147483647\n'])
def test_a_pickle_that_numbers_its_objects_too_high_is_refused(tmp_path, code):
    (tmp_path / 'a.pth').write_bytes(b'\x80\x02}' + code + b'.')
    with pytest.raises(errors.UserError, match='the number 2147483647 to one of'):
        vgg.load(tmp_path / 'a.pth', digest=None)  # Python itself would fill 16 GiB
