"""The examples run, and their exact meta-gradient differs from the first-order one."""

import sys

import helpers

sys.path.insert(0, str(helpers.ROOT))

import jax  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402

from examples import sinusoid  # noqa: E402


def test_the_sinusoid_example_trains_in_both_orders():
    theta = sinusoid.init(jax.random.key(0))
    opt_state = optax.adam(1e-3).init(theta)
    trained = {
        order: sinusoid.train(theta, opt_state, jax.random.key(1), order=order, steps=2)
        for order in ('exact', 'first')
    }
    errors = sinusoid.evaluate(trained['exact'][0], jax.random.key(2), tasks=3, steps=2)
    assert errors.shape == (3,)
    assert np.isfinite(errors).all()
    kernels = [params['layer1']['kernel'] for params, *_ in trained.values()]
    assert np.abs(kernels[0] - kernels[1]).max() > 0
