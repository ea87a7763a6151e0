"""The folder of results: pictures, interruptions, damage, and results of other settings."""

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from adaptation_helpers import make_theta
from evaluation_helpers import continue_evaluation
from PIL import Image

from metastyle_jax.core import errors, files
from metastyle_jax.evaluation.config import RANDOM


def test_an_interruption_between_two_files_loses_only_the_last_style(
    evaluated, again, network, monkeypatch
):
    def stop(path, *_):
        if path.name == 'results.json':
            raise KeyboardInterrupt
        return whole(path, *_)

    whole = files.write_whole
    monkeypatch.setattr(files, 'write_whole', stop)
    with pytest.raises(KeyboardInterrupt):
        continue_evaluation(again, network)
    monkeypatch.undo()
    found = continue_evaluation(again, network)
    assert [entry['name'] for entry in found['styles'][:2]] == [
        entry['name'] for entry in evaluated[1]['styles']
    ]
    assert len(found['styles']) == 3


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'seed': 1}, 'its settings.seed is 0, and now 1'),
        ({'starts': {'ours': make_theta(2), RANDOM: make_theta(1)}}, 'its thetas.ours is'),
        ({'starts': {RANDOM: make_theta(1)}}, 'its learned_steps.ours is 0, and now None'),
        (
            {
                'starts': {
                    'ours': make_theta(0)._replace(
                        rates={'out/bias': np.float32(1)}, settings={'inner': {'steps': 0}}
                    ),
                    RANDOM: make_theta(1),
                }
            },
            'its with.ours is',
        ),
    ],
)
def test_results_of_another_evaluation_are_refused_and_left_unchanged(
    again, network, change, message
):
    before = {path.name: path.read_bytes() for path in again.iterdir() if path.is_file()}
    with pytest.raises(errors.UserError, match=message + '.*choose another folder'):
        continue_evaluation(again, network, **change)
    assert before == {path.name: path.read_bytes() for path in again.iterdir() if path.is_file()}


@pytest.mark.parametrize(
    ('name', 'content'),
    [
        ('results.json', b'{'),
        ('results.json', b'[]'),
        ('results.json', b'[' * 100_000),
        ('cells.safetensors', safetensors.numpy.save({'other': np.zeros(1)})),
        ('results.json', b'{"styles": 3}'),
        ('results.json', b'{"styles": [{}]}'),
        ('results.json', b'{"styles": [{"name": "a"}]}'),
        ('cells.safetensors', b'x'),
        ('cells.safetensors', None),
    ],
)
def test_damaged_results_are_refused(again, network, name, content):
    (again / name).unlink() if content is None else (again / name).write_bytes(content)
    with pytest.raises(errors.UserError, match='holds damaged results'):
        continue_evaluation(again, network)


def test_the_plot_and_the_sheets_are_pictures_with_something_on_them(evaluated):
    folder, _ = evaluated
    for name in ('curves.png', 'sheet_ours.png', 'sheet_random.png'):
        with Image.open(folder / name) as picture:
            assert np.asarray(picture.convert('RGB')).std() > 5


def test_sheets_show_the_first_and_the_last_step_of_each_initialization(evaluated):
    folder, _ = evaluated
    cells = safetensors.numpy.load_file(folder / 'cells.safetensors')
    steps = {tuple(key.split('/')[::2]) for key in cells if not key.startswith('style')}
    assert steps == {('ours', '0'), ('ours', '3'), ('random', '0'), ('random', '2')}
