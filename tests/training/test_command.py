"""The command `metastyle-train`: mistakes are refused before any work."""

import sys

import helpers
import pytest

from metastyle_jax.training import command

TINY = f'--config={helpers.ROOT}/configs/quickstart.py:tiny'


@pytest.mark.parametrize(('word', 'code'), [('', 0), ('x', 2)])
def test_numbers_of_processes_in_the_environment_are_checked(monkeypatch, capsys, word, code):
    monkeypatch.setenv('METASTYLE_PROCESSES', word)
    monkeypatch.setattr(sys, 'argv', ['train', '--help'])
    assert command.run_train() == code
    error = capsys.readouterr().err
    assert 'Traceback' not in error
    assert ('METASTYLE_PROCESSES=x in the environment' in error) == bool(code)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (['--config.inner.stepps=2'], "'config.inner.stepps'. Did you mean: config.inner.steps"),
        (
            ['--config.inner.steps=0', '--config.inner.learn_rates=True'],
            '--config.inner.steps=0 makes no inner steps',
        ),
        (['--config.inner.steps=many'], 'steps=many: a whole number is needed'),
        (['--config.steps=0'], '--config.steps=0: it must be a whole number of at least 1'),
        (['--config.inner.steps=-1'], 'config.inner.steps=-1'),
        (['--config.outer.contents=0'], 'config.outer.contents=0'),
        (
            ['--config.data.size=8'],
            '--config.data.size=8: it must be a whole number of at',
        ),
        (['--config.inner.rate=-1.0'], 'config.inner.rate=-1.0'),
        (['--config.outer.rate=0.0'], '--config.outer.rate=0.0: it must be a number above 0'),
        (['--config.outer.rate=nan'], 'config.outer.rate=nan'),
        (['--config.inner.params=some'], "'some'"),
        (['--config.inner.mode=forward'], 'forward'),
        (['--config.inner.optimizer=lion'], 'lion'),
        (['--config.outer.optimizer=lion'], 'lion'),
        (['--config.inner.order=reptile', '--config.inner.learn_rates=True'], 'cannot learn rates'),
        (['--config.model.init=/nowhere'], 'no θ at /nowhere'),
        (
            ['--config.outer.styles=3', '--config.outer.devices=0'],
            '3 styles a step cannot be shared out over 8 devices',
        ),
        (['--config.outer.devices=9'], '--config.outer.devices=9: there are 8'),
        (['--config.data.style_fit=stretch'], 'stretch'),
        (['--config.data.keep_grams=-1.0'], 'config.data.keep_grams=-1.0'),
        (['--config.data.keep_grams=1.0'], "set --config.data.style_fit='squash'"),
        (['--config.data.content=photos'], "'photos'"),
        (['--config.data.content=folder:/nowhere'], '/nowhere'),
        (['--config.data.style_exclude=("Guernica",)'], 'Guernica'),
        (['--config.data.style_exclude=("Guernica")'], 'Guernica'),
        (['--config.data.style_exclude=Guernica'], 'write it as in Python'),
        (['--config.inner.remat=yes'], 'remat=yes: write it as in Python'),
        (['--config.inner.remat=1'], '--config.inner.remat=1: it must be True or False, or None'),
        (['--vgg=/nowhere.npz'], '/nowhere.npz'),
        (['--colour=red'], 'colour'),
        (['extra'], 'extra'),
    ],
)
def test_bad_settings_are_refused_before_any_work(tmp_path, monkeypatch, capsys, changes, message):
    folder = tmp_path / 'run'
    monkeypatch.setattr(sys, 'argv', ['train', TINY, f'--workdir={folder}', *changes])
    assert command.run_train() == 2
    error = capsys.readouterr().err
    assert message in error
    assert 'Traceback' not in error
    assert not (folder / 'config.json').exists()
    assert not (folder / 'checkpoints').exists()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--workdir=/tmp/x'], '--config must be given'),
        ([TINY], '--workdir must be given'),
        (['--config=/nowhere.py', '--workdir=/tmp/x'], '/nowhere.py'),
        ([f'--config={helpers.ROOT}/configs/coco.py:huge', '--workdir=/tmp/x'], 'huge'),
    ],
)
def test_missing_flags_and_files_are_named(monkeypatch, capsys, arguments, message):
    monkeypatch.setattr(sys, 'argv', ['train', *arguments])
    assert command.run_train() == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('def get_config(:', 'syntax'),
        ('import nowhere', 'nowhere'),
        ('def get_config(arg=""): return None', 'ConfigDict'),
        ('def get_config(arg=""): return {"inner": {"stepps": 1}}', 'is inner.steps meant?'),
        ('def get_config(arg=""): return {"seed": -1}', '--config.seed=-1: it must be'),
    ],
)
def test_bad_configuration_files_are_named(tmp_path, monkeypatch, capsys, text, message):
    file = tmp_path / 'mine.py'
    file.write_text(text)
    arguments = [f'--config={file}', f'--workdir={tmp_path}/run']
    monkeypatch.setattr(sys, 'argv', ['train', *arguments])
    assert command.run_train() == 2
    error = capsys.readouterr().err
    assert message in error
    assert 'Traceback' not in error
