"""Tasks and losses of meta-training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training_helpers import make_config

from metastyle_jax import meta
from metastyle_jax.core import trees
from metastyle_jax.models import gram, vgg
from metastyle_jax.training import objective, training_state


@pytest.fixture(scope='module')
def network():
    return vgg.random(jax.random.key(1), width=2)


def test_tasks_have_the_targets_of_each_content_batch(network):
    contents = np.random.default_rng(0).uniform(size=(3, 2, 16, 16, 3)).astype(np.float32)
    tasks = objective.make_tasks(network, contents, gram.of_image(network, contents[0, 0]))
    for t in range(3):
        expected = vgg.content_features(network, contents[t])
        np.testing.assert_allclose(tasks.targets.content[t], expected, atol=1e-5)
    grams = gram.of_image(network, contents[0, 0])
    for target, expected in zip(tasks.targets.grams, grams, strict=True):
        np.testing.assert_allclose(target[2], expected, atol=1e-5)


def test_tasks_without_gram_matrices_have_the_same_loss(network):
    config = make_config()
    theta = training_state.create_state(config, jax.random.key(0)).params
    contents = np.random.default_rng(0).uniform(size=(2, 1, 16, 16, 3)).astype(np.float32)
    grams = gram.of_image(network, contents[0, 0])
    evaluate = objective.loss(network, config)
    losses = []
    for function, given in ((evaluate, grams), (objective.with_grams(evaluate, grams), ())):
        tasks = objective.make_tasks(network, contents, given)
        losses.append(function(theta, jax.tree.map(lambda leaf: leaf[1], tasks)))
    for a, b in zip(*losses, strict=True):
        np.testing.assert_array_equal(a, b)


def test_with_params_norm_the_inner_loop_moves_only_instance_norms(network):
    config = make_config(inner_params='norm')
    state = training_state.create_state(config, jax.random.key(0))
    evaluate = objective.loss(network, config)
    contents = np.random.default_rng(0).uniform(size=(1, 1, 16, 16, 3)).astype(np.float32)
    tasks = objective.make_tasks(network, contents, gram.of_image(network, contents[0, 0]))
    result = meta.inner_loop(
        meta.Meta(state.params), tasks,
        loss=lambda params, task: evaluate(params, task).total,
        **objective.inner_options(config, 0),
    )  # fmt: skip
    for name, before, after in zip(
        trees.names(state.params), jax.tree.leaves(state.params), jax.tree.leaves(result.params),
        strict=True,
    ):  # fmt: skip
        moves = 'norm' in name and not name.endswith('second/norm/bias')  # which changes no output
        assert bool(jnp.any(before != after)) == moves, name
