"""A small configuration and batch of meta-training."""

import helpers
import jax
import numpy as np

from metastyle_jax.data import batching
from metastyle_jax.training.configuration import files, values

SMALL = {
    'steps': 10,
    'model': {'width': 2, 'blocks': 1},
    'loss': {'style_weight': 10.0},
    'inner': {'rate': 0.01, 'max_rate': 0.02, 'remat': False, 'unroll': 1},
    'outer': {'styles': 8, 'contents': 1, 'decay': 0.5, 'warmup': 4, 'clip': 1.0},
}


def make_config(**changes):
    """The small configuration with other entries: `inner_steps=2` sets `inner.steps`."""
    return values.complete(
        SMALL, {name.replace('_', '.', 1): value for name, value in changes.items()}
    )


def file_config(name, **changes):
    """The configuration of a file of `configs/`, such as 'coco.py:tiny', with other entries.

    `data__size=32` sets `data.size`.
    """
    overrides = {name.replace('__', '.'): value for name, value in changes.items()}
    return values.complete(files.load(f'{helpers.ROOT}/configs/{name}'), overrides)


def make_batch(styles, steps=1, size=16):
    rng = np.random.default_rng(0)
    pixels = lambda *lead: rng.integers(0, 256, (*lead, size, size, 3), dtype=np.uint8)
    index = lambda *lead: np.zeros(lead, np.int32)
    return batching.MetaBatch(
        pixels(styles, steps, 1), pixels(styles, 1), pixels(styles),
        index(styles, steps, 1), index(styles, 1), index(styles),
    )  # fmt: skip


def flat(tree):
    return np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)])
