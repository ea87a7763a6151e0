"""Optimizers of the inner loop and of the outer step."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from training_helpers import make_config

from metastyle_jax import meta
from metastyle_jax.training import optimizers


def test_the_inverse_schedule_is_that_of_the_paper():
    config = make_config(outer_decay=2.5e-5)
    np.testing.assert_allclose(optimizers.rate_decay(config, 40_000), 0.5)
    optimizer = optimizers.inner_optimizer(config, 40_000)
    updates, _ = optimizer.update({'w': jnp.ones(())}, optimizer.init({'w': jnp.ones(())}))
    np.testing.assert_allclose(updates['w'], -0.005, rtol=1e-6)


def test_the_cosine_schedule_falls_from_1_to_a_twentieth():
    config = make_config(outer_schedule='cosine')
    factors = [float(optimizers.rate_decay(config, step)) for step in (0, 5, 10, 20)]
    np.testing.assert_allclose(factors, [1, 0.525, 0.05, 0.05], rtol=1e-5)


def test_gradients_of_theta_and_of_rates_are_clipped_separately():
    config = make_config(outer_clip=1.0, outer_warmup=0)
    optimizer = optimizers.outer_optimizer(config)
    big = meta.Meta({'w': jnp.full((4,), 100.0)}, {'w': jnp.full((), 1e6)})
    _, state = optimizer.update(big, optimizer.init(big))
    moment = optax.tree.get(state, 'mu')  # θ and rates are clipped separately
    np.testing.assert_allclose(moment.theta['w'], 0.1 * 0.5 * np.ones(4), rtol=1e-5)
    np.testing.assert_allclose(moment.rates['w'], 0.1, rtol=1e-5)


def test_rates_speed_multiplies_the_updates_of_inner_rates():
    gradient = meta.Meta({'w': jnp.array([1.0, -2.0])}, {'w': jnp.array(3.0)})
    moved = {}
    for speed in (1.0, 10.0):
        optimizer = optimizers.outer_optimizer(make_config(outer_rates_speed=speed))
        moved[speed], _ = optimizer.update(gradient, optimizer.init(gradient), gradient)
    np.testing.assert_array_equal(moved[10.0].theta['w'], moved[1.0].theta['w'])
    np.testing.assert_allclose(moved[10.0].rates['w'], 10 * moved[1.0].rates['w'], rtol=1e-6)
    assert moved[1.0].rates['w'] < 0


@pytest.mark.parametrize(
    ('rates_per', 'shapes'),
    [
        ('tensor', ((), ())),
        ('element', ((4,), (9, 9, 2, 3))),
        ('step', ((3, 1), (3, 1, 1, 1, 1))),
        ('step_element', ((3, 4), (3, 9, 9, 2, 3))),
    ],
)
def test_inner_rates_have_the_shapes_that_the_configuration_asks_for(rates_per, shapes):
    config = make_config(inner_learn_rates=True, inner_steps=3, inner_rates_per=rates_per)
    theta = {'norm': {'scale': jnp.ones(4)}, 'out': {'kernel': jnp.ones((9, 9, 2, 3))}}
    rates = optimizers.initial_log_rates(theta, config)
    assert (rates['norm/scale'].shape, rates['out/kernel'].shape) == shapes
    np.testing.assert_allclose(np.exp(rates['out/kernel']), config.inner.rate, rtol=1e-5)


def test_rates_of_an_earlier_training_go_on_where_the_shapes_are_the_same():
    config = make_config(inner_learn_rates=True, inner_rates_per='element', inner_max_rate=0.5)
    theta = {'a': jnp.ones(2), 'b': jnp.ones(3), 'c': jnp.ones(2)}
    given = {'a': np.array([0.1, 9.0]), 'b': np.ones(()), 'unknown': np.ones(2)}
    rates = jax.tree.map(jnp.exp, optimizers.initial_log_rates(theta, config, given))
    assert sorted(rates) == ['a', 'b', 'c']
    np.testing.assert_allclose(rates['a'], [0.1, 0.5], rtol=1e-5)
    for name in 'bc':
        np.testing.assert_allclose(rates[name], config.inner.rate, rtol=1e-5)


def test_a_frozen_theta_gets_no_updates():
    gradient = meta.Meta({'w': jnp.array([1.0, -2.0])}, {'w': jnp.array(3.0)})
    config = make_config(outer_freeze_theta=True, inner_learn_rates=True)
    optimizer = optimizers.outer_optimizer(config)
    moved, _ = optimizer.update(gradient, optimizer.init(gradient), gradient)
    assert not moved.theta['w'].any()
    assert moved.rates['w'] < 0
