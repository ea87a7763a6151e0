"""The cache of Gram matrices."""

import functools

import jax
import numpy as np
import pytest
from training_helpers import flat, make_batch, make_config

from metastyle_jax.core.devices import sharding
from metastyle_jax.models import vgg
from metastyle_jax.training import gram_cache, outer_step, training_state


@pytest.fixture(scope='module')
def network():
    return vgg.random(jax.random.key(1), width=2)


@pytest.mark.parametrize('changes', [{}, {'inner_steps': 0, 'outer_norms_rate': 0.1}])
def test_a_step_from_cached_gram_matrices_equals_the_step_from_style_images(
    network, disagreement, changes
):
    config = make_config(outer_styles=2, outer_optimizer='sgd', **changes)
    batch = make_batch(2, steps=config.inner.steps)
    batch = batch._replace(style_index=np.array([3, 1], np.int32))
    kept = gram_cache.GramCache(network, 1.0)(batch)
    state = training_state.create_state(config, jax.random.key(0), styles=4)
    step = sharding.spread(
        functools.partial(outer_step.train_step, config=config), shared=2, devices=1
    )
    (plain, _), (fast, _) = (step(state, network, each) for each in (batch, kept))
    start = flat(state.params)
    disagreement(flat(fast.params) - start, flat(plain.params) - start, 1e-4)


def test_the_cache_respects_its_memory_limit(network):
    one, two = make_batch(1), make_batch(1)
    two = two._replace(style=255 - one.style, style_index=np.array([1], np.int32))
    size = sum(layer.nbytes for layer in gram_cache.GramCache(network, 0)(one).grams)
    kept = gram_cache.GramCache(network, 1.5 * size / 2**30)
    grams = [kept(batch).grams for batch in (one, two, one)]
    assert kept.count == 1
    for first, other, again in zip(*grams, strict=True):
        np.testing.assert_array_equal(first, again)
        assert np.any(first != other)
    # A cached style is not computed again, even if its pixels differ.
    stale = kept(one._replace(style=two.style)).grams
    np.testing.assert_array_equal(stale[0], grams[0][0])
