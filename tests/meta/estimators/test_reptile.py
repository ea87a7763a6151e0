"""The direction of Reptile."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metastyle_jax import meta


@pytest.mark.usefixtures('x64')
def test_reptile_direction_is_theta_minus_the_adapted_parameters():
    loss = lambda params, b: 0.5 * jnp.sum((params['w'] - b) ** 2)
    theta = {'w': jnp.zeros(2)}
    result = meta.reptile_gradient(
        meta.Meta(theta), jnp.ones((2, 2)), jnp.ones(2), inner_loss=loss, optimizer=optax.sgd(0.5)
    )
    np.testing.assert_allclose(result.gradient.theta['w'], [-0.75, -0.75])  # θ - (1 - 0.5²)
    assert result.outer_loss == 0.0625
    assert result.second_order_norm == 0
