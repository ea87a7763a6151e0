"""One step of many styles at once, on one device and on several."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from library_helpers import IDLE
from stylization_helpers import THETA

from metastyle_jax.adaptation import adaptation_step, batched_step
from metastyle_jax.core.devices import sharding
from metastyle_jax.models import gram, vgg
from metastyle_jax.storage import tensor_files

padded_grams = jax.jit(gram.of_padded_images)


@functools.cache
def steps_together(devices):
    """Adapted norms and losses of eight styles after two steps; and what they were adapted with.

    By plain Adam at a small rate, which makes the least of rounding.
    """
    network = vgg.random(jax.random.key(1), width=2)
    rng = np.random.default_rng(0)
    contents = rng.integers(0, 256, (2, 1, 16, 16, 3), dtype=np.uint8)
    paintings = rng.uniform(size=(8, 40, 40, 3)).astype(np.float32)
    grams = padded_grams(network, paintings, np.full((8, 2), 40))
    weights = adaptation_step.StepScalars(1e-3, 1.0, 1e3)
    state, fixed, plan = batched_step.start(THETA, 8, schedule='constant')
    batched_step.compiled_step.cache_clear()  # others may have compiled it for other shapes
    step = batched_step.compiled_step(plan, devices)
    fixed, placed = sharding.replicate((fixed, network), devices)
    history = []
    for batch in contents:
        shared = batched_step.SharedInputs(fixed, placed, jnp.asarray(batch), weights)
        state, loss = step(shared, state, grams)
        history.append(jax.device_get(loss))
    assert step.cache_size() == 1  # compiled once, the first step included
    fast = {name: leaf for name, leaf in state.fast.items() if name not in IDLE}
    return fast, history, (network, contents, grams, weights)


def test_styles_of_one_batch_become_what_each_becomes_alone(disagreement):
    fast, history, (network, contents, grams, weights) = steps_together(1)
    for i in (0, 7):
        state, fixed, plan = adaptation_step.start(THETA, 'norm', schedule='constant')
        for batch, together_loss in zip(contents, history, strict=True):
            state, loss = adaptation_step.adapt_step(
                state, fixed, network, jnp.asarray(batch), tuple(g[i] for g in grams), weights,
                plan=plan,
            )  # fmt: skip
            disagreement(jax.tree.map(lambda x, i=i: x[i], together_loss), loss, 1e-5)
        own = {name: leaf[i] for name, leaf in fast.items()}
        disagreement(own, {name: state.fast[name] for name in fast}, 1e-5)
        for name, leaf in own.items():
            assert float(jnp.abs(leaf - tensor_files.flatten(THETA)[name]).max()) > 1e-4


def test_eight_devices_compute_what_one_device_computes(disagreement):
    (one, first, _), (eight, second, _) = steps_together(1), steps_together(8)
    assert len(next(iter(eight.values())).sharding.device_set) == 8
    disagreement(first, second, 1e-6)
    disagreement(jax.device_get(one), jax.device_get(eight), 1e-6)
