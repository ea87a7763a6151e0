"""The convolution for XLA:CPU and its derivatives equal those of `jax.lax`."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metastyle_jax.models import cpu_convolution, layers

# Channels in and out, size of the kernel, stride, height of the image, padding.
CASES = [
    (4, 6, 3, 1, 9, 0),
    (40, 3, 3, 1, 10, 0),  # few output channels, for `_slide_gradient`
    (4, 5, 3, 2, 9, 0),
    (4, 5, 3, 2, 10, 0),  # the last row is not reached by the stride
    (3, 7, 2, 1, 8, 0),
    (3, 7, 3, 1, 8, 1),
    (40, 7, 3, 1, 8, 1),
    (3, 7, 5, 2, 9, 2),
    (3, 7, 5, 3, 8, 4),
]


def reference(x, kernel, *, stride, padding):
    pads = [(padding, padding)] * 2
    dimensions = ('NHWC', 'HWIO', 'NHWC')
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), pads, dimension_numbers=dimensions
    )


def example(case):
    channels, outputs, size, stride, height, padding = case
    x = jax.random.normal(jax.random.key(0), (2, height, height + 1, channels))
    kernel = jax.random.normal(jax.random.key(1), (size, size, channels, outputs))
    return x, kernel, {'stride': stride, 'padding': padding}


def energy(convolve, options):
    """A scalar whose second derivatives reach every pair of arguments."""
    return lambda x, kernel: jnp.sum(jnp.sin(convolve(x, kernel, **options)))


@pytest.mark.usefixtures('x64')
@pytest.mark.parametrize('case', CASES, ids=str)
def test_value_and_gradients_equal_those_of_lax(case, disagreement):
    x, kernel, options = example(case)
    found, expected = (
        jax.value_and_grad(energy(f, options), (0, 1))(x, kernel)
        for f in (cpu_convolution.convolve, reference)
    )
    disagreement(found, expected, 1e-12)


MODES = {
    'forward over reverse': lambda f, a, v: jax.jvp(jax.grad(f, (0, 1)), a, v)[1],
    'reverse over reverse': lambda f, a, v: jax.vjp(jax.grad(f, (0, 1)), *a)[1](v),
    'reverse over forward': lambda f, a, v: jax.grad(lambda *a: jax.jvp(f, a, v)[1], (0, 1))(*a),
    'forward over forward': lambda f, a, v: jax.jvp(lambda *a: jax.jvp(f, a, v)[1], a, v)[1],
}


@pytest.mark.usefixtures('x64')
@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('case', CASES[::2], ids=str)
def test_second_derivatives_in_every_mode_equal_those_of_lax(case, mode, disagreement):
    x, kernel, options = example(case)
    direction = jnp.cos(x), jnp.sin(kernel)
    found, expected = (
        jax.jit(functools.partial(MODES[mode], energy(f, options)))((x, kernel), direction)
        for f in (cpu_convolution.convolve, reference)
    )
    disagreement(found, expected, 1e-12)


@pytest.mark.usefixtures('x64')
def test_the_third_derivative_equals_that_of_lax(disagreement):
    x, kernel, options = example(CASES[2])
    along = lambda f: lambda k: jax.jvp(f, (k,), (jnp.sin(k),))[1]
    found, expected = (
        jax.grad(along(along(functools.partial(energy(f, options), x))))(kernel)
        for f in (cpu_convolution.convolve, reference)
    )
    disagreement(found, expected, 1e-12)


@pytest.mark.usefixtures('x64')
def test_gradients_under_vmap_over_kernels_equal_those_of_lax(disagreement):
    x, kernel, options = example(CASES[2])
    kernels = jnp.stack([kernel, 2 * kernel])
    found, expected = (
        jax.vmap(jax.grad(energy(f, options), 1), (None, 0))(x, kernels)
        for f in (cpu_convolution.convolve, reference)
    )
    disagreement(found, expected, 1e-12)


def test_no_convolution_of_a_gradient_swaps_the_axes_of_its_kernel():
    # XLA:CPU computes such a convolution nine times slower inside of a loop.
    x, kernel, options = example(CASES[5])
    gradient = jax.grad(energy(cpu_convolution.convolve, options), (0, 1))
    text = jax.jit(gradient).lower(x, kernel).as_text()
    assert text.count('stablehlo.convolution') == 3
    assert '[o, 0, 1, i]' not in text
    assert '[0, 1, o, i]' not in text


def test_zero_padded_convolution_equals_its_definition():
    x, kernel, _ = example(CASES[5])
    bias = jnp.arange(7.0)
    found = layers.zero_conv(x, kernel, bias)
    expected = reference(x, kernel, stride=1, padding=1) + bias[None, None, None]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
