"""Inner rates that fit the gradients."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training_helpers import file_config, make_batch, make_config

from metastyle_jax.core import trees
from metastyle_jax.data import batching
from metastyle_jax.models import gram, transformer, vgg
from metastyle_jax.storage import theta_files
from metastyle_jax.training import objective, rate_scaling, train, training_state


# The norms have as many elements (two) as the loop has steps: shapes do not tell the cases apart.
@pytest.mark.parametrize('rates_per', ['step_element', 'step', 'element', 'tensor'])
def test_rates_are_inverse_to_the_root_mean_square_of_the_gradients(rates_per):
    network = vgg.random(jax.random.key(1), width=2)
    config = make_config(
        inner_learn_rates=True, inner_steps=2, inner_rates_per=rates_per, inner_params='norm',
        inner_scale_batches=1, inner_max_rate=1e9,
    )  # fmt: skip
    state = training_state.create_state(config, jax.random.key(0))
    batch = make_batch(2, steps=2)
    found = rate_scaling.scaled_log_rates(state, network, itertools.repeat(batch), config=config)

    fast, slow = trees.partition(state.params, transformer.adapted('norm'))
    evaluate = objective.loss(network, config)
    squares = []
    for i in range(2):
        grams = gram.of_image(network, batching.as_float(batch.style[i]))
        tasks = objective.make_tasks(network, batching.as_float(batch.inner[i]), grams)
        for t in range(2):
            task = jax.tree.map(lambda leaf, t=t: leaf[t], tasks)
            total = lambda fast, task: evaluate(trees.combine(state.params, fast, slow), task).total
            squares.append(jax.tree.map(jnp.square, jax.jit(jax.grad(total))(fast, task)))
    mean = jax.tree.map(lambda *leaves: np.mean(leaves, axis=0), *squares)
    damping = 0.1 * np.median(np.sqrt(np.concatenate([np.ravel(leaf) for leaf in mean.values()])))
    for name, log_rates in found.items():
        assert log_rates.shape == state.log_rates[name].shape
        square = mean[name] if 'element' in rates_per else np.mean(mean[name])
        expected = config.inner.rate / (np.sqrt(square) + damping)
        expected = np.broadcast_to(expected, log_rates.shape)
        np.testing.assert_allclose(np.exp(log_rates), expected, rtol=1e-3)


def test_a_run_begins_with_scaled_rates(tmp_path):
    networks = {}
    for name, batches in {'scaled': 1, 'plain': 0}.items():
        config = file_config(
            'pretrained.py:tiny', steps=1, inner__learn_rates=True, inner__scale_batches=batches,
            inner__max_rate=1e6, outer__rate=1e-9, outer__rates_speed=0.0, log__pictures=0,
        )  # fmt: skip
        assert train.train(config, tmp_path / name) == 0
        networks[name] = theta_files.load_theta(tmp_path / name)
        if name == 'scaled':
            assert train.train(config, tmp_path / name) == 0  # resumes, and scales nothing
    rates = [np.stack(list(networks[name].rates.values())) for name in ('scaled', 'plain')]
    assert len(np.unique(rates[0])) > 10
    np.testing.assert_allclose(rates[1], config.inner.rate, rtol=1e-5)
