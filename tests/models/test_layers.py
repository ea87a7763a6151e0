"""Layers: equal formulations, definitions and derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from metastyle_jax.core import errors
from metastyle_jax.models import gram, layers


def uniform(seed, *shape):
    return np.random.default_rng(seed).uniform(size=shape)


def derivatives(layer, x, kernel):
    """Value, gradient, and Hessian-vector product of a layer, in its input and its kernel."""
    loss = lambda x, kernel: jnp.sum(jnp.sin(layer(x, kernel)))
    along = (np.cos(x), np.cos(kernel))
    gradient, product = jax.jvp(jax.grad(loss, argnums=(0, 1)), (x, kernel), along)
    return layer(x, kernel), gradient, product


@pytest.mark.parametrize('size', [3, 9])
@pytest.mark.usefixtures('x64')
def test_formulations_of_a_convolution_are_equal_to_second_order(size, disagreement):
    x, bias = uniform(0, 2, 12, 14, 3), uniform(2, 5)
    kernel = uniform(1, size, size, 3, 5) / size**2
    expected, *others = (
        derivatives(
            lambda x, kernel, form=form: layers.reflect_conv(x, kernel, bias, formulation=form),
            x,
            kernel,
        )
        for form in ('plain', 'cropped', 'blocked')
    )
    for found in others:
        disagreement(found, expected, 1e-12)


@pytest.mark.usefixtures('x64')
def test_formulations_of_a_strided_convolution_are_equal():
    x, kernel, bias = uniform(0, 2, 11, 14, 3), uniform(1, 3, 3, 3, 5), uniform(2, 5)
    run = lambda form: layers.reflect_conv(x, kernel, bias, stride=2, formulation=form)
    np.testing.assert_allclose(run('cropped'), run('plain'), rtol=1e-12)
    for odd, stride in ((x, 1), (x[:, :10], 2)):
        with pytest.raises(errors.UserError, match=f"'blocked' at stride {stride}"):
            layers.reflect_conv(odd, kernel, bias, stride=stride, formulation='blocked')


@pytest.mark.usefixtures('x64')
def test_formulations_of_upsampling_are_equal_to_second_order(disagreement):
    x, kernel, bias = uniform(0, 2, 5, 6, 3), uniform(1, 3, 3, 3, 4) / 9, uniform(2, 4)

    def layer(form):
        return lambda x, kernel: layers.upsample_conv(
            x, kernel, bias, height=10, width=12, formulation=form
        )

    expected = derivatives(layer('plain'), x, kernel)
    disagreement(derivatives(layer('phases'), x, kernel), expected, 1e-12)
    by_hand = layers.reflect_conv(layers.upsample(x, height=10, width=12), kernel, bias)
    np.testing.assert_allclose(expected[0], by_hand, rtol=1e-12)
    with pytest.raises(errors.UserError, match='9 x 12'):
        layers.upsample_conv(x, kernel, bias, height=9, width=12, formulation='phases')


@pytest.mark.usefixtures('x64')
def test_convolution_equals_its_definition():
    x, kernel, bias = uniform(0, 1, 6, 7, 2), uniform(1, 3, 3, 2, 4), uniform(2, 4)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode='reflect')
    for stride in (1, 2):
        found = layers.reflect_conv(x, kernel, bias, stride=stride)
        expected = np.zeros(found.shape)
        for i, j in np.ndindex(found.shape[1:3]):
            patch = padded[0, stride * i : stride * i + 3, stride * j : stride * j + 3]
            expected[0, i, j] = np.einsum('hwc,hwcd->d', patch, kernel) + bias
        np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.usefixtures('x64')
def test_instance_norm_normalizes_and_stays_finite_on_constant_channels():
    x = uniform(0, 2, 5, 6, 3)
    y = layers.instance_norm(x, np.ones(3), np.zeros(3))
    np.testing.assert_allclose(jnp.mean(y, (1, 2)), np.zeros((2, 3)), atol=1e-12)
    np.testing.assert_allclose(jnp.var(y, (1, 2)), np.ones((2, 3)), rtol=1e-3)
    squared = lambda x: jnp.sum(jnp.square(layers.instance_norm(x, np.ones(3), np.zeros(3))))
    constant = np.full((1, 4, 4, 3), 0.5)
    assert jnp.all(jnp.isfinite(jax.grad(squared)(constant)))
    assert jnp.all(jnp.isfinite(jax.grad(lambda x: jnp.sum(jax.grad(squared)(x)))(constant)))


@pytest.mark.usefixtures('x64')
def test_layers_are_differentiable_to_second_order():
    x, kernel = uniform(0, 1, 5, 5, 2), uniform(1, 3, 3, 2, 2)

    def whole(x, kernel, scale):
        y = layers.reflect_conv(x, kernel, np.zeros(2))
        y = layers.instance_norm(y, scale, np.zeros(2))
        y = layers.upsample(jnp.tanh(y), height=9, width=10)
        return jnp.sum(jnp.square(gram.gram(y)))

    check_grads(whole, (x, kernel, uniform(2, 2)), order=2, rtol=1e-5, atol=1e-5)


def test_upsampling_repeats_each_pixel_and_crops():
    x = np.arange(6.0).reshape(1, 2, 3, 1)
    y = layers.upsample(x, height=3, width=6)
    np.testing.assert_array_equal(
        y[0, :, :, 0], np.repeat(np.repeat(x[0, :, :, 0], 2, 0), 2, 1)[:3]
    )
