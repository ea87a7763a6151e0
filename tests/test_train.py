"""Training as a user runs it: resume bit for bit, stops, refusals."""

import importlib
import json
import os
import pathlib
import runpy
import select
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from metastyle_jax import checkpoint

# ml_collections loads configuration files by a deprecated method of importlib.
pytestmark = pytest.mark.filterwarnings('ignore:the load_module:DeprecationWarning')

ROOT = pathlib.Path(__file__).parents[1]
STEPS = 4
TINY = [f'--config={ROOT}/configs/quickstart.py:tiny', '--config.checkpoint.every=1']


@pytest.fixture(scope='module')
def cache(tmp_path_factory):
    """Compiled programs that the runs of this file share."""
    return tmp_path_factory.mktemp('xla')


def start(folder, cache, *changes):
    environment = {**os.environ, 'JAX_COMPILATION_CACHE_DIR': str(cache), 'XLA_FLAGS': ''}
    return subprocess.Popen(
        [sys.executable, '-m', 'metastyle_jax.train', *TINY, f'--workdir={folder}', *changes],
        cwd=ROOT,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    _, log = process.communicate(timeout=300)
    return process.returncode, log


@pytest.fixture(scope='module')
def undisturbed(tmp_path_factory, cache):
    """The folder of a run that nothing stopped, and what it logged."""
    folder = tmp_path_factory.mktemp('run')
    code, log = finish(start(folder, cache, f'--config.steps={STEPS}'))
    assert code == 0, log
    return folder, log


def state(folder):
    """The last checkpoint of a run as bytes by file-independent name."""
    with checkpoint.Manager(folder / 'checkpoints') as manager:
        assert manager.latest_step() == STEPS
    theta = checkpoint.load_theta(folder / 'checkpoints' / str(STEPS))
    return [np.asarray(x).tobytes() for x in jax.tree.leaves(theta.params)], theta.fingerprint


def test_a_run_leaves_checkpoints_logs_and_its_configuration(undisturbed):
    folder, log = undisturbed
    assert f'trained {STEPS} steps' in log
    lines = [json.loads(line) for line in (folder / 'metrics.jsonl').read_text().splitlines()]
    assert [line['step'] for line in lines] == [2, 4]
    for name in (
        'outer', 'content', 'style', 'inner_1', 'gradient_norm', 'first_order_norm',
        'second_order_norm', 'images_per_second',
    ):  # fmt: skip
        assert all(np.isfinite(line[name]) for line in lines), name
    # Compiled once, in the first step (and the picture of the last one).
    assert lines[0]['compile_seconds'] > 0
    assert all(line['second_order_norm'] > 0 for line in lines)
    assert json.loads((folder / 'config.json').read_text())['inner']['steps'] == 1
    assert list((folder / 'tensorboard').iterdir())
    steps = {int(path.name) for path in (folder / 'checkpoints').iterdir() if path.name.isdigit()}
    assert {2, 3, 4} <= steps  # the last three, and the best


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_run_resumes_bit_for_bit(tmp_path, cache, undisturbed, number):
    process = start(tmp_path, cache, f'--config.steps={STEPS}')
    seen = ''
    while 'first step' not in seen:
        seen += process.stderr.readline()
    process.send_signal(number)
    code, log = finish(process)
    assert code == 128 + number, log
    assert 'the same command resumes' in log
    assert 'Traceback' not in log
    with checkpoint.Manager(tmp_path / 'checkpoints') as manager:
        stopped_at = manager.latest_step()
    assert stopped_at is not None
    code, log = finish(start(tmp_path, cache, f'--config.steps={STEPS}'))
    assert code == 0, log
    if stopped_at < STEPS:
        assert f'resuming after step {stopped_at}' in log
    assert state(tmp_path) == state(undisturbed[0])


def test_a_killed_run_resumes_bit_for_bit(tmp_path, cache, undisturbed):
    process = start(tmp_path, cache, f'--config.steps={STEPS}')
    deadline = time.monotonic() + 300
    while not (tmp_path / 'checkpoints' / '1').exists():
        assert time.monotonic() < deadline
        select.select([process.stderr], [], [], 0.01)
    process.kill()
    finish(process)
    code, log = finish(start(tmp_path, cache, f'--config.steps={STEPS}'))
    assert code == 0, log
    assert 'resuming after step' in log
    assert state(tmp_path) == state(undisturbed[0])


def test_another_configuration_in_the_same_folder_is_refused(cache, undisturbed):
    folder, _ = undisturbed
    before = (folder / 'config.json').read_bytes()
    code, log = finish(start(folder, cache, '--config.inner.rate=0.5'))
    assert code == 2
    assert 'inner.rate' in log
    assert '0.5' in log
    assert '--workdir' in log
    assert 'Traceback' not in log
    assert (folder / 'config.json').read_bytes() == before


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_checkpoint(tmp_path, cache):
    # An outer rate this large ruins θ in the first step, so the second has no finite loss.
    code, log = finish(
        start(tmp_path, cache, '--config.outer.rate=1e30', '--config.outer.warmup=0')
    )
    assert code == 2, log
    assert 'step 2' in log
    assert 'styles [' in log
    assert 'contents [' in log
    assert 'checkpoint of step 1 is kept' in log
    assert 'Traceback' not in log
    with checkpoint.Manager(tmp_path / 'checkpoints') as manager:
        assert manager.latest_step() == 1


# Refusals before any work, in this process. -------------------------------------------------------


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (['--config.inner.stepps=2'], 'stepps'),
        (['--config.inner.steps=many'], 'many'),
        (['--config.steps=0'], 'config.steps=0: it must be at least 1'),
        (['--config.inner.steps=-1'], 'config.inner.steps=-1'),
        (['--config.outer.contents=0'], 'config.outer.contents=0'),
        (['--config.data.size=8'], 'config.data.size=8: it must be at least 16'),
        (['--config.inner.rate=-1.0'], 'config.inner.rate=-1.0'),
        (['--config.outer.rate=0.0'], 'config.outer.rate is zero'),
        (['--config.outer.rate=nan'], 'config.outer.rate=nan'),
        (['--config.inner.params=some'], "'some'"),
        (['--config.inner.mode=forward'], 'forward'),
        (['--config.inner.optimizer=lion'], 'lion'),
        (['--config.outer.styles=3'], '3 styles a step cannot be shared out over 8 devices'),
        (['--config.data.style_fit=stretch', '--config.outer.styles=8'], 'stretch'),
        (['--config.data.content=photos', '--config.outer.styles=8'], "'photos'"),
        (['--config.data.content=folder:/nowhere', '--config.outer.styles=8'], '/nowhere'),
        (['--config.data.style_exclude=("Guernica",)', '--config.outer.styles=8'], 'Guernica'),
        (['--vgg=/nowhere.npz', '--config.outer.styles=8'], '/nowhere.npz'),
        (['--colour=red'], 'colour'),
        (['extra'], 'extra'),
    ],
)
def test_bad_settings_are_refused_before_any_work(tmp_path, monkeypatch, capsys, changes, message):
    train = importlib.import_module('metastyle_jax.train')
    folder = tmp_path / 'run'
    monkeypatch.setattr(sys, 'argv', ['train', TINY[0], f'--workdir={folder}', *changes])
    assert train.run() == 2
    error = capsys.readouterr().err
    assert message in error
    assert 'Traceback' not in error
    assert not (folder / 'config.json').exists()
    assert not (folder / 'checkpoints').exists()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--workdir=/tmp/x'], '--config must be given'),
        ([TINY[0]], '--workdir must be given'),
        (['--config=/nowhere.py', '--workdir=/tmp/x'], '/nowhere.py'),
        ([f'--config={ROOT}/configs/coco.py:huge', '--workdir=/tmp/x'], 'huge'),
    ],
)
def test_missing_flags_and_files_are_named(monkeypatch, capsys, arguments, message):
    train = importlib.import_module('metastyle_jax.train')
    monkeypatch.setattr(sys, 'argv', ['train', *arguments])
    assert train.run() == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize('name', ['coco', 'folder', 'quickstart'])
@pytest.mark.parametrize('argument', ['', 'tiny'])
def test_every_configuration_passes_its_checks(name, argument):
    train = importlib.import_module('metastyle_jax.train')
    config = runpy.run_path(str(ROOT / 'configs' / f'{name}.py'))['get_config'](argument)
    train.check_config(config)
