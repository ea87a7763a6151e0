"""The notebooks run from the first cell to the last, at tiny size, with a stand-in for Colab."""

import json
import os
import re
import sysconfig
import zipfile

import compiling
import helpers
import jax
import nbclient
import nbformat
import numpy as np
import pytest
from PIL import Image

from metastyle_jax.data import file_sources
from metastyle_jax.models import transformer
from metastyle_jax.storage import style_files, theta_files

# Jupyter's own: it looks for its folders, and asyncio for a loop.
pytestmark = [
    pytest.mark.filterwarnings('ignore::DeprecationWarning'),
    pytest.mark.filterwarnings('ignore::ResourceWarning'),
]
NOTEBOOKS = sorted((helpers.ROOT / 'launch').glob('*.ipynb'))


def run(name, folder, monkeypatch, **parameters):
    """Executes a notebook in a folder with other parameters; returns what its cells printed."""
    notebook = nbformat.read(helpers.ROOT / 'launch' / f'{name}.ipynb', as_version=4)
    (cell,) = (cell for cell in notebook.cells if 'parameters' in cell.metadata.get('tags', ()))
    for key, value in parameters.items():
        cell.source, count = re.subn(rf'(?m)^{key} = .*$', f'{key} = {value!r}', cell.source)
        assert count == 1, key
    for key, value in {
        'COLAB': folder.parent,
        'PATH': sysconfig.get_path('scripts') + os.pathsep + os.environ['PATH'],
        'PYTHONPATH': f'{helpers.ROOT}/tests/colab{os.pathsep}{helpers.ROOT}',
        'JAX_PLATFORMS': 'cpu',
        'XLA_FLAGS': compiling.FLAGS,
        'JAX_COMPILATION_CACHE_DIR': folder.parent / 'xla',
    }.items():
        monkeypatch.setenv(key, str(value))
    resources = {'metadata': {'path': str(folder)}}
    nbclient.NotebookClient(notebook, timeout=300, resources=resources).execute()
    outputs = [output for cell in notebook.cells for output in cell.get('outputs', ())]
    text = ''.join(output.text for output in outputs if output.output_type == 'stream')
    return text, [output for output in outputs if 'image/png' in output.get('data', {})]


@pytest.mark.parametrize('file', NOTEBOOKS, ids=lambda file: file.stem)
def test_notebooks_are_valid_open_in_colab_and_hold_no_output(file):
    notebook = nbformat.read(file, as_version=4)
    nbformat.validate(notebook)
    first = notebook.cells[0].source
    assert 'colab.research.google.com/github/' in first
    assert f'/launch/{file.name})' in first
    assert not any(cell.get('outputs') for cell in notebook.cells)
    assert file.stat().st_size < 20_000


def test_a_painting_is_uploaded_adapted_to_blended_and_downloaded(tmp_path, monkeypatch):
    folder = tmp_path / 'content'
    folder.mkdir()
    params = transformer.init(jax.random.key(0), width=2, blocks=1)
    theta_files.save_theta(tmp_path / 'theta.safetensors', params, settings={})
    for number, names in enumerate((('a.png', 'b.png'), ('photo.png',))):
        for name in names:
            helpers.write_image(tmp_path / 'uploads' / str(number) / name)
    text, pictures = run(
        'colab_adapt', folder, monkeypatch, theta=str(tmp_path / 'theta.safetensors'),
        steps=2, batch=1, size=16, style_size=16, max_size=32,
    )  # fmt: skip
    assert 'a.png: loss' in text
    with zipfile.ZipFile(tmp_path / 'metastyle.zip') as archive:
        archive.extractall(tmp_path / 'found')
    found = {path.name for path in (tmp_path / 'found').iterdir()}
    made = {'photo1_style1.png', 'photo1_style2.png', 'blend.png', 'half_strength.png'}
    assert found == made | {'own_colours.png', 'style1.safetensors', 'style2.safetensors'}
    assert len(pictures) == 5
    with Image.open(tmp_path / 'found' / 'blend.png') as opened:
        assert opened.size == (32, 19)
        assert np.ptp(np.asarray(opened)) > 0
    assert style_files.load_style(tmp_path / 'found' / 'style2.safetensors').style_name == 'b.png'


def test_training_goes_on_from_drive_in_another_runtime(tmp_path, monkeypatch):
    workdir = tmp_path / 'drive' / 'MyDrive' / 'metastyle' / 'run'
    options = (
        '--config.model.width=2 --config.data.size=16 --config.data.style_size=16 '
        '--config.inner.steps=0 --config.outer.contents=1 --config.log.pictures=0 '
        '--config.log.every=1 --config.checkpoint.every=1 --config.steps='
    )
    painting = next(iter(file_sources.sample_files('style').values()))
    for runtime, steps in enumerate((2, 3)):
        folder = tmp_path / f'runtime{runtime}'
        folder.mkdir()
        text, pictures = run(
            'colab_tpu_train', folder, monkeypatch, source=str(helpers.ROOT),
            drive=str(tmp_path / 'drive'), workdir=str(workdir), content='sample:', style='sample:',
            config='configs/quickstart.py:tiny', options=f'{options}{steps}',
            painting=str(painting), look_steps=1,
        )  # fmt: skip
        assert f'trained {steps} steps' in text
        assert ('resuming after step 2' in text) == bool(runtime)
        assert f'step {steps:6d}' in text
        assert len(pictures) == 1
    lines = (workdir / 'metrics.jsonl').read_text().splitlines()
    assert [json.loads(line)['step'] for line in lines] == [1, 2, 3]
    assert theta_files.load_theta(workdir / 'theta.safetensors').settings['steps'] == 3
