"""Small networks and styles, and the command `metastyle stylize`, for the tests of stylization."""

import sys

import helpers
import jax
import numpy as np

from metastyle_jax.models import transformer
from metastyle_jax.storage import style_files, tensor_files


def network(seed):
    return transformer.init(jax.random.key(seed), width=2, blocks=1)


THETA = network(0)


def make_style(seed, theta=THETA):
    return style_files.Style(
        params={
            name: np.asarray(leaf) for name, leaf in tensor_files.flatten(network(seed)).items()
        },
        adapted='all',
        style_name=f'style {seed}',
        style_sha256='0' * 64,
        theta_sha256=tensor_files.fingerprint(theta),
        settings={},
        losses={},
    )


def run_command(monkeypatch, *words):
    """Runs `metastyle stylize` with these words in this process; returns its exit code."""
    monkeypatch.setattr(sys, 'argv', ['stylize', *map(str, words)])
    return helpers.run_command('stylize')
