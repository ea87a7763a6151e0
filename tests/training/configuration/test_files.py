"""Configuration files."""

import ast
import itertools
import json

import helpers
import numpy as np
import pytest
from training_helpers import file_config

from metastyle_jax.core import errors
from metastyle_jax.storage import checkpoints
from metastyle_jax.training import train
from metastyle_jax.training.configuration import files, values

CONFIGS = sorted((helpers.ROOT / 'configs').glob('*.py'))
STAGES = ['plain', 'meta', 'norms', 'predict', 'large']
# The file config.json of a run of configs/quickstart.py:tiny.
RECORDED = """
{"checkpoint": {"every": 2, "keep": 3}, "data": {"content": "sample:", "content_exclude":
["chelsea", "china"], "hold_out": false, "keep_grams": 0.0, "size": 32, "style": "sample:",
"style_exclude": ["437658"], "style_fit": "crop", "style_size": 32, "tfds_dir": "",
"val_fraction": 0.25, "workers": 0}, "inner": {"eps_root": 1e-08, "learn_rates": false,
"log_loss": false, "max_rate": 0.01, "mode": "mixed", "optimizer": "sgd", "order": "exact",
"params": "all", "rate": 0.0001, "remat": null, "steps": 1, "unroll": 0}, "log": {"every": 2,
"pictures": 4}, "loss": {"content_weight": 1.0, "style_weight": 100000.0}, "model": {"blocks": 1,
"init": "", "predictor": false, "width": 8}, "outer": {"clip": 10.0, "contents": 2, "decay":
2.5e-05, "devices": 1, "keep_norms": false, "log_loss": false, "norms_rate": 0.0, "optimizer":
"adam", "predictor_rate": 0.0, "rate": 0.001, "rates_speed": 1.0, "schedule": "inverse",
"styles": 1, "warmup": 0}, "seed": 0, "steps": 4}
"""


@pytest.mark.parametrize(
    ('name', 'argument'),
    [
        *itertools.product([path.name for path in CONFIGS], ['', 'tiny']),
        *itertools.product(['pretrained.py'], STAGES),
    ],
)
def test_every_configuration_is_valid(name, argument):
    config = file_config(f'{name}:{argument}')
    if argument == 'tiny':
        # A recipe trains another network than the one that `model.width` is about.
        assert config.recipe or config.model.width == 8
        assert (config.data.content, config.data.size) == ('sample:', 32)


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.name)
def test_a_configuration_lists_only_what_differs_and_imports_only_ml_collections(path):
    imported = {
        alias.name if isinstance(node, ast.Import) else node.module
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert imported == {'ml_collections'}


def test_a_run_that_was_recorded_before_resumes(tmp_path):
    (tmp_path / 'config.json').write_text(RECORDED)
    with checkpoints.Manager(tmp_path / 'checkpoints') as manager:
        manager.save(1, {'params': np.zeros(2)}, data_state={})
    config = file_config('quickstart.py:tiny')
    train.open_checkpoints(config, tmp_path).close()
    written = json.loads((tmp_path / 'config.json').read_text())
    assert values.complete(written) == config


def test_a_recorded_run_had_the_defaults_of_entries_that_it_does_not_know(tmp_path):
    (tmp_path / 'config.json').write_text(RECORDED)
    with checkpoints.Manager(tmp_path / 'checkpoints') as manager:
        manager.save(1, {'params': np.zeros(2)}, data_state={})
    config = file_config('quickstart.py:tiny', inner__rates_per='step')
    with pytest.raises(errors.UserError, match=r'inner.rates_per: tensor -> step'):
        train.open_checkpoints(config, tmp_path)


def test_the_argument_follows_the_colon_after_py(tmp_path):
    folder = tmp_path / 'a:b'
    folder.mkdir()
    (folder / 'mine.py').write_text('def get_config(arg="none"): return {"data": {"style": arg}}')
    for word, argument in ((':x:y', 'x:y'), (':', ''), ('', 'none')):
        assert files.load(f'{folder}/mine.py{word}') == {'data': {'style': argument}}


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('def get_config(:', 'SyntaxError'),
        ('import nowhere', 'nowhere'),
        ('x = 1', 'must define a function get_config'),
        ('def get_config(arg=""): return 5', 'ConfigDict'),
        ('def get_config(arg=""): raise SystemExit', 'SystemExit'),
    ],
)
def test_bad_configuration_files_are_named(tmp_path, text, message):
    file = tmp_path / 'mine.py'
    file.write_text(text)
    with pytest.raises(errors.UserError) as raised:
        files.load(str(file))
    assert message in str(raised.value)
    assert str(file) in str(raised.value)


def test_a_missing_file_is_named():
    with pytest.raises(errors.UserError, match=r'/nowhere\.py.*no such file'):
        files.load('/nowhere.py:tiny')
