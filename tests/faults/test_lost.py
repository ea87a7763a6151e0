"""Processes that die or hang, and runs that go on with other devices: whole with `FAULTS=full`.

The tests of one step of this are in tests/core/devices/test_processes.py.
"""

import os
import signal
import time

import jax
import numpy as np
import process_helpers
import pytest

from metastyle_jax.core.devices import watchdog
from metastyle_jax.models import norm_predictor, transformer, vgg
from metastyle_jax.storage import theta_files

pytestmark = pytest.mark.skipif(os.environ.get('FAULTS') != 'full', reason='FAULTS=full runs them')

HEARTBEAT = 5  # of `process_helpers.start`


@pytest.fixture(scope='module')
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp('xla')


@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize('lost', [0, 1])
def test_a_process_that_dies_or_hangs_is_missed_and_the_run_resumes(tmp_path, cache, lost, number):
    started = process_helpers.start(tmp_path, cache, '--config.steps=1000000', processes=2)
    for process in started:
        process_helpers.wait_for(process, 'first step')
    deadline = time.monotonic() + 100
    while not (tmp_path / 'checkpoints' / '5').exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    begun = time.monotonic()
    started[lost].send_signal(number)
    other = started[1 - lost]
    log = other.communicate(timeout=100)[1]
    took = time.monotonic() - begun
    print(f'process {lost}, {number.name}: code {other.returncode} after {took:.1f} s')
    started[lost].kill()
    started[lost].communicate()
    assert took < 4 * HEARTBEAT
    if lost == 0 and number == signal.SIGKILL and other.returncode == -signal.SIGABRT:
        # JAX's own watch, which asks all the time and ends a process without its consent.
        assert 'JAX distributed service detected fatal errors' in log
    else:
        assert other.returncode == watchdog.EXIT_LOST, log
        assert f'process {lost} was lost' in log
        assert 'the same command resumes' in log
    done = max(int(x.name) for x in (tmp_path / 'checkpoints').iterdir() if x.name.isdigit())
    again = process_helpers.start(tmp_path, cache, f'--config.steps={done + 2}', processes=2)
    codes, logs = process_helpers.finish(again)
    assert codes == [0, 0], logs
    assert 'resuming after step' in logs[0]


def test_images_that_vanish_for_one_process_cost_no_finished_step(tmp_path, cache):
    folders = [process_helpers.folder(tmp_path / x, 40) for x in ('one', 'two')]
    own = [f'--config.data.content=folder:{folder}' for folder in folders]
    flags = ['--config.steps=1000000', '--config.checkpoint.every=1000000', process_helpers.EVERY]
    started = process_helpers.start(tmp_path / 'run', cache, *flags, processes=2, own=own)
    for process in started:
        process_helpers.wait_for(process, 'first step')
    for file in folders[1].iterdir():
        file.unlink()
    codes, logs = process_helpers.finish(started)
    assert codes == [2, 2], logs
    assert all('images tried are damaged' in log or 'no such file' in log for log in logs)
    (step,) = (int(x.name) for x in (tmp_path / 'run' / 'checkpoints').iterdir())
    print(f'stopped and saved at step {step}')
    assert step >= 1


def test_a_starting_point_with_a_predictor_of_any_width_serves_all_processes(tmp_path, cache):
    params = transformer.init(jax.random.key(3), width=2, blocks=1)
    network = vgg.random(jax.random.key(1), width=2)
    predictor = norm_predictor.init(
        jax.random.key(4), params, norm_predictor.feature_count(network), hidden=65
    )
    theta = tmp_path / 'theta.safetensors'
    theta_files.save_theta(theta, params, settings={}, predictor=predictor)
    flags = [f'--config.model.init={theta}', '--config.model.predictor=True', '--config.steps=2']
    codes, logs = process_helpers.finish(
        process_helpers.start(tmp_path / 'run', cache, *flags, processes=2)
    )
    assert codes == [0, 0], logs
    theta.unlink()  # a run that has begun needs it no more
    codes, logs = process_helpers.finish(
        process_helpers.start(tmp_path / 'run', cache, *flags, '--config.steps=3', processes=2)
    )
    assert codes == [0, 0], logs
    assert norm_predictor.hidden_width(theta_files.load_theta(tmp_path / 'run').predictor) == 65


def test_a_run_goes_on_with_other_devices_under_adam(tmp_path, cache):
    flags = ['--config.outer.styles=8', '--config.outer.optimizer=adam', '--config.data.size=32']
    straight, changed = tmp_path / 'straight', tmp_path / 'changed'

    def run(folder, steps, **options):
        codes, logs = process_helpers.finish(
            process_helpers.start(folder, cache, *flags, f'--config.steps={steps}', **options)
        )
        assert set(codes) == {0}, logs

    run(straight, 10, devices=8)
    run(changed, 5, devices=8)
    run(changed, 10, devices=4, processes=2)
    found, expected = (process_helpers.theta_of(folder, 10) for folder in (changed, straight))
    print(f'θ: at most {np.abs(found - expected).max():.1e} apart')
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
