"""A small training state, a run's folder with its checkpoints, and damage to them."""

import os
from typing import Any, NamedTuple

import helpers
import jax
import optax

from metastyle_jax.storage import checkpoints


class State(NamedTuple):
    params: Any
    opt_state: Any
    rng: Any
    step: int


def make_state(seed=0):
    params = helpers.make_params(seed)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3))
    updates, opt_state = optimizer.update(params, optimizer.init(params), params)
    return State(optax.apply_updates(params, updates), opt_state, jax.random.key(seed + 7), seed)


def save_steps(folder, *steps, metric=None, keep=3):
    with checkpoints.Manager(folder, keep=keep) as manager:
        for step in steps:
            manager.save(step, make_state(step), data_state={'at': step}, metric=metric)


def largest_file(folder):
    return max((x for x in folder.rglob('*') if x.is_file()), key=lambda x: x.stat().st_size)


def truncate(folder):
    file = largest_file(folder / 'state')
    os.truncate(file, file.stat().st_size // 2)


def cut_the_metric(folder):
    os.truncate(folder / 'metrics' / 'metrics', 9)
