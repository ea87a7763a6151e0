"""A library of styles, and the command `metastyle adapt` that makes one."""

import sys

import helpers
import numpy as np
from stylization_helpers import THETA

from metastyle_jax.models import transformer
from metastyle_jax.storage import style_library, tensor_files

# Settings of a short adaptation of a folder.
FAST = {
    'steps': 2,
    'batch': 1,
    'size': 16,
    'style_size': 24,
    'styles_at_once': 2,
    'devices': 1,
    'schedule': 'constant',
}
# What these biases add, the next instance norm takes away: their gradient is what rounding leaves.
IDLE = ('block1/second/norm/bias',)
NORMS = [name for name in tensor_files.flatten(THETA) if transformer.adapted('norm')(name)]


def run_adapt(monkeypatch, *words):
    """Runs `metastyle adapt` with these words in this process; returns its exit code."""
    monkeypatch.setattr(sys, 'argv', ['adapt', *map(str, words)])
    return helpers.run_command('adapt')


def make_library(names, theta=THETA, seed=0):
    rng, flat = np.random.default_rng(seed), tensor_files.flatten(theta)
    shape = lambda name: (len(names), *flat[name].shape)
    return style_library.Library(
        {name: rng.uniform(0.5, 2, shape(name)).astype(np.float32) for name in NORMS},
        {name: style_library.LibraryEntry('ab' * 32, {'total': [2.0, 1.0]}) for name in names},
        tensor_files.fingerprint(theta),
        {'steps': 1},
    )
