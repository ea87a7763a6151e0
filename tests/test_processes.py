"""Several processes on one machine: the same θ as one process, a stop together, an end together."""

import os
import select
import signal
import socket
import subprocess
import sys
import time

import compiling
import helpers
import jax
import numpy as np
import pytest
from PIL import Image

from metastyle_jax import thetas, watch

TRAIN = """
import jax, sys
from metastyle_jax import train, vgg
vgg.load = lambda file: vgg.random(jax.random.key(1), width=2)
sys.exit(train.run())
"""
FLAGS = [
    f'--config={helpers.ROOT}/configs/quickstart.py:tiny',
    *(f'--config.{entry}' for entry in (
        'outer.devices=0', 'outer.styles=4', 'outer.contents=1', 'outer.optimizer=sgd',
        'model.width=2', 'data.size=16', 'data.style_size=16', 'log.pictures=0', 'log.every=1',
        'inner.steps=0', 'checkpoint.every=5', 'checkpoint.keep=100000',
    )),
]  # fmt: skip


EVERY = '--config.data.content_exclude=()'  # for folders


def free_port():
    with socket.socket() as opened:
        opened.bind(('127.0.0.1', 0))
        return opened.getsockname()[1]


def start(folder, cache, *flags, processes=1, devices=4, own=()):
    """Starts a run of several processes, each with its share of the devices and its own flag."""
    environment = os.environ | {
        'JAX_COMPILATION_CACHE_DIR': str(cache),
        'JAX_PLATFORMS': 'cpu',
        'NPROC': '4',  # XLA shares a convolution out over threads: as many in any process
        'PYTHONPATH': str(helpers.ROOT),
        'XLA_FLAGS': f'--xla_force_host_platform_device_count={devices // processes}'
        f' {compiling.FLAGS}',
    }
    port, started = free_port(), []
    for process in range(processes):
        place = [f'--coordinator=127.0.0.1:{port}', f'--processes={processes}', '--heartbeat=5']
        command = [sys.executable, '-c', TRAIN, *FLAGS, f'--workdir={folder}', *flags]
        command += [*place, f'--process={process}'] if processes > 1 else []
        command += own[process : process + 1]
        started.append(
            subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        )
    return started


def folder(path, count):
    """A folder of noise."""
    path.mkdir()
    for i in range(count):
        pixels = np.random.default_rng(i).integers(0, 256, (20, 24, 3), np.uint8)
        Image.fromarray(pixels).save(path / f'{i}.png')
    return path


def finish(started):
    logs = [process.communicate(timeout=300)[1] for process in started]
    return [process.returncode for process in started], logs


def theta_of(folder, steps):
    theta = thetas.load_theta(folder / 'checkpoints' / str(steps))
    return np.concatenate([np.ravel(x) for x in jax.tree.leaves(theta.params)])


def wait_for(process, text):
    for line in process.stderr:
        if text in line:
            return
    raise AssertionError(f'{text!r} never came')


@pytest.fixture(scope='module')
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp('xla')


def test_two_processes_train_as_one_stop_together_and_miss_each_other(tmp_path, cache):
    one, two = tmp_path / 'one', tmp_path / 'two'
    codes, logs = finish(start(one, cache, '--config.steps=5'))
    assert codes == [0], logs
    # A signal to the second process stops both after the same step, with a checkpoint.
    started = start(two, cache, '--config.steps=100000', processes=2)
    for process in started:
        wait_for(process, 'first step')
    deadline = time.monotonic() + 100
    while not (two / 'checkpoints' / '5').exists():
        assert time.monotonic() < deadline
        select.select([], [], [], 0.01)
    started[1].send_signal(signal.SIGTERM)
    codes, logs = finish(started)
    assert codes == [143, 143], logs
    stops = {line[9:] for log in logs for line in log.splitlines() if 'SIGTERM: stopped' in line}
    assert len(stops) == 1, logs
    assert (two / 'config.json').exists()
    np.testing.assert_allclose(theta_of(two, 5), theta_of(one, 5), rtol=0, atol=1e-6)
    # Both go on; one that is killed is missed by the other, which says so.
    started = start(two, cache, '--config.steps=1000000', processes=2)
    for process in started:
        wait_for(process, 'resuming after step')
        wait_for(process, 'first step')
    started[1].kill()
    codes, logs = finish(started)
    assert codes == [watch.EXIT_LOST, -signal.SIGKILL], logs
    assert 'process 1 was lost' in logs[0]
    assert 'the same command resumes' in logs[0]


def test_a_mistake_in_one_process_ends_all_with_its_message(tmp_path, cache):
    folder = tmp_path / 'file'
    folder.write_text('')
    codes, logs = finish(start(folder, cache, processes=2))
    assert codes == [2, 2], logs
    assert all('Cannot use' in log for log in logs)
    assert 'process 0 ended' in logs[1]


def test_processes_with_other_images_are_refused(tmp_path, cache):
    own = [f'--config.data.content=folder:{folder(tmp_path / x, 4)}' for x in ('one', 'two')]
    (tmp_path / 'two' / '2.png').unlink()
    codes, logs = finish(start(tmp_path / 'run', cache, EVERY, processes=2, own=own))
    assert codes == [2, 2], logs
    for log in logs:
        assert 'process 1 has other data than process 0 (content_names: ' in log
        assert 'contents: 4 there, 3 here' in log
