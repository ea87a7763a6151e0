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
from metastyle_jax.adaptation import adapt, adaptation_start, adaptation_step, style_image
from metastyle_jax.adaptation.config import AdaptConfig
from metastyle_jax.core import trees
from metastyle_jax.core.errors import UserError
from metastyle_jax.models import perceptual_loss, transformer, vgg
from metastyle_jax.storage import theta_files
from metastyle_jax.stylization.export import onnx_loading
from metastyle_jax.stylization.export.web import export_web, norm_programs, refiner_program

onnx = pytest.importorskip('onnx', reason='needs the extra onnx')
pytest.importorskip('onnxruntime', reason='needs the extra onnx')


@pytest.fixture(autouse=True)
def small_vgg(monkeypatch):
    monkeypatch.setattr(vgg, 'load', lambda file=None: instant_helpers.VGG)


@pytest.fixture(scope='module')
def theta():
    return instant_helpers.make_refining_theta()


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


def test_the_refiner_takes_the_steps_of_instant_styles(folder, theta, disagreement):
    # Python takes the learned steps at the size of the training, of which this θ knows nothing.
    painting, photo = (
        np.random.default_rng(seed).integers(0, 256, (32, 32, 3), np.uint8) for seed in (3, 4)
    )
    config = AdaptConfig(params='norm', steps=2, inner_steps=2, size=32, style_size=32)
    grams = style_image.grams(instant_helpers.VGG, painting / np.float32(255))
    state, fixed, plan = adaptation_step.start(
        adaptation_start.start_params(theta, grams, 'predicted'), 'norm',
        adaptation_start.learned_rates(config, theta),
    )  # fmt: skip
    names = ('norms', 'gram1', 'gram2', 'gram3', 'gram4')
    session = onnx_loading.open_session((folder / 'predictor.onnx').read_bytes())
    found = session.run(None, {'painting': np.float32(painting / 255)[None]})
    inputs = dict(zip(names, found, strict=True))
    inputs |= {'norms': inputs['norms'][0], 'photo': np.float32(photo / 255)[None]}
    scalars = adaptation_start.step_scalars(config, theta)
    for step in range(2):
        state, loss = adaptation_step.adapt_step(
            state, fixed, instant_helpers.VGG, photo[None], grams, scalars, plan=plan
        )
        program = onnx_loading.open_session((folder / 'refiner.onnx').read_bytes())
        inputs['norms'], total = program.run(None, {**inputs, 'step': np.array([step])})
        disagreement(total[0], loss.total, 1e-2)
        wanted = np.concatenate([state.fast[name] for name in sorted(state.fast)])
        disagreement(inputs['norms'], wanted, 1e-2)
    moved = wanted - found[0][0]
    assert np.max(np.abs(moved)) > 0.1
    np.testing.assert_allclose(inputs['norms'] - found[0][0], moved, atol=0.02)


def test_the_refiner_computes_the_gradient_of_jax(theta):
    """With weights that float16 holds exactly, only rounding of float32 is left."""
    half = lambda tree: jax.tree.map(
        lambda leaf: leaf.astype(np.float16).astype(np.float32) if leaf.ndim == 4 else leaf, tree
    )
    params, weights = half(THETA), half(instant_helpers.VGG)
    rng = np.random.default_rng(1)
    photo, painting = rng.random((1, 40, 32, 3), np.float32), rng.random((32, 40, 3), np.float32)
    grams = style_image.grams(weights, painting)
    norms, rest = trees.partition(params, transformer.adapted('norm'))

    def total(norms):
        targets = perceptual_loss.compute_targets(weights, photo, grams)
        own = trees.combine(params, norms, rest)
        return perceptual_loss.of_network(own, weights, photo, targets).total

    loss, gradient = jax.jit(jax.value_and_grad(total))(norms)
    vector = norm_programs.to_vector(params)
    program = refiner_program.refiner_program(
        theta._replace(params=params, settings={}),
        np.ones((1, len(vector)), np.float32),
        weights,
        {},
    )
    inputs = {f'gram{i}': np.asarray(gram) for i, gram in enumerate(grams, 1)}
    inputs |= {'photo': photo, 'norms': vector, 'step': np.array([0])}
    following, found = onnx_loading.open_session(program).run(None, inputs)
    wanted = np.concatenate([gradient[name] for name in sorted(gradient)])
    np.testing.assert_allclose(found, loss, rtol=1e-5)
    scale = np.max(np.abs(wanted))
    np.testing.assert_allclose((vector - following) / scale, wanted / scale, atol=1e-4)


@pytest.mark.parametrize(
    'change', [{'rates': None}, {'settings': {'inner': {'optimizer': 'adam', 'steps': 2}}}]
)
def test_without_learned_steps_there_is_no_refiner(theta, folder, tmp_path, change):
    made = export_web.export_web(tmp_path / 'web', theta._replace(**change), check=False)
    assert not (made.folder / 'refiner.onnx').exists()
    assert json.loads((made.folder / 'manifest.json').read_text())['refiner'] is None


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
            export_web.export_web(tmp_path / 'a', theta._replace(rates=None))
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
        'manifest.json', 'predictor.onnx', 'refiner.onnx', 'transformer.onnx',
    ]  # fmt: skip
    assert command(f'--web={out}', f'--theta={file}', '--nocheck') == 2
    assert command(f'--web={out}', f'--theta={file}', '--nocheck', '--overwrite') == 0
    manifest = json.loads((out / 'manifest.json').read_text(encoding='utf-8'))
    assert manifest['theta_sha256'] == theta_files.load_theta(file).fingerprint
