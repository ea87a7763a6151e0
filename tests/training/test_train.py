"""Training runs in processes of their own: resuming bit for bit, signals, kills, refusals."""

import functools
import json
import os
import pathlib
import select
import signal
import subprocess
import sys
import time

import compiling
import helpers
import jax
import numpy as np
import pytest
from training_helpers import file_config

import metastyle_jax
from metastyle_jax.core import errors
from metastyle_jax.data import sources
from metastyle_jax.models import norm_predictor, transformer
from metastyle_jax.storage import checkpoints, run_folder, theta_files
from metastyle_jax.training import train, training_state
from metastyle_jax.training.configuration import values

ROOT = pathlib.Path(__file__).parents[2]
STEPS = 4
TINY = [f'--config={ROOT}/configs/quickstart.py:tiny', '--config.checkpoint.every=1']


@pytest.fixture(scope='module')
def cache(tmp_path_factory):
    """Compiled programs that the runs of this file share."""
    return tmp_path_factory.mktemp('xla')


def start(folder, cache, *changes):
    own = {'JAX_COMPILATION_CACHE_DIR': str(cache), 'XLA_FLAGS': compiling.FLAGS}
    environment = os.environ | own
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
    """Folder and log of a run that nothing interrupted."""
    folder = tmp_path_factory.mktemp('run')
    code, log = finish(start(folder, cache, f'--config.steps={STEPS}'))
    assert code == 0, log
    return folder, log


def theta_of(folder, steps=STEPS):
    """The bytes of θ after a number of steps."""
    theta = theta_files.load_theta(folder / 'checkpoints' / str(steps))
    return [np.asarray(x).tobytes() for x in jax.tree.leaves(theta.params)]


def test_a_run_writes_checkpoints_logs_and_its_configuration(undisturbed):
    folder, log = undisturbed
    assert f'trained {STEPS} steps' in log
    lines = [json.loads(line) for line in (folder / 'metrics.jsonl').read_text().splitlines()]
    assert [line['step'] for line in lines] == [2, 4]
    for name in (
        'outer', 'content', 'style', 'inner_1', 'gradient_norm', 'first_order_norm',
        'second_order_norm', 'images_per_second',
    ):  # fmt: skip
        assert all(np.isfinite(line[name]) for line in lines), name
    # The step is compiled once, before the first line.
    assert lines[0]['compile_seconds'] > 0
    assert all(line['second_order_norm'] > 0 for line in lines)
    assert json.loads((folder / 'config.json').read_text())['inner']['steps'] == 1
    assert list((folder / 'tensorboard').iterdir())
    steps = {int(path.name) for path in (folder / 'checkpoints').iterdir() if path.name.isdigit()}
    assert {3, 4} <= steps  # the last two, and the best


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_run_resumes_bit_for_bit(tmp_path, cache, undisturbed, number):
    process = start(tmp_path, cache, '--config.steps=400')
    for line in process.stderr:
        if 'first step' in line:
            break
    process.send_signal(number)
    code, log = finish(process)
    assert code == 128 + number, log
    assert 'the same command resumes' in log
    assert 'Traceback' not in log
    with checkpoints.Manager(tmp_path / 'checkpoints') as manager:
        stopped_at = manager.latest_step()
    assert stopped_at is not None
    steps, reference = STEPS, undisturbed[0]
    if stopped_at >= STEPS:  # the signal came late
        steps, reference = stopped_at + 1, tmp_path / 'reference'
        assert finish(start(reference, cache, f'--config.steps={steps}'))[0] == 0
    code, log = finish(start(tmp_path, cache, f'--config.steps={steps}'))
    assert code == 0, log
    assert f'resuming after step {stopped_at}' in log
    assert theta_of(tmp_path, steps) == theta_of(reference, steps)


def test_a_killed_run_resumes_bit_for_bit(tmp_path, cache, undisturbed):
    process = start(tmp_path, cache, f'--config.steps={STEPS}')
    deadline = time.monotonic() + 300
    while not (tmp_path / 'checkpoints' / '1').exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        select.select([process.stderr], [], [], 0.01)
    process.kill()
    finish(process)
    code, log = finish(start(tmp_path, cache, f'--config.steps={STEPS}'))
    assert code == 0, log
    assert 'resuming after step' in log
    assert theta_of(tmp_path) == theta_of(undisturbed[0])


def test_another_configuration_in_the_folder_of_a_run_is_refused(cache, undisturbed):
    folder, _ = undisturbed
    before = (folder / 'config.json').read_bytes()
    code, log = finish(start(folder, cache, '--config.inner.rate=0.5'))
    assert code == 2
    assert 'inner.rate' in log
    assert '0.5' in log
    assert '--workdir' in log
    assert 'Traceback' not in log
    assert (folder / 'config.json').read_bytes() == before


def test_a_diverging_run_stops_and_can_start_again_with_other_rates(tmp_path, cache):
    code, log = finish(start(tmp_path, cache, '--config.outer.rate=1e30'))
    assert code == 2, log
    assert 'step 1: ' in log
    assert 'styles [' in log
    assert 'contents [' in log
    assert 'No checkpoint is kept yet' in log
    assert 'Traceback' not in log
    code, log = finish(start(tmp_path, cache, '--config.steps=1'))
    assert code == 0, log


def test_a_run_starts_from_the_given_initialization(tmp_path):
    params = transformer.init(jax.random.key(7), width=8, blocks=1)
    path = tmp_path / 'theta.safetensors'
    theta_files.save_theta(path, params, settings={})
    configure = functools.partial(file_config, 'pretrained.py:tiny')
    assert train.load_initialization(configure(), tmp_path) is None
    config = configure(model__init=str(path))
    theta = train.load_initialization(config, tmp_path)
    state = training_state.create_state(config, jax.random.key(0), theta=theta.params)
    helpers.assert_identical(state.params, params)
    with pytest.raises(errors.UserError, match='has width 8 and 1 residual'):
        train.load_initialization(configure(model__init=str(path), model__width=4), tmp_path)
    config = configure(model__init='/nowhere')
    with pytest.raises(errors.UserError, match='/nowhere'):
        train.load_initialization(config, tmp_path)
    # Once the run has a checkpoint, its own sizes count: here a predictor of another width.
    predictor = norm_predictor.init(jax.random.key(1), params, 4, hidden=3)
    state = training_state.create_state(config, jax.random.key(0))._replace(
        predictor=norm_predictor.init_training(predictor)
    )
    with checkpoints.Manager(tmp_path / 'checkpoints') as manager:
        manager.save(3, state, data_state={})
    theta = train.load_initialization(config, tmp_path)
    assert norm_predictor.hidden_width(theta.predictor) == 3
    (tmp_path / 'checkpoints' / '3' / 'state' / '_METADATA').unlink()
    # Restoring puts the damaged checkpoint aside later.
    assert train.load_initialization(config, tmp_path) is None


def test_a_resumed_run_may_change_entries_that_change_no_number(tmp_path):
    configure = functools.partial(file_config, 'pretrained.py:tiny', data__style_fit='squash')
    config = configure(outer__schedule='inverse')
    train.open_checkpoints(config, tmp_path).close()
    with checkpoints.Manager(tmp_path / 'checkpoints') as manager:
        manager.save(1, {'params': np.zeros(2)}, data_state={})

    def resume(**changes):
        train.open_checkpoints(configure(**changes), tmp_path).close()

    resume(steps=99, data__workers=1)
    with pytest.raises(errors.UserError, match='data.keep_grams: 0.0 -> 1.0'):
        resume(data__keep_grams=1.0)
    cosine = {'data__keep_grams': 1.0, 'outer__schedule': 'cosine'}
    run_folder.write_config(
        tmp_path,
        values.as_dict(configure(**cosine)),
        may_differ=('data', 'outer', 'steps'),
    )
    resume(**cosine | {'data__keep_grams': 0.5})
    # The rates of the cosine schedule depend on the number of steps.
    with pytest.raises(errors.UserError, match=r'\(steps: \d+ -> 98\)'):
        resume(**cosine, steps=98)


def test_training_excludes_images_held_out_for_evaluation(tmp_path):
    helpers.write_images(tmp_path / 'photos', 40)
    config = file_config(
        'coco.py:tiny', data__content=f'folder:{tmp_path / "photos"}', data__hold_out=True
    )
    everything = sources.open_source(config.data.content, kind='content')
    contents, styles = train.open_sources(config)
    names = {contents.name(i) for i in range(len(contents))}
    held_out = sources.held_out(everything)
    assert len(contents) + len(held_out) == 40
    assert not names & {held_out.name(i) for i in range(len(held_out))}
    assert not any(sources.is_held_out(styles.name(i)) for i in range(len(styles)))


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'inner': {'stepps': 1}}, 'is inner.steps meant'),
        ({'inner': {'steps': 0, 'learn_rates': True}}, 'config.inner.steps=0 makes no inner steps'),
        ({'outer': {'devices': 9}}, 'outer.devices=9: there are 8'),
    ],
)
def test_train_in_python_refuses_wrong_settings_before_any_work(tmp_path, settings, message):
    with pytest.raises(errors.UserError, match=message):
        metastyle_jax.train(settings, tmp_path / 'run')
    assert not (tmp_path / 'run').exists()
