"""Runs of training in several processes of this machine."""

import os
import socket
import subprocess
import sys

import compiling
import helpers
import jax
import numpy as np
from PIL import Image

from metastyle_jax.storage import theta_files

TRAIN = """
import jax, sys
from metastyle_jax.models import vgg
from metastyle_jax.training import command
vgg.load = lambda file: vgg.random(jax.random.key(1), width=2)
sys.exit(command.run_train())
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
    theta = theta_files.load_theta(folder / 'checkpoints' / str(steps))
    return np.concatenate([np.ravel(x) for x in jax.tree.leaves(theta.params)])


def wait_for(process, text):
    for line in process.stderr:
        if text in line:
            return
    raise AssertionError(f'{text!r} never came')
