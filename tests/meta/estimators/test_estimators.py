"""Every estimator of the meta-gradient, compared with the closed form of one problem.

The inner loss is ½ a (w − b)² + ½ λ (w − θ)² and the outer one ½ (w − c)², both in two dimensions.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from meta_helpers import (
    FULL_OPTIONS,
    Module,
    full_by_hand,
    full_outer,
    full_problem,
    full_start,
)

from metastyle_jax import meta
from metastyle_jax.core.errors import UserError

pytestmark = pytest.mark.usefixtures('x64')

A, B, C, RATE, STEPS = 1.5, np.array([1.0, -0.5]), np.array([0.2, 0.4]), 0.2, 6


def inner_loss(w, batch, meta):
    anchor = jnp.sum(jnp.square(w - meta.theta))
    return 0.5 * A * jnp.sum(jnp.square(w - batch)) + 0.5 * meta.hyper['λ'] * anchor


def outer_loss(w, batch):
    return 0.5 * jnp.sum(jnp.square(w - batch))


def optimizer(meta):
    return optax.sgd(meta.hyper['rate'])


OPTIONS = {'inner_loss': inner_loss, 'outer_loss': outer_loss, 'optimizer': optimizer}


def problem():
    return meta.Meta(jnp.array([2.0, 3.0]), hyper={'λ': jnp.array(0.6), 'rate': jnp.array(RATE)})


def closed_form(theta, weight, rate, steps):
    """The last w, and the gradients in θ, λ and the rate.

    A step maps w to (1 − δ(a + λ)) w + δ(a b + λ θ). With k = 1 − δ(a + λ), the fixed point
    w* = (a b + λ θ) / (a + λ) and w_0 = θ, this is w_T = w* + k^T (θ − w*).
    """
    total = A + weight
    k, fixed = 1 - rate * total, (A * B + weight * theta) / total
    last = fixed + k**steps * (theta - fixed)
    by_theta = weight / total * (1 - k**steps) + k**steps
    fixed_by_weight = (theta - fixed) / total
    by_weight = (1 - k**steps) * fixed_by_weight - steps * k ** (steps - 1) * rate * (theta - fixed)
    by_rate = -steps * k ** (steps - 1) * total * (theta - fixed)
    slope = last - C
    return last, by_theta * slope, by_weight @ slope, by_rate @ slope


def run(estimator, steps=STEPS, **options):
    call = lambda at: estimator(
        at, jnp.asarray(B), jnp.asarray(C), steps=steps, **OPTIONS, **options
    )
    return jax.jit(call)(problem())


EXACT = {
    'reverse': (meta.meta_gradient, {}),
    'mixed': (meta.meta_gradient, {'mode': 'mixed'}),
    'segments': (meta.meta_gradient, {'remat': 'sqrt'}),
    'forward': (meta.forward_gradient, {}),
}


@pytest.mark.parametrize('name', EXACT)
def test_exact_estimators_equal_the_closed_form(name):
    estimator, options = EXACT[name]
    last, theta, weight, rate = closed_form(np.array([2.0, 3.0]), 0.6, RATE, STEPS)
    result = run(estimator, **options)
    found = result.gradient
    np.testing.assert_allclose(found.hyper['λ'], weight, rtol=1e-12)
    np.testing.assert_allclose(found.hyper['rate'], rate, rtol=1e-12)
    np.testing.assert_allclose(result.outer_loss, outer_loss(last, C), rtol=1e-12)
    if name != 'forward':
        np.testing.assert_allclose(found.theta, theta, rtol=1e-12)


@pytest.mark.parametrize('solver', ['cg', 'neumann'])
def test_the_implicit_gradient_equals_the_closed_form_of_the_minimum(solver):
    _, theta, weight, _ = closed_form(np.array([2.0, 3.0]), 0.6, RATE, 200)
    result = run(meta.implicit_gradient, steps=200, solver=solver, iterations=60, rate=0.3)
    np.testing.assert_allclose(result.gradient.theta, theta, rtol=1e-9)
    np.testing.assert_allclose(result.gradient.hyper['λ'], weight, rtol=1e-9)
    assert result.gradient.hyper['rate'] == 0  # a minimum does not depend on the rate


def test_the_implicit_gradient_uses_the_mean_loss_of_several_batches_and_damping():
    batches = jnp.stack([B + 1.0, B - 1.0])  # their mean loss has its minimum where that of B has
    at = problem()
    options = {**OPTIONS, 'optimizer': optax.sgd(0.0), 'damping': 0.4}
    minimum = closed_form(np.array([2.0, 3.0]), 0.6, RATE, 200)[0]
    carry = meta.init_carry(at, optimizer=optax.sgd(0.0))._replace(params=jnp.asarray(minimum))
    run = lambda at: meta.implicit_gradient(at, batches, jnp.asarray(C), carry=carry, **options)
    result = jax.jit(run)(at)
    expected = 0.6 / (A + 0.6 + 0.4) * (carry.params - C)
    np.testing.assert_allclose(result.gradient.theta, expected, rtol=1e-9)


def test_evolution_strategies_estimate_the_gradient_of_a_quadratic():
    """With antithetic pairs and a quadratic F, the estimate is mean(ε εᵀ) ∇F / σ², exactly."""
    pairs, sigma, rng = 4000, 0.1, jax.random.key(0)
    found = run(meta.es_gradient, rng=rng, sigma=sigma, pairs=pairs, parts=('theta',)).gradient
    theta = closed_form(np.array([2.0, 3.0]), 0.6, RATE, STEPS)[1]
    noise = jax.random.normal(jax.random.split(jax.random.split(rng, 3)[0], 1)[0], (pairs, 2))
    np.testing.assert_allclose(found.theta, noise.T @ noise @ theta / pairs, rtol=1e-9)
    np.testing.assert_allclose(found.theta, theta, rtol=0.1)
    assert found.hyper == {'λ': 0, 'rate': 0}


def test_persistent_evolution_has_no_bias_of_truncation():
    """Over two windows, the sum of the estimates is near the gradient of both outer losses."""
    at, rng = problem(), jax.random.split(jax.random.key(1))
    target = jnp.asarray(C)

    def both(hyper):
        moved = at._replace(hyper=hyper)
        one, two = (
            meta.inner_loop(moved, jnp.asarray(B), loss=inner_loss, optimizer=optimizer, steps=n)
            for n in (1, 2)
        )
        return outer_loss(one.params, target) + outer_loss(two.params, target)

    exact = jax.grad(both)(at.hyper)
    particles = meta.init_particles(at, 4000, optimizer=optimizer)
    window = jax.jit(lambda key, carry: meta.pes_gradient(
        at, jnp.asarray(B), target, rng=key, carry=carry, sigma=0.003, steps=1, **OPTIONS
    ))  # fmt: skip
    truncate = jax.jit(lambda carry: meta.meta_gradient(
        at, jnp.asarray(B), target, carry=carry, steps=1, **OPTIONS
    ))  # fmt: skip
    total, truncated = 0.0, 0.0
    carry = meta.init_carry(at, optimizer=optimizer)
    for key in rng:
        result = window(key, particles)
        particles, total = result.carry, total + result.gradient.hyper['rate']
        short = truncate(carry)
        carry, truncated = short.carry, truncated + short.gradient.hyper['rate']
    np.testing.assert_allclose(total, exact['rate'], rtol=0.05)
    assert abs(truncated - exact['rate']) > 0.2 * abs(exact['rate'])


@pytest.mark.parametrize(
    ('estimator', 'options', 'message'),
    [
        (meta.es_gradient, {'sigma': 0.0}, 'sigma=0.0: it must be a number above 0'),
        (meta.es_gradient, {'parts': ('w',)}, "parts='w': it must be one of theta, rates, hyper"),
        (meta.pes_gradient, {'carry': None}, 'make it with init_particles'),
        (meta.implicit_gradient, {'rate': 0.0}, 'rate=0.0: it must be a number above 0'),
        (meta.implicit_gradient, {'outer_weights': jnp.ones(1)}, 'leave outer_weights out'),
        (meta.implicit_gradient, {'solver': 'lu'}, "solver='lu': it must be one of cg, neumann"),
    ],
)
def test_errors_of_estimators_name_the_option(estimator, options, message):
    rng = {} if estimator is meta.implicit_gradient else {'rng': jax.random.key(0)}
    with pytest.raises(UserError, match=message):
        estimator(problem(), B, C, steps=1, **OPTIONS, **rng, **options)


@pytest.mark.parametrize('weights', [None, [0.2, 0.5, 0.3]])
def test_forward_mode_equals_a_python_loop_with_every_part(weights, disagreement):
    at, inner, outer = full_problem(3)
    expected = jax.jit(jax.grad(lambda at: full_by_hand(at, inner, outer, weights=weights)[0]))(at)
    found = jax.jit(lambda *task: meta.forward_gradient(
        *task, state=full_start(), outer_loss=full_outer, **FULL_OPTIONS,
        outer_weights=None if weights is None else jnp.array(weights),
    ))(at, inner, outer).gradient  # fmt: skip
    disagreement(found[1:], expected[1:], 1e-12)


def test_forward_mode_needs_rates_or_hyperparameters():
    with pytest.raises(UserError, match='meta has neither'):
        meta.forward_gradient(meta.Meta(jnp.ones(2)), B, C, inner_loss=outer_loss, steps=1)


@pytest.mark.parametrize(
    'estimator',
    [
        meta.meta_gradient, meta.forward_gradient, meta.implicit_gradient, meta.es_gradient,
        meta.pes_gradient, meta.reptile_gradient,
    ],
)  # fmt: skip
def test_estimators_keep_the_settings_of_a_module_as_theta(estimator):
    """The activation of the module is a leaf that no transformation of JAX takes."""
    batch, make = jnp.array([1.0, 2.0]), lambda kernel: Module(kernel)
    plain = lambda w, batch, meta: outer_loss(make(w)(batch), 1.0) + meta.hyper * jnp.sum(w**2)
    on_module = lambda module, *given, meta: plain(module.fields[0], *given, meta=meta)

    def run(theta, loss):
        at, optimizer = meta.Meta(theta, hyper=jnp.array(0.3)), optax.sgd(0.1)
        evolves = estimator in (meta.es_gradient, meta.pes_gradient)
        if estimator is meta.pes_gradient:
            carry = meta.init_particles(at, 3, optimizer=optimizer)
        else:
            carry = meta.init_carry(at, optimizer=optimizer)
        return estimator(
            at, batch, batch, inner_loss=loss, optimizer=optimizer, steps=2, carry=carry,
            **({'rng': jax.random.key(0)} if evolves else {}),
        )  # fmt: skip

    kernel = jnp.array([0.5, -1.0])
    found, expected = run(make(kernel), on_module), run(kernel, plain)
    np.testing.assert_allclose(found.gradient.hyper, expected.gradient.hyper, rtol=1e-12)
    if expected.gradient.theta is not None:
        np.testing.assert_allclose(
            found.gradient.theta.fields[0], expected.gradient.theta, rtol=1e-12
        )
    if isinstance(found.carry, meta.Carry):
        assert found.carry.params.fields[1:] == make(kernel).fields[1:]
