"""What starting the program loads: half of what a user waits for is imports.

Nothing here is timed. Each case runs in a fresh interpreter and lists the packages it has loaded.
"""

import helpers
import jax
import numpy as np
import pytest
from PIL import Image

from metastyle_jax import __main__
from metastyle_jax.models import norm_predictor, transformer
from metastyle_jax.storage import style_files, tensor_files, theta_files

# Packages that take long to import, each for its own purpose.
HEAVY = {
    'av', 'flax', 'gradio', 'grain', 'jax', 'matplotlib', 'ml_collections', 'numpy', 'onnx',
    'onnxruntime', 'optax', 'orbax', 'pandas', 'scipy', 'skimage', 'sklearn', 'tensorboardX',
    'tensorflow_datasets', 'torch',
}  # fmt: skip

REPORT = """
import sys
from metastyle_jax import __main__
code = __main__.main(['metastyle', *sys.argv[1:]])
print('code', code, 'loaded', *sorted({name.partition('.')[0] for name in sys.modules}))
"""


def loaded_by(code, *arguments):
    """Heavy packages that a program has loaded at its end, and what it printed."""
    result = helpers.run_python(code, *arguments)
    assert result.returncode == 0, result.stderr
    text, _, packages = result.stdout.rpartition('loaded ')
    return HEAVY & set(packages.split()), text + result.stderr


def test_importing_the_package_loads_nothing():
    code = """
        import sys
        import metastyle_jax
        print('loaded', *sorted({name.partition('.')[0] for name in sys.modules}))
    """
    assert loaded_by(code)[0] == set()


@pytest.mark.parametrize('words', [['--help'], ['--version'], ['stilize']])
def test_the_list_of_commands_loads_nothing(words):
    assert loaded_by(REPORT, *words)[0] == set()


@pytest.mark.parametrize('name', __main__.COMMANDS)
def test_help_and_a_mistake_load_nothing_heavy(name):
    allowed = {'ml_collections'} if name == 'train' else set()
    mistakes = [['--no_such_flag=1'], []]
    if name in ('cache', 'poster', 'ui'):  # without words, they list, measure, or serve a page
        mistakes.remove([])
    for words in (['--help'], *mistakes):
        packages, text = loaded_by(REPORT, name, *words)
        assert packages <= allowed, words
        assert 'code 0' in text if words == ['--help'] else 'code 2' in text


def test_stylizing_a_picture_loads_jax_and_little_else(tmp_path):
    params = transformer.init(jax.random.key(0), width=2, blocks=1)
    style = style_files.Style(
        params=tensor_files.flatten(params), adapted='all', style_name='x', style_sha256='0',
        theta_sha256='0', settings={}, losses={'total': [1.0]},
    )  # fmt: skip
    style_files.save_style(tmp_path / 'style.safetensors', style)
    Image.fromarray(np.zeros((32, 24, 3), np.uint8)).save(tmp_path / 'photo.png')
    packages, text = loaded_by(
        REPORT, 'stylize', tmp_path / 'photo.png', '--style', tmp_path / 'style.safetensors',
        '-o', tmp_path / 'out.png',
    )  # fmt: skip
    assert 'code 0' in text
    assert packages == {'jax', 'numpy'} | ({'scipy'} & packages_of_jax())


def test_a_painting_as_the_style_loads_no_data_pipeline(tmp_path):
    params = transformer.init(jax.random.key(0), width=2, blocks=1)
    predictor = norm_predictor.init(jax.random.key(1), params, 964, hidden=1)
    theta_files.save_theta(tmp_path / 'theta.safetensors', params, settings={}, predictor=predictor)
    pixels = np.random.default_rng(0).integers(0, 256, (32, 24, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / 'photo.png')
    packages, text = loaded_by(
        REPORT, 'stylize', tmp_path / 'photo.png', '--style', tmp_path / 'photo.png',
        '--theta', tmp_path / 'theta.safetensors', '--steps=0', '-o', tmp_path / 'out.png',
    )  # fmt: skip
    assert 'code 0' in text
    assert packages == {'jax', 'numpy', 'optax'} | ({'scipy'} & packages_of_jax())


def packages_of_jax():
    """Heavy packages that JAX itself loads."""
    code = """
        import sys
        import jax.numpy
        print('loaded', *sorted({name.partition('.')[0] for name in sys.modules}))
    """
    return loaded_by(code)[0]
