"""The programs of θ: any painting and any photograph, with the pixels of JAX."""

import json
import sys

import helpers
import instant_helpers
import jax
import numpy as np
import pytest
from stylization_helpers import THETA

import metastyle_jax
from metastyle_jax.adaptation import adapt, style_image
from metastyle_jax.adaptation.config import AdaptConfig
from metastyle_jax.core.errors import UserError
from metastyle_jax.models import vgg
from metastyle_jax.storage import theta_files
from metastyle_jax.stylization.export import onnx_loading
from metastyle_jax.stylization.export.web import export_web, norm_programs

onnx = pytest.importorskip('onnx', reason='needs the extra onnx')
pytest.importorskip('onnxruntime', reason='needs the extra onnx')


@pytest.fixture(autouse=True)
def small_vgg(monkeypatch):
    monkeypatch.setattr(vgg, 'load', lambda file=None: instant_helpers.VGG)


@pytest.fixture(scope='module')
def theta():
    return instant_helpers.make_theta()


@pytest.fixture(scope='module')
def folder(theta, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vgg, 'load', lambda file=None: instant_helpers.VGG)
        made = export_web.export_web(tmp_path_factory.mktemp('web') / 'programs', theta)
    assert made.difference <= 1e-3
    assert made.size == sum(path.stat().st_size for path in made.folder.iterdir())
    return made.folder


def run(folder, name, **inputs):
    session = onnx_loading.open_session((folder / name).read_bytes())
    return session.run(None, inputs)[0]


@pytest.mark.parametrize('size', [(24, 32), (37, 21)])
def test_the_programs_give_the_norms_and_pixels_of_predict_and_stylize(
    folder, theta, size, disagreement
):
    rng = np.random.default_rng(0)
    painting = rng.random((*size, 3), np.float32)
    photos = rng.random((2, 19, 26, 3), np.float32)
    config = AdaptConfig(params='norm', style_size=30)
    style = adapt.predict(painting, theta, config=config)
    resized = style_image.read(painting, 30)[0]
    norms = run(folder, 'predictor.onnx', painting=resized[None])
    wanted = np.concatenate([style.params[name] for name in sorted(style.params)])
    disagreement(norms[0], wanted, 5e-3)  # VGG's kernels are rounded to float16
    assert np.max(np.abs(norms[0] - norm_programs.to_vector(THETA))) > 0.05
    found = run(folder, 'transformer.onnx', images=photos, norms=wanted)
    for photo, one in zip(photos, found, strict=True):
        disagreement(one, metastyle_jax.stylize(style, photo, theta=theta), 1e-4)


def test_the_manifest_says_where_each_norm_is_and_which_theta_it_belongs_to(folder, theta):
    manifest = json.loads((folder / 'manifest.json').read_text(encoding='utf-8'))
    assert manifest['theta_sha256'] == theta.fingerprint
    assert manifest['predictor']['vgg'] == vgg.digest(instant_helpers.VGG)
    vector = np.array(manifest['theta_norms'], np.float32)
    assert sum(norm['length'] for norm in manifest['norms']) == len(vector)
    for norm in manifest['norms']:
        *scopes, leaf = norm['name'].split('/')
        params = THETA
        for scope in scopes:
            params = params[scope]
        part = vector[norm['offset'] :][: norm['length']]
        np.testing.assert_array_equal(part, params[leaf])


def test_kernels_are_stored_in_float16_where_this_loses_nothing(folder, theta):
    def types(data):
        tensors = onnx.load_from_string(data).graph.initializer
        return {tensor.data_type for tensor in tensors if tensor.dims[2:] == [3, 3]}

    half, single = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT
    assert types((folder / 'predictor.onnx').read_bytes()) == {half}
    assert types((folder / 'transformer.onnx').read_bytes()) == {single}
    rounded = jax.tree.map(lambda leaf: leaf.astype(np.float16).astype(np.float32), THETA)
    assert types(norm_programs.transformer_program(rounded, {})) == {half}


def test_what_cannot_be_exported_is_refused_and_nothing_is_written(folder, theta, tmp_path):
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(UserError, match='exists already'):
        export_web.export_web(folder, theta)
    assert before == {path: path.read_bytes() for path in folder.iterdir()}
    plain = theta._replace(predictor=None)
    with pytest.raises(UserError, match='no norm predictor'):
        export_web.export_web(tmp_path / 'a', plain)
    wide = vgg.random(jax.random.key(0), width=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vgg, 'load', lambda file=None: wide)
        with pytest.raises(UserError, match='style features, and this VGG has'):
            export_web.export_web(tmp_path / 'a', theta)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export_web, 'TOLERANCE', 0.0)
        with pytest.raises(UserError, match='differ from JAX'):
            export_web.export_web(tmp_path / 'a', theta)
    with pytest.raises(UserError, match='is a file'):
        export_web.export_web(folder / 'manifest.json', theta)
    with pytest.raises(UserError, match='Cannot write'):
        export_web.export_web(tmp_path / 'no' / 'folder', theta)
    assert not list(tmp_path.iterdir())


def test_the_command_writes_a_folder_and_refuses_flags_of_single_styles(
    tmp_path, monkeypatch, capsys
):
    def command(*words):
        monkeypatch.setattr(sys, 'argv', ['export', *words])
        return helpers.run_command('export')

    file = instant_helpers.write_theta(tmp_path / 'theta.safetensors')
    out = tmp_path / 'web'
    assert command(f'--web={out}', f'--theta={file}', '--size=32x32', '--strength=0.5') == 2
    assert '--size and --strength are for one style' in capsys.readouterr().err
    assert command('a.safetensors', f'--out={tmp_path}/a.onnx', f'--vgg={file}') == 2
    assert '--vgg is for --web only' in capsys.readouterr().err
    assert not out.exists()
    assert command(f'--web={out}', f'--theta={file}', '--nocheck') == 0
    assert sorted(path.name for path in out.iterdir()) == [
        'manifest.json', 'predictor.onnx', 'transformer.onnx',
    ]  # fmt: skip
    assert command(f'--web={out}', f'--theta={file}', '--nocheck') == 2
    assert command(f'--web={out}', f'--theta={file}', '--nocheck', '--overwrite') == 0
    manifest = json.loads((out / 'manifest.json').read_text(encoding='utf-8'))
    assert manifest['theta_sha256'] == theta_files.load_theta(file).fingerprint
