"""Mixed mode on losses as users write them: custom derivative rules, half precision, NaN."""

import functools

import jax
import jax.numpy as jnp
import jax.scipy.linalg
import jax.scipy.special
import jax.scipy.stats
import numpy as np
import optax
import pytest
import scipy.special
from jax.experimental import ode
from meta_helpers import by_hand, every_mode, square

from metastyle_jax import meta
from metastyle_jax.core import jax_compat
from metastyle_jax.meta import forward_over_reverse

# Custom derivative rules that are not true derivatives. -------------------------------------------


@jax.custom_vjp
def reversed_gradient(x):
    return x


reversed_gradient.defvjp(lambda x: (x, None), lambda _, g: (-g,))


@jax.custom_vjp
def clipped_gradient(x):
    return x


clipped_gradient.defvjp(lambda x: (x, None), lambda _, g: (jnp.clip(g, -0.1, 0.1),))


@jax.custom_jvp
def spike(x):
    return jnp.where(x > 0, 1.0, 0.0)


spike.defjvp(lambda p, t: (spike(p[0]), t[0] / (1 + jnp.square(p[0]))))


@jax.custom_gradient
def rounded(x):
    return jnp.round(x), lambda g: g


RULES = {
    'reversed': reversed_gradient,
    'clipped': clipped_gradient,
    'spike': spike,
    'rounded': rounded,
}


@pytest.mark.usefixtures('x64')
@every_mode
@pytest.mark.parametrize('name', RULES)
@pytest.mark.parametrize('wrap', ['plain', 'jit', 'scan', 'cond'])
def test_mixed_mode_falls_back_to_reverse_for_rules_that_are_no_true_derivatives(name, wrap, mode):
    def inside(x):
        if wrap == 'jit':
            return jax.jit(RULES[name])(x)
        if wrap == 'scan':
            return jax.lax.scan(lambda carry, _: (RULES[name](carry), None), x, length=1)[0]
        if wrap == 'cond':
            return jax.lax.cond(jnp.sum(x) < 1e9, RULES[name], jnp.negative, x)
        return RULES[name](x)

    def loss(p, b):
        hidden = jnp.tanh(p['out'] * inside(jnp.tanh(p['in'] * b)))
        return jnp.sum(jnp.square(hidden - b) * p['out'])

    rng = np.random.default_rng(0)
    theta = {'in': jnp.asarray(rng.normal(size=3)), 'out': jnp.asarray(rng.normal(size=3))}
    inner, outer = rng.normal(size=(2, 3)), rng.normal(size=3)
    options = {'optimizer': optax.sgd(0.3)}
    expected = by_hand(theta, inner, outer, loss=loss, **options)
    run = functools.partial(meta.meta_gradient, inner_loss=loss, mode=mode, **options)
    if mode == 'reverse':
        result = run(meta.Meta(theta), inner, outer)
    else:
        with pytest.warns(UserWarning, match="mode='reverse' is used instead"):
            result = run(meta.Meta(theta), inner, outer)
    for part in theta:
        np.testing.assert_allclose(result.gradient.theta[part], expected[part], rtol=1e-12)


@pytest.mark.usefixtures('x64')
def test_mixed_mode_is_kept_for_rules_of_jax_and_for_trusted_rules():
    @jax.custom_vjp
    def sine(x):
        return jnp.sin(x)

    sine.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (g * jnp.cos(x),))
    losses = {
        'of JAX': lambda w, b: jnp.sum(jax.nn.relu(w * b)) + jax.nn.logsumexp(jax.nn.softplus(w)),
        'own': lambda w, b: jnp.sum(jnp.square(sine(w) - b)),
    }
    theta, inner, outer = jnp.arange(1.0, 4), jnp.ones((2, 3)), jnp.full(3, 2.0)
    for name, loss in losses.items():  # a warning would fail the test
        expected = by_hand(theta, inner, outer, loss=loss, optimizer=optax.sgd(0.1))
        for remat in (False, True):
            result = meta.meta_gradient(
                meta.Meta(theta), inner, outer, inner_loss=loss, optimizer=optax.sgd(0.1),
                mode='mixed', remat=remat, trust_rules=name == 'own',
            )  # fmt: skip
            np.testing.assert_allclose(result.gradient.theta, expected, rtol=1e-12)


# Types and values. --------------------------------------------------------------------------------


@every_mode
@pytest.mark.parametrize('remat', [False, True])
@pytest.mark.parametrize('short', [jnp.bfloat16, jnp.float16])
def test_half_precision_parameters_work_with_a_float32_loss(mode, remat, short):
    loss = lambda w, b: square(w.astype(jnp.float32), b)
    result = meta.meta_gradient(
        meta.Meta(jnp.ones(2, short)), jnp.zeros((3, 2)), jnp.zeros(2), inner_loss=loss,
        optimizer=optax.sgd(0.5), mode=mode, remat=remat,
    )  # fmt: skip
    assert result.gradient.theta.dtype == short
    np.testing.assert_allclose(result.gradient.theta.astype(float), 0.5**6, rtol=1e-2)


@every_mode
@pytest.mark.parametrize('remat', [False, True])
def test_nan_gradients_of_frozen_parameters_do_not_reach_the_result(mode, remat):
    theta = {'body': jnp.zeros(2), 'head': jnp.ones(2)}
    outer = lambda p, b: jnp.sum(jnp.square(p['head'] + p['body'] - b))
    inner = lambda p, b: outer(p, b) + jnp.linalg.norm(p['body'])  # its gradient at zero is NaN
    result = meta.meta_gradient(
        meta.Meta(theta), jnp.zeros((1, 2)), jnp.full(2, 3.0), inner_loss=inner, outer_loss=outer,
        adapted=lambda name: name == 'head', mode=mode, remat=remat,
    )  # fmt: skip
    np.testing.assert_allclose(result.gradient.theta['body'], -3.9996, rtol=1e-5)


# Derivative rules of JAX itself. ------------------------------------------------------------------


def decay(rate):
    """Solution of y' = -rate·y at t = 1 by an adaptive solver, which has a `jax.custom_vjp`."""
    times = jnp.array([0.0, 1.0])
    return ode.odeint(lambda y, t: -rate * y, jnp.ones_like(rate), times, rtol=1e-3, atol=1e-3)[1]


@pytest.mark.usefixtures('x64')
def test_mixed_mode_falls_back_to_reverse_for_rules_of_jax_without_forward_derivative():
    loss = lambda w, b: jnp.sum(jnp.square(decay(w) - b))
    theta, batches = jnp.array([0.5]), jnp.ones((1, 1))
    run = jax.jit(
        lambda mode: meta.meta_gradient(
            meta.Meta(theta), batches, 0 * batches[0], inner_loss=loss, outer_loss=square,
            optimizer=optax.sgd(0.1), mode=mode,
        ).gradient.theta,
        static_argnums=0,
    )  # fmt: skip
    with pytest.warns(UserWarning, match="mode='reverse' is used.*rules have none, such as"):
        mixed = run('mixed')
    np.testing.assert_array_equal(mixed, run('reverse'))


def calls_of(namespace):
    """Every public function of a namespace, as functions of one vector."""
    key = jax.random.key(0)
    for name in dir(namespace):
        function = getattr(namespace, name)
        if name.startswith('_') or not callable(function) or isinstance(function, type):
            continue
        if namespace in MATRICES:
            yield name, lambda v, f=function: f(jnp.outer(v, v) + jnp.eye(3))
            yield name, lambda v, f=function: f(jnp.outer(v, v) + jnp.eye(3), v)
        elif namespace is jax.random:
            yield name, lambda v, f=function: f(key, v)
            yield name, lambda v, f=function: f(key, v, v)
        else:
            yield name, function
            yield name, lambda v, f=function: f(v, v)


MATRICES = (jax.numpy.linalg, jax.scipy.linalg)
NAMESPACES = (jax.nn, jax.scipy.special, jax.scipy.stats.poisson, *MATRICES, jax.random, ode)


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('namespace', NAMESPACES)
def test_the_public_functions_of_jax_with_rules_are_supported_or_recognized(namespace):
    """Only traced: compiling all of them would take minutes."""
    vector, seen, refused = jnp.array([0.31, 0.52, 0.73]), set(), set()
    calls = [('odeint', decay)] if namespace is ode else calls_of(namespace)
    for name, call in calls:
        loss = lambda fast, call=call: (jnp.sum(jnp.asarray(call(fast['w']))), None)
        try:
            traced = forward_over_reverse.trace(loss, {'w': vector})
        except Exception:
            continue  # it does not take these arguments
        if jax_compat.has_primitive(traced.closed, 'custom_', 'random_gamma'):
            try:
                jax.eval_shape(jax.grad(lambda w, loss=loss: loss({'w': w})[0]), vector)
            except Exception:
                continue  # it has not even a first derivative
            seen.add(name)
            if not forward_over_reverse.is_supported(traced, {'w': vector}):
                refused.add(name)
                continue
            gradient = jax.grad(lambda w, loss=loss: loss({'w': w})[0])
            jax.eval_shape(lambda w, g=gradient: jax.jvp(g, (w,), (w,)), vector)  # must not fail
    assert seen
    assert refused == ({'odeint'} if namespace is ode else set())


@pytest.mark.usefixtures('x64')
@pytest.mark.parametrize('shape', [0.7, 3.3])
def test_mixed_mode_differentiates_gamma_samples_along_their_quantile(shape):
    """Reverse mode of JAX cannot; the reference is the inverse of the distribution function."""
    sample = lambda a: jax.random.gamma(jax.random.key(3), a)
    at = float(scipy.special.gammainc(shape, sample(shape)))
    quantile = lambda a: scipy.special.gammaincinv(a, at)
    h = 1e-4 * shape
    second = (quantile(shape + h) - 2 * quantile(shape) + quantile(shape - h)) / h**2
    result = meta.meta_gradient(
        meta.Meta(jnp.asarray(shape)), jnp.zeros(1), jnp.zeros(()), mode='mixed',
        inner_loss=lambda w, b: sample(w), outer_loss=lambda w, b: w, optimizer=optax.sgd(1.0),
    )  # fmt: skip
    np.testing.assert_allclose(1 - result.gradient.theta, second, rtol=1e-4, atol=1e-6)
