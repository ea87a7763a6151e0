"""The custom nodes for ComfyUI, with stand-ins for ComfyUI's own modules."""

import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
import types

import helpers
import instant_helpers
import numpy as np
import pytest

import metastyle_jax
from metastyle_jax.adaptation import adapt
from metastyle_jax.adaptation.config import AdaptConfig
from metastyle_jax.models import vgg
from metastyle_jax.storage import style_files
from metastyle_jax.stylization.export.web import export_web

torch = pytest.importorskip('torch', reason='needs the extra bench')
pytest.importorskip('onnxruntime', reason='needs the extra onnx')
SOURCES = helpers.ROOT / 'launch' / 'comfyui'


@pytest.fixture(scope='module')
def theta():
    return instant_helpers.make_theta()


@pytest.fixture(scope='module')
def nodes(theta, tmp_path_factory):
    """The package as ComfyUI loads it, with the programs of a small θ."""
    comfy = tmp_path_factory.mktemp('ComfyUI')
    folder = comfy / 'custom_nodes' / 'metastyle'
    shutil.copytree(SOURCES, folder, ignore=shutil.ignore_patterns('__pycache__'))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vgg, 'load', lambda file=None: instant_helpers.VGG)
        export_web.export_web(folder / 'programs', theta)
        (comfy / 'models').mkdir()
        own = types.ModuleType('folder_paths')
        own.models_dir = str(comfy / 'models')
        patch.setitem(sys.modules, 'folder_paths', own)
        spec = importlib.util.spec_from_file_location(
            'comfy_metastyle', folder / '__init__.py', submodule_search_locations=[str(folder)]
        )
        module = importlib.util.module_from_spec(spec)
        patch.setitem(sys.modules, 'comfy_metastyle', module)
        spec.loader.exec_module(module)
        yield module
        for name in [name for name in sys.modules if name.startswith('comfy_metastyle.')]:
            patch.delitem(sys.modules, name)


@pytest.fixture
def styles_folder(nodes):
    folder = sys.modules['comfy_metastyle.nodes'].style_folder()
    folder.mkdir(exist_ok=True)
    yield folder
    shutil.rmtree(folder)


def run(nodes, name, **inputs):
    """Calls a node as ComfyUI does: by its declared function, with its declared inputs."""
    kind = nodes.NODE_CLASS_MAPPINGS[name]
    declared = kind.INPUT_TYPES()
    assert set(inputs) == set(declared['required'])
    result = getattr(kind(), kind.FUNCTION)(**inputs)
    assert isinstance(result, tuple)
    assert len(result) == len(kind.RETURN_TYPES) == len(kind.RETURN_NAMES)
    return result[0]


def pixels(*shape, seed=0):
    return np.random.default_rng(seed).random(shape, np.float32)


def test_every_node_declares_what_comfyui_asks_for(nodes):
    assert set(nodes.NODE_CLASS_MAPPINGS) == set(nodes.NODE_DISPLAY_NAME_MAPPINGS)
    for kind in nodes.NODE_CLASS_MAPPINGS.values():
        assert kind.CATEGORY
        assert kind.DESCRIPTION
        assert callable(getattr(kind, kind.FUNCTION))
        for socket in kind.INPUT_TYPES()['required'].values():
            assert isinstance(socket[0], (str, list))


def test_a_painting_paints_a_batch_as_python_does(nodes, theta, monkeypatch):
    monkeypatch.setattr(vgg, 'load', lambda file=None: instant_helpers.VGG)
    painting, photos = pixels(40, 52, 3), pixels(2, 24, 36, 3, seed=1)
    style = run(nodes, 'MetaStyleFromPainting', painting=torch.tensor(painting)[None])
    found = run(nodes, 'MetaStyleApply', images=torch.tensor(photos), style=style, strength=1.0)
    config = AdaptConfig(params='norm', style_size=export_web.PAINTING_SIDE)
    expected = adapt.predict(painting, theta, config=config)
    for image, photo in zip(found, photos, strict=True):
        wanted = metastyle_jax.stylize(expected, photo, theta=theta)
        np.testing.assert_allclose(image.numpy(), wanted, atol=1e-3)
    assert found.dtype == torch.float32
    plain = run(nodes, 'MetaStyleApply', images=torch.tensor(photos), style=style, strength=0.0)
    np.testing.assert_allclose(plain.numpy(), photos, atol=1e-6)


def test_transparency_is_left_out(nodes):
    painting = pixels(1, 40, 52, 4)
    with_alpha = run(nodes, 'MetaStyleFromPainting', painting=torch.tensor(painting))
    without = run(nodes, 'MetaStyleFromPainting', painting=torch.tensor(painting[..., :3]))
    np.testing.assert_array_equal(with_alpha.norms, without.norms)


def test_styles_of_files_are_mixed(nodes, theta, styles_folder, monkeypatch):
    monkeypatch.setattr(vgg, 'load', lambda file=None: instant_helpers.VGG)
    config = AdaptConfig(params='norm', style_size=32)
    styles = [adapt.predict(pixels(32, 32, 3, seed=i), theta, config=config) for i in range(2)]
    for i, style in enumerate(styles):
        style_files.save_style(styles_folder / f'{i}.safetensors', style)
    (files,) = nodes.NODE_CLASS_MAPPINGS['MetaStyleLoad'].INPUT_TYPES()['required']['file']
    assert files == ['0.safetensors', '1.safetensors']
    loaded = [run(nodes, 'MetaStyleLoad', file=name) for name in files]
    mixed = run(nodes, 'MetaStyleBlend', first=loaded[0], second=loaded[1], share_of_second=0.25)
    photo = pixels(20, 24, 3)
    found = run(
        nodes, 'MetaStyleApply', images=torch.tensor(photo)[None], style=mixed, strength=1.0
    )[0].numpy()
    wanted = metastyle_jax.stylize(styles, photo, weights=[0.75, 0.25], theta=theta)
    np.testing.assert_allclose(found, wanted, atol=1e-3)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'adapted': 'all'}, 'whole network'),
        ({'theta_sha256': '0' * 64}, 'another θ'),
    ],
)
def test_styles_that_the_programs_cannot_use_are_refused(
    nodes, theta, styles_folder, monkeypatch, changes, message
):
    monkeypatch.setattr(vgg, 'load', lambda file=None: instant_helpers.VGG)
    config = AdaptConfig(params='norm', style_size=32)
    style = adapt.predict(pixels(32, 32, 3), theta, config=config)._replace(**changes)
    style_files.save_style(styles_folder / 'a.safetensors', style)
    with pytest.raises(ValueError, match=message):
        run(nodes, 'MetaStyleLoad', file='a.safetensors')


def test_other_files_and_small_images_are_refused(nodes, styles_folder):
    (styles_folder / 'b.safetensors').write_bytes(b'no tensors')
    for name, message in (('b', 'cannot be read'), ('none', 'cannot be read')):
        with pytest.raises(ValueError, match=message):
            run(nodes, 'MetaStyleLoad', file=f'{name}.safetensors')
    with pytest.raises(ValueError, match='no file name'):
        run(nodes, 'MetaStyleLoad', file='../a.safetensors')
    style = run(nodes, 'MetaStyleFromPainting', painting=torch.tensor(pixels(1, 32, 32, 3)))
    with pytest.raises(ValueError, match='8 x 40'):
        run(
            nodes, 'MetaStyleApply', images=torch.tensor(pixels(1, 40, 8, 3)), style=style,
            strength=1.0,
        )  # fmt: skip


def test_without_programs_the_remedy_is_named(nodes, tmp_path):
    with pytest.raises(FileNotFoundError, match=r'launch/comfyui\.sh'):
        sys.modules['comfy_metastyle.programs'].Programs(tmp_path)


def test_the_manifest_names_the_packages_that_the_nodes_import():
    project = tomllib.loads((SOURCES / 'pyproject.toml').read_text())
    assert set(project['tool']['comfy']) >= {'PublisherId', 'DisplayName', 'Icon'}
    assert re.fullmatch(r'\d+\.\d+\.\d+', project['project']['version'])
    requirements = (SOURCES / 'requirements.txt').read_text().split()
    assert requirements == project['project']['dependencies']
    code = ''.join(path.read_text() for path in SOURCES.glob('*.py'))
    imported = {*re.findall(r'^ *(?:import|from) (\w+)', code, re.MULTILINE)}
    names = {re.match(r'[a-z]+', each)[0] for each in requirements} | {'PIL', 'torch'}
    assert imported - set(sys.stdlib_module_names) <= names | {'folder_paths'}


def test_the_script_keeps_an_existing_folder(tmp_path):
    result = subprocess.run(
        ['bash', helpers.ROOT / 'launch/comfyui.sh', tmp_path], capture_output=True, text=True
    )
    assert result.returncode == 2
    assert f'{tmp_path} exists' in result.stderr
