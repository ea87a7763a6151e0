"""The Flax module: the parameters and the pictures of the pure functions."""

import helpers
import jax
import numpy as np
import optax
import pytest

from metastyle_jax.core.errors import UserError
from metastyle_jax.models import transformer
from metastyle_jax.models.linen.style_transformer import StyleTransformer

IMAGES = np.random.default_rng(0).random((2, 17, 20, 3), np.float32)
MODULE = StyleTransformer(width=2, blocks=2)


def test_parameters_are_those_of_the_pure_functions():
    rng = jax.random.key(3)
    found = MODULE.init(rng, IMAGES)['params']
    helpers.assert_identical(found, transformer.init(rng, width=2, blocks=2))


def test_pictures_are_those_of_the_pure_functions():
    params = transformer.init(jax.random.key(0), width=2, blocks=2)
    found = MODULE.apply({'params': params}, IMAGES)
    np.testing.assert_array_equal(found, transformer.apply(params, IMAGES))


def test_it_trains_as_any_flax_module_does():
    params = MODULE.init(jax.random.key(0), IMAGES)['params']

    def loss(params):
        return jax.numpy.mean((MODULE.apply({'params': params}, IMAGES) - IMAGES) ** 2)

    optimizer = optax.adam(1e-2)
    state, losses = optimizer.init(params), []
    step = jax.jit(jax.value_and_grad(loss))
    for _ in range(5):
        value, gradient = step(params)
        updates, state = optimizer.update(gradient, state)
        params = optax.apply_updates(params, updates)
        losses.append(float(value))
    assert losses == sorted(losses, reverse=True)
    transformer.check(params)


def test_images_that_are_too_small_are_refused():
    with pytest.raises(UserError, match='at least 16'):
        MODULE.init(jax.random.key(0), IMAGES[:, :8])
