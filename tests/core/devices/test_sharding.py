"""Steps that are spread over the eight virtual devices of the test suite."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metastyle_jax.core import errors
from metastyle_jax.core.devices import sharding


def test_a_batch_that_was_put_on_the_devices_gives_the_same_result():
    batch = {
        'a': np.arange(16.0, dtype=np.float32).reshape(8, 2),
        'none': np.zeros((8, 0), np.int8),
    }
    step = sharding.spread(
        lambda scale, batch: sharding.mean(scale * jnp.square(batch['a'])), shared=1, devices=4
    )
    placed = sharding.put(batch, 4)
    assert len(placed.parts['a'].sharding.device_set) == 4
    scale = sharding.replicate(jnp.float32(3), 4)
    np.testing.assert_array_equal(step(scale, placed), step(scale, batch))


def test_gather_joins_the_parts_of_all_devices_in_their_order():
    step = sharding.spread(lambda batch: sharding.gather(2 * batch), shared=0, devices=4)
    np.testing.assert_array_equal(step(np.arange(8.0)), 2 * np.arange(8.0))


def test_divided_returns_the_results_of_each_style_and_compiles_once():
    step = sharding.divided(
        lambda weight, total, batch: (total + weight * batch, batch.ndim * jnp.int32(1)),
        shared=1,
        devices=4,
    )
    weight = sharding.replicate(jnp.float32(2), 4)
    total = np.zeros(8, np.float32)
    for _ in range(2):
        total, axes = step(weight, total, np.arange(8, dtype=np.float32))
    np.testing.assert_array_equal(total, 4 * np.arange(8))
    assert axes == 1
    assert step.cache_size() == 1


def test_styles_that_cannot_be_divided_evenly_are_refused():
    with pytest.raises(errors.UserError, match='6 styles a step cannot be shared out over 4'):
        sharding.put(np.zeros((6, 2)), 4)
    sharding.check_divisible(8, 4)


def test_a_number_of_devices_that_does_not_exist_is_refused():
    assert sharding.count() == jax.device_count() == 8
    assert sharding.count(3) == 3
    with pytest.raises(errors.UserError, match='devices=9: there are 8 devices'):
        sharding.count(9, name='devices')
