"""Exactness of the meta-gradient in float64, compared with four independent references."""

import functools
import gc
import itertools
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree
from meta_helpers import (
    RATE,
    every_mode,
    network_batches,
    network_loss,
    normal,
    small_params,
    square,
)

from metastyle_jax import meta
from metastyle_jax.core import trees
from metastyle_jax.models import gram, perceptual_loss, transformer, vgg

pytestmark = pytest.mark.usefixtures('x64')

every_problem = pytest.mark.parametrize(
    ('steps', 'subset'), list(itertools.product((1, 2, 5), ('all', 'norm')))
)


# Each test compares all of these with one reference, so the reference is compiled only once.
VARIANTS = [{'mode': mode, 'remat': remat} for mode in meta.MODES for remat in (False, True)]


def with_rates(theta, subset):
    rates = meta.initial_rates(theta, RATE, transformer.adapted(subset))
    return {name: rate * (1 + 0.1 * i) for i, (name, rate) in enumerate(sorted(rates.items()))}


def gradient(meta_params, inner, outer, **options):
    """Calls `meta_gradient` under `jax.jit`."""
    run = lambda *data: meta.meta_gradient(*data, **options)
    return jax.jit(run)(meta_params, inner, outer)


# Reference 1: the closed form on a quadratic inner loss. ------------------------------------------


def quadratic_problem(steps):
    """Inner loss ½ (Mz − b)ᵀA(Mz − b) and outer loss ½ |z − b'|², over all parameters z.

    Returns:
        M, A, the inner targets b, the outer target b', and the two losses.
    """
    size = ravel_pytree(small_params())[0].size
    m = normal(4, size, size) / size**0.5
    root = normal(5, size, size) / size**0.5
    a = root @ root.T + np.eye(size)
    targets, outer_target = normal(6, steps, size), normal(7, size)

    def inner(params, b):
        r = m @ ravel_pytree(params)[0] - b
        return 0.5 * r @ a @ r

    def outer(params, b):
        return 0.5 * jnp.sum(jnp.square(ravel_pytree(params)[0] - b))

    return m, a, targets, outer_target, inner, outer


def closed_form(theta, rates, steps):
    """The meta-gradient of the quadratic problem, from the derivative of each step.

    With the diagonal matrix P of inner rates, a step is z_t = z_{t−1} − P MᵀA(M z_{t−1} − b_t).
    Its Jacobian in θ is therefore J_t = (I − P MᵀAM) J_{t−1}.

    Returns:
        The gradient in θ (flat), the gradient in each rate, and the first-order gradient (flat).
    """
    m, a, targets, outer_target, _, _ = quadratic_problem(steps)
    z = np.asarray(ravel_pytree(theta)[0])
    names = trees.names(theta)
    sizes = [leaf.size for leaf in jax.tree.leaves(theta)]
    owner = np.repeat(np.arange(len(names)), sizes)
    scale = np.array([float(rates.get(name, 0.0)) for name in names])[owner]
    jacobian = np.eye(z.size)
    by_rate = {name: np.zeros(z.size) for name in rates}
    for b in targets:
        gradient = m.T @ a @ (m @ z - b)
        contraction = np.eye(z.size) - scale[:, None] * (m.T @ a @ m)
        for name in rates:
            mask = owner == names.index(name)
            by_rate[name] = contraction @ by_rate[name] - mask * gradient
        z, jacobian = z - scale * gradient, contraction @ jacobian
    first = z - outer_target
    return jacobian.T @ first, {name: d @ first for name, d in by_rate.items()}, first


@every_problem
def test_meta_gradient_of_a_quadratic_equals_its_closed_form(steps, subset, disagreement):
    theta, (*_, targets, outer_target, inner, outer) = small_params(), quadratic_problem(steps)
    rates = with_rates(theta, subset)
    expected, expected_rates, first = closed_form(theta, rates, steps)
    for variant in VARIANTS:
        result = gradient(
            meta.Meta(theta, rates), targets, outer_target, inner_loss=inner, outer_loss=outer,
            optimizer=optax.sgd(1.0), adapted=transformer.adapted(subset), **variant,
        )  # fmt: skip
        disagreement(result.gradient.theta, expected, 1e-12)
        disagreement(result.gradient.rates, expected_rates, 1e-12)
        # The closed form of the difference from the first-order gradient is (J_T − I)ᵀ∇L'.
        disagreement(result.second_order_norm, np.linalg.norm(expected - first), 1e-12)
        disagreement(result.first_order_norm, np.linalg.norm(first), 1e-12)
        assert result.second_order_norm > 0.01 * result.first_order_norm


@every_mode
@pytest.mark.parametrize('subset', ['all', 'norm'])
@pytest.mark.parametrize('steps', [1, 2, 5])
def test_first_order_differs_from_exact_by_the_closed_form_term(steps, subset, mode, disagreement):
    theta, (*_, targets, outer_target, inner, outer) = small_params(), quadratic_problem(steps)
    rates = with_rates(theta, subset)

    def run(order):
        return gradient(
            meta.Meta(theta, rates), targets, outer_target, inner_loss=inner, outer_loss=outer,
            optimizer=optax.sgd(1.0), adapted=transformer.adapted(subset), mode=mode, order=order,
        )  # fmt: skip

    exact, first = run('exact'), run('first')
    expected, _, expected_first = closed_form(theta, rates, steps)
    disagreement(first.gradient.theta, expected_first, 1e-12)
    difference = jax.tree.map(jnp.subtract, exact.gradient.theta, first.gradient.theta)
    disagreement(difference, expected - expected_first, 1e-12)
    assert first.second_order_norm == 0


# Reference 2: a Python loop differentiated by `jax.grad`. -----------------------------------------


def looped(meta_params, inner, outer, *, optimizer, subset):
    """The outer loss after a plain Python loop, which uses none of the package's inner loop."""
    chosen = transformer.adapted(subset)
    leaves, treedef = jax.tree.flatten(meta_params.theta)
    names = trees.names(meta_params.theta)
    state = optimizer.init({n: x for n, x in zip(names, leaves, strict=True) if chosen(n)})
    for t in range(len(inner[0])):
        batch = (inner[0][t], inner[1][t])
        grads = jax.grad(network_loss)(jax.tree.unflatten(treedef, leaves), batch)
        grads = dict(zip(names, jax.tree.leaves(grads), strict=True))
        fast = {n: x for n, x in zip(names, leaves, strict=True) if chosen(n)}
        updates, state = optimizer.update({n: grads[n] for n in fast}, state, fast)
        rates = meta_params.rates or dict.fromkeys(names, 1.0)
        leaves = [
            x + rates[n] * updates[n] if n in updates else x
            for n, x in zip(names, leaves, strict=True)
        ]
    return network_loss(jax.tree.unflatten(treedef, leaves), outer)


OPTIMIZERS = {
    'sgd': lambda: optax.sgd(RATE),
    'adam': lambda: optax.adam(1e-2, eps_root=1e-8),
}


@every_problem
@pytest.mark.parametrize('optimizer', OPTIMIZERS)
def test_meta_gradient_equals_that_of_a_python_loop(steps, subset, optimizer, disagreement):
    theta, (inner, outer) = small_params(), network_batches(steps)
    expected = jax.jit(
        jax.value_and_grad(looped), static_argnames=('optimizer', 'subset')
    )(meta.Meta(theta), inner, outer, optimizer=OPTIMIZERS[optimizer](), subset=subset)  # fmt: skip
    for variant in VARIANTS:
        result = gradient(
            meta.Meta(theta), inner, outer, inner_loss=network_loss,
            optimizer=OPTIMIZERS[optimizer](), adapted=transformer.adapted(subset), unroll=1,
            **variant,
        )  # fmt: skip
        assert all(jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(result))
        disagreement(result.outer_loss, expected[0], 1e-12)
        disagreement(result.gradient.theta, expected[1].theta, 1e-12)


# Reference 3: finite differences on a smooth network. ---------------------------------------------


def directional(objective, at, step):
    """Central difference (F(x + h·d) − F(x − h·d)) / 2h along a random unit vector d.

    Returns:
        The difference, and d.
    """
    flat, unravel = ravel_pytree(at)
    direction = normal(12, flat.size)
    direction /= np.linalg.norm(direction)
    up, down = (
        objective(unravel(flat + step * direction)),
        objective(unravel(flat - step * direction)),
    )
    return (up - down) / (2 * step), direction


@every_problem
@pytest.mark.parametrize('learned', [False, True], ids=['fixed', 'learned-rates'])
def test_finite_differences_on_a_smooth_network(steps, subset, learned, disagreement):
    theta, (inner, outer) = small_params(), network_batches(steps)
    rates = with_rates(theta, subset) if learned else None
    optimizer = optax.sgd(1.0 if learned else RATE)
    at = meta.Meta(theta, rates)
    objective = jax.jit(lambda at: looped(at, inner, outer, optimizer=optimizer, subset=subset))
    slope, direction = directional(objective, at, 1e-5)
    for variant in VARIANTS:
        result = gradient(
            at, inner, outer, inner_loss=network_loss, optimizer=optimizer,
            adapted=transformer.adapted(subset), unroll=1, **variant,
        )  # fmt: skip
        disagreement(ravel_pytree(result.gradient)[0] @ direction, slope, 1e-6)


# Reference 4: finite differences on the transformer and VGG-16 at reduced width. ------------------


def style_loss(network, params, batch):
    """The perceptual loss that training uses; `batch` is (contents, style)."""
    contents, style = batch
    grams = gram.of_image(network, style[0])
    targets = perceptual_loss.compute_targets(network, contents, grams)
    weights = perceptual_loss.LossWeights(style=10.0)
    return perceptual_loss.of_network(params, network, contents, targets, weights).total


def style_batches(steps):
    uniform = lambda seed, *shape: np.random.default_rng(seed).uniform(size=shape)
    style = uniform(0, 1, 16, 16, 3)
    inner = (uniform(1, steps, 1, 16, 16, 3), np.broadcast_to(style, (steps, *style.shape)))
    return inner, (uniform(2, 1, 16, 16, 3), style)


@every_problem
def test_finite_differences_on_transformer_and_vgg(steps, subset, disagreement):
    double = lambda tree: jax.tree.map(lambda x: x.astype(jnp.float64), tree)
    theta = double(transformer.init(jax.random.key(0), width=4, blocks=1))
    loss = functools.partial(style_loss, double(vgg.random(jax.random.key(1), width=4)))
    inner, outer = style_batches(steps)
    options = {
        'optimizer': optax.sgd(0.02), 'adapted': transformer.adapted(subset), 'unroll': 1,
    }  # fmt: skip

    def objective(theta):
        return loss(meta.inner_loop(meta.Meta(theta), inner, loss=loss, **options).params, outer)

    slope, direction = directional(jax.jit(objective), theta, 1e-7)
    for variant in VARIANTS:
        result = gradient(meta.Meta(theta), inner, outer, inner_loss=loss, **options, **variant)
        disagreement(ravel_pytree(result.gradient.theta)[0] @ direction, slope, 1e-5)
        assert result.second_order_norm > 1e-3 * result.first_order_norm


# Other promises. ----------------------------------------------------------------------------------


def test_without_inner_steps_the_meta_gradient_is_the_gradient_of_the_outer_loss():
    theta = {'w': jnp.asarray(normal(0, 4))}
    loss = lambda params, b: jnp.sum(jnp.sin(params['w'] * b))
    rates = {'w': jnp.asarray(0.1)}
    for mode in meta.MODES:
        result = meta.meta_gradient(
            meta.Meta(theta, rates), jnp.zeros((0, 4)), normal(1, 4), inner_loss=loss, mode=mode
        )
        expected = jax.grad(loss)(theta, normal(1, 4))
        np.testing.assert_array_equal(result.gradient.theta['w'], expected['w'])
        assert result.gradient.rates['w'] == result.second_order_norm == 0
        assert result.inner_losses.shape == (0,)


def test_aux_of_the_outer_loss_is_returned():
    loss = lambda w, b: jnp.sum(jnp.square(w - b))
    result = meta.meta_gradient(
        meta.Meta(jnp.zeros(2)), jnp.ones((1, 2)), jnp.ones(2), inner_loss=loss,
        outer_loss=lambda w, b: (loss(w, b), {'w': w}), has_aux=True, optimizer=optax.sgd(0.25),
    )  # fmt: skip
    np.testing.assert_allclose(result.aux['w'], [0.5, 0.5])


@every_mode
def test_calls_outside_jit_do_not_keep_arrays_alive(mode):
    theta = jnp.arange(3.0)
    loss = lambda w, b: jnp.sum(jnp.square(w - b) * jnp.ones(3))
    meta.meta_gradient(meta.Meta(theta), jnp.ones((2, 3)), jnp.ones(3), inner_loss=loss, mode=mode)
    alive = weakref.ref(theta)
    del theta
    gc.collect()
    assert alive() is None


@every_mode
def test_norms_of_half_precision_gradients_do_not_overflow(mode):
    result = meta.meta_gradient(
        meta.Meta(jnp.full(1000, 30.0, jnp.float16)), jnp.zeros((1, 1000)), jnp.zeros(1000),
        inner_loss=lambda w, b: square(w.astype(jnp.float32), b), optimizer=optax.sgd(0.1),
        mode=mode,
    )  # fmt: skip
    np.testing.assert_allclose(result.first_order_norm, 27 * 1000**0.5, rtol=1e-3)
