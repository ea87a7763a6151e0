"""A small configuration and batch of meta-training."""

import jax
import numpy as np
from ml_collections import config_dict

from metastyle_jax.data import batching


def make_config(**changes):
    config = config_dict.create(
        seed=0,
        steps=10,
        model=dict(width=2, blocks=1, predictor=False),
        loss=dict(content_weight=1.0, style_weight=10.0),
        inner=dict(
            steps=1, rate=0.01, optimizer='sgd', eps_root=1e-8, params='all', learn_rates=False,
            max_rate=0.02, order='exact', mode='mixed', remat=False, unroll=1, log_loss=False,
        ),
        outer=dict(styles=8, contents=1, rate=1e-3, decay=0.5, warmup=4, clip=1.0, log_loss=False,
            keep_norms=False, optimizer='adam', rates_speed=1.0, schedule='inverse', norms_rate=0.0,
            predictor_rate=0.0,
        ),
    )  # fmt: skip
    for name, value in changes.items():
        section, _, key = name.partition('_')
        config[section][key] = value
    return config


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
