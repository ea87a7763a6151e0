"""A small training state, and a run's folder with its checkpoints."""

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
