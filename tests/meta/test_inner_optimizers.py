"""Inner optimizers by name, and the default that keeps Adam's second derivatives finite."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metastyle_jax.core.errors import UserError
from metastyle_jax.meta import inner_optimizers
from metastyle_jax.training.configuration import schema


@pytest.mark.parametrize('name', inner_optimizers.NAMES)
def test_second_derivatives_at_a_zero_gradient_are_finite(name):
    optimizer = inner_optimizers.by_name(name, 0.1)

    def moved(params):
        updates, _ = optimizer.update(jax.grad(lambda x: jnp.sum(x**2))(params), state, params)
        return jnp.sum(params + updates)

    params = jnp.zeros(2)
    state = optimizer.init(params)
    assert np.isfinite(jax.grad(moved)(params)).all()


def test_the_configuration_of_training_has_the_same_eps_root():
    assert schema.InnerConfig().eps_root == inner_optimizers.EPS_ROOT


def test_an_unknown_name_is_refused():
    with pytest.raises(UserError, match="optimizer='lamb': it must be one of sgd, momentum, adam"):
        inner_optimizers.by_name('lamb', 0.1)
