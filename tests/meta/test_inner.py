"""The inner loop: what can be differentiated, its options, optimizers and learned rates."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree
from meta_helpers import (
    RATE,
    every_mode,
    looped_sgd,
    network_batches,
    network_loss,
    small_params,
    square,
)

from metastyle_jax import meta


@pytest.mark.usefixtures('x64')
@every_mode
def test_unrolling_changes_no_result(mode, disagreement):
    theta, (inner, outer) = small_params(), network_batches(4)
    run = lambda unroll: jax.jit(
        lambda theta: (
            meta.meta_gradient(
                meta.Meta(theta), inner, outer, inner_loss=network_loss, mode=mode, unroll=unroll
            ).gradient.theta
        )
    )(theta)
    for unroll in (1, 2, None):
        disagreement(run(unroll), ravel_pytree(run(4))[0], 1e-12)


@pytest.mark.usefixtures('x64')
@every_mode
def test_the_inner_loop_can_be_differentiated_in_its_batches(mode, disagreement):
    theta, (inner, outer) = small_params(), network_batches(2)

    def objective(y):
        result = meta.inner_loop(
            meta.Meta(theta), (inner[0], y), loss=network_loss, mode=mode,
            optimizer=optax.sgd(RATE),
        )  # fmt: skip
        return network_loss(result.params, outer)

    expected = jax.grad(lambda y: network_loss(looped_sgd(theta, inner, y)[0], outer))(inner[1])
    assert jnp.max(jnp.abs(expected)) > 0
    disagreement(jax.grad(objective)(inner[1]), expected, 1e-12)


@pytest.mark.usefixtures('x64')
@every_mode
def test_inner_losses_can_be_differentiated(mode, disagreement):
    theta, (inner, _) = small_params(), network_batches(3)

    def sums(theta):
        result = meta.inner_loop(
            meta.Meta(theta), inner, loss=network_loss, mode=mode, optimizer=optax.sgd(RATE)
        )
        return jnp.sum(result.losses)

    expected = jax.grad(lambda theta: looped_sgd(theta, inner, inner[1])[1])(theta)
    disagreement(jax.grad(sums)(theta), expected, 1e-12)


@pytest.mark.usefixtures('x64')
@every_mode
def test_arrays_that_the_loss_closes_over_can_be_differentiated(mode, disagreement):
    theta, (inner, outer) = small_params(), network_batches(2)

    def objective(shift, run):
        loss = lambda params, batch: network_loss(params, (batch[0] + shift, batch[1]))
        if run == 'loop':
            moved = (inner[0] + shift, inner[1])
            return network_loss(looped_sgd(theta, moved, inner[1])[0], outer)
        result = meta.inner_loop(
            meta.Meta(theta), inner, loss=loss, mode=run, optimizer=optax.sgd(RATE)
        )
        return network_loss(result.params, outer)

    expected = jax.grad(objective)(jnp.asarray(0.3), 'loop')
    disagreement(
        jax.jit(jax.grad(objective), static_argnums=1)(jnp.asarray(0.3), mode), expected, 1e-12
    )


@pytest.mark.usefixtures('x64')
@every_mode
def test_batches_may_hold_integers(mode):
    loss = lambda w, batch: jnp.sum(jnp.square(w[batch['index']] - batch['y']))
    batch = {'index': jnp.array([0, 2]), 'y': jnp.ones(2)}
    stacked = jax.tree.map(lambda x: x[None], batch)
    result = meta.meta_gradient(
        meta.Meta(jnp.zeros(3)), stacked, batch, inner_loss=loss, mode=mode,
        optimizer=optax.sgd(0.25),
    )  # fmt: skip
    np.testing.assert_allclose(result.gradient.theta, [-0.5, 0.0, -0.5])


@pytest.mark.usefixtures('x64')
@every_mode
def test_an_inner_rate_may_have_the_shape_of_its_parameter(mode):
    theta, rates = {'w': jnp.arange(3.0)}, {'w': jnp.array([0.1, 0.2, 0.3])}
    result = meta.meta_gradient(
        meta.Meta(theta, rates), jnp.ones((1, 3)), jnp.full(3, 2.0),
        inner_loss=lambda p, b: square(p['w'], b), mode=mode,
    )  # fmt: skip
    left = (1 - rates['w']) * (theta['w'] - 1) - 1  # w₁ - b'
    np.testing.assert_allclose(result.gradient.theta['w'], (1 - rates['w']) * left, rtol=1e-12)
    np.testing.assert_allclose(result.gradient.rates['w'], -(theta['w'] - 1) * left, rtol=1e-12)


@pytest.mark.usefixtures('x64')
@every_mode
def test_an_optimizer_that_needs_the_loss_gets_it(mode):
    theta, inner, outer = jnp.array([3.0, -1.0]), jnp.ones((1, 2)), jnp.zeros(2)
    result = meta.meta_gradient(
        meta.Meta(theta), inner, outer, inner_loss=square, mode=mode,
        optimizer=optax.polyak_sgd(max_learning_rate=10.0),
    )  # fmt: skip
    # Polyak's step size L / |∇L|² is 1/2 everywhere, but its derivative is not zero.
    step = lambda w: w - square(w, inner[0]) / jnp.sum(jnp.square(w - inner[0])) * (w - inner[0])
    expected = jax.grad(lambda w: square(step(w), outer))(theta)
    np.testing.assert_allclose(result.gradient.theta, expected, rtol=1e-10)


@every_mode
def test_first_order_treats_the_loss_that_the_optimizer_gets_as_constant(mode):
    result = meta.meta_gradient(
        meta.Meta(jnp.array([3.0, -1.0])), jnp.ones((1, 2)), jnp.zeros(2), inner_loss=square,
        optimizer=optax.polyak_sgd(max_learning_rate=10.0), order='first', mode=mode,
    )  # fmt: skip
    assert result.second_order_norm == 0
