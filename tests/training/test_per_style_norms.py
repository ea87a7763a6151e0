"""Styles with instance norms of their own in training."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import training_helpers

from metastyle_jax.core import trees
from metastyle_jax.core.devices import sharding
from metastyle_jax.data import batching
from metastyle_jax.models import gram, perceptual_loss, transformer, vgg
from metastyle_jax.storage import checkpoints
from metastyle_jax.training import outer_step, per_style_norms, training_state

STYLES = 16
IS_NORM = transformer.adapted('norm')


@pytest.fixture(scope='module')
def theta():
    return transformer.init(jax.random.key(0), width=2, blocks=1)


@pytest.fixture(scope='module')
def table(theta):
    """A table in which the offsets of all styles differ from zero."""
    empty = per_style_norms.create_table(theta, STYLES)
    rng = np.random.default_rng(0)
    offsets = {
        name: jnp.asarray(rng.normal(size=leaf.shape, scale=0.2), jnp.float32)
        for name, leaf in empty.offsets.items()
    }
    return empty._replace(
        offsets=offsets, center={name: leaf.mean(0) for name, leaf in offsets.items()}
    )


def norms_of(theta, table, style):
    """The instance norms of one style: those of θ plus its offset."""
    norms, _ = trees.partition(theta, IS_NORM)
    return {
        name: leaf + table.offsets[name][style] - table.center[name] for name, leaf in norms.items()
    }


def test_gradients_equal_those_of_each_style_alone(theta, table, disagreement):
    network = vgg.random(jax.random.key(1), width=2)
    batch = training_helpers.make_batch(3, steps=0)
    outer = np.random.default_rng(1).uniform(size=(3, 2, 16, 16, 3)).astype(np.float32)
    styles = batching.as_float(batch.style)
    index = jnp.array([4, 0, 9])
    config = training_helpers.make_config(outer_log_loss=True, loss_style_weight=10.0)
    gradients = jax.jit(functools.partial(per_style_norms.gradients, config=config))(
        theta, per_style_norms.offsets_of(table, index), network, outer,
        gram.of_images(network, styles),
    )  # fmt: skip

    def mean_loss(theta, own):
        total = 0.0
        _, rest = trees.partition(theta, IS_NORM)
        for i in range(3):
            norms = norms_of(theta, table, index[i])
            norms = {name: leaf + own[name][i] for name, leaf in norms.items()}
            params = trees.combine(theta, norms, rest)
            grams = gram.of_image(network, styles[i])
            loss = perceptual_loss.of_network(
                params, network, outer[i],
                perceptual_loss.compute_targets(network, outer[i], grams),
                perceptual_loss.LossWeights(style=10.0),
            ).total  # fmt: skip
            total += jnp.log(loss)
        return total / 3

    none = {name: jnp.zeros_like(leaf[:3]) for name, leaf in table.offsets.items()}
    expected, own = jax.jit(jax.grad(mean_loss, argnums=(0, 1)))(theta, none)
    disagreement(training_helpers.flat(gradients.theta), training_helpers.flat(expected), 1e-4)
    disagreement(training_helpers.flat(gradients.by_style), 3 * training_helpers.flat(own), 1e-4)


def test_only_the_styles_of_a_step_move_and_by_adam(theta, table):
    optimizer = optax.adam(0.1, b2=0.99)
    rng = np.random.default_rng(2)
    before, expected = theta, norms_of(theta, table, 5)
    start = table
    state = optimizer.init(expected)
    for others in ([5, 1], [5, 2], [3, 5]):
        index = jnp.array(others)
        gradients = {
            name: jnp.asarray(rng.normal(size=(2, *leaf.shape[1:])), jnp.float32)
            for name, leaf in table.offsets.items()
        }
        theta, table = per_style_norms.update(theta, table, index, gradients, rate=0.1)
        own = {name: leaf[others.index(5)] for name, leaf in gradients.items()}
        updates, state = optimizer.update(own, state)
        expected = optax.apply_updates(expected, updates)
    norms = norms_of(theta, table, 5)
    np.testing.assert_allclose(
        training_helpers.flat(norms), training_helpers.flat(expected), rtol=1e-5, atol=1e-5
    )
    still = (norms_of(theta, table, 7), norms_of(before, start, 7))
    np.testing.assert_allclose(*map(training_helpers.flat, still), rtol=1e-5, atol=1e-5)
    assert table.visits.tolist() == [{5: 3, 1: 1, 2: 1, 3: 1}.get(i, 0) for i in range(STYLES)]


def test_the_norms_of_theta_are_the_mean_over_styles(theta, table):
    gradients = {name: jnp.ones_like(leaf[:2]) for name, leaf in table.offsets.items()}
    index = jnp.array([3, 3])  # the same style twice in one step, as at the end of an epoch
    theta, table = per_style_norms.update(theta, table, index, gradients, rate=0.1)
    means = jax.tree.map(lambda *leaves: jnp.mean(jnp.stack(leaves), 0),
                         *(norms_of(theta, table, i) for i in range(STYLES)))  # fmt: skip
    norms, _ = trees.partition(theta, IS_NORM)
    np.testing.assert_allclose(
        training_helpers.flat(means), training_helpers.flat(norms), atol=1e-5
    )


def test_a_step_on_one_and_eight_devices_agrees_and_is_restored(disagreement, tmp_path):
    network = vgg.random(jax.random.key(1), width=2)
    config = training_helpers.make_config(
        inner_steps=0, outer_norms_rate=0.01, outer_optimizer='sgd'
    )
    batch = training_helpers.make_batch(8, steps=0)
    batch = batch._replace(style_index=np.arange(8, dtype=np.int32)[::-1].copy())
    start = training_state.create_state(config, jax.random.key(0), styles=STYLES)

    def run(devices):
        step = sharding.spread(
            functools.partial(outer_step.train_step, config=config), shared=2, devices=devices
        )
        return step(*sharding.replicate((start, network), devices), batch)

    def parts(theta, table):
        norms, rest = trees.partition(theta, IS_NORM)
        return {name: norms[name] - table.center[name] for name in norms}, rest, table.first

    (one, metrics), (eight, _) = run(1), run(8)
    # If a gradient is nearly zero, rounding decides the sign of Adam's first step. Therefore the
    # first moments are compared instead of offsets.
    for a, b in zip(*([parts(x.params, x.table) for x in (one, eight)]), strict=True):
        disagreement(training_helpers.flat(b), training_helpers.flat(a), 1e-4)
    assert one.table.visits.tolist() == [1] * 8 + [0] * 8
    assert one.step == 1
    assert np.isfinite(metrics.outer)
    with checkpoints.Manager(tmp_path / 'checkpoints') as manager:
        manager.save(1, one, data_state={})
        restored = manager.restore(start)
    for a, b in zip(jax.tree.leaves(one.table), jax.tree.leaves(restored.state.table), strict=True):
        np.testing.assert_array_equal(a, b)
