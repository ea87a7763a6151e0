"""Meta-parameters that reach a computation as constants are refused, or a warning names them."""

import inspect
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from meta_helpers import square

from metastyle_jax import meta
from metastyle_jax.core.errors import UserError

pytestmark = pytest.mark.usefixtures('x64')

THETA, INNER, OUTER = jnp.array([1.0, -2.0]), jnp.ones((2, 2)), jnp.zeros(2)
ESTIMATORS = (meta.meta_gradient, meta.reptile_gradient, meta.implicit_gradient)


def with_hyper(params, batch, meta):
    return square(params, batch) + jnp.sum(meta.hyper) * jnp.sum(params**2)


def gradient(theta, hyper, estimator=meta.meta_gradient, **change):
    given = {
        'inner_batches': INNER, 'outer_batch': OUTER, 'inner_loss': with_hyper,
        'outer_loss': square, 'optimizer': optax.sgd(0.1), **change,
    }  # fmt: skip
    return estimator(meta.Meta(theta, hyper=hyper), **given).gradient


def pulled_to(theta):
    """An optimizer that pulls the parameters to θ."""
    pull = lambda updates, params: jax.tree.map(lambda u, p: u - (p - theta), updates, params)
    return optax.chain(optax.sgd(0.1), optax.stateless(pull))


CLOSING = {
    'optimizer, hyper': lambda theta, hyper: {'optimizer': lambda meta: optax.sgd(hyper)},
    'optimizer, theta': lambda theta, hyper: {'optimizer': pulled_to(theta)},
    'function of batches, hyper': lambda theta, hyper: {
        'inner_batches': lambda step: INNER[step] * hyper, 'steps': 2
    },
    'inner_batches, theta': lambda theta, hyper: {'inner_batches': {'x': theta}, 'steps': 2},
    'outer_batch, hyper': lambda theta, hyper: {'outer_batch': (OUTER, hyper)},
    'state, theta': lambda theta, hyper: {'state': theta},
}  # fmt: skip


@pytest.mark.parametrize('which', CLOSING)
@pytest.mark.parametrize('around', ['nothing', 'jit', 'numpy'])
def test_meta_parameters_that_are_constants_for_the_gradient_are_refused(which, around):
    run = lambda theta, hyper: gradient(theta, hyper, **CLOSING[which](theta, hyper))
    what, part = which.split(', ')
    if (around, which) == ('numpy', 'optimizer, hyper'):
        pytest.skip('optax.sgd computes another array by NumPy, outside of any trace')
    given = (np.array(THETA), np.array([0.3])) if around == 'numpy' else (THETA, jnp.array(0.3))
    with pytest.raises(UserError, match=f'{what} (closes over|holds) meta.{part}, a constant'):
        (jax.jit(run) if around == 'jit' else run)(*given)


@pytest.mark.parametrize('estimator', ESTIMATORS)
def test_functions_of_meta_and_copies_are_not_refused(estimator):
    hyper, copied = jnp.array(0.3), jnp.array(0.3)
    run = lambda **change: gradient(THETA, hyper, estimator, **change)
    made = run(optimizer=lambda meta: optax.sgd(meta.hyper))
    fixed = run(optimizer=lambda meta: optax.sgd(copied))
    np.testing.assert_allclose(made.theta, fixed.theta, rtol=1e-12)


def test_equal_numbers_of_python_are_not_taken_for_one_array():
    count = lambda params, batch, meta, state: (with_hyper(params, batch, meta), state + 1.0)
    assert np.isfinite(gradient(THETA, 0.5, inner_loss=count, state=0.5).hyper)


def test_a_warning_says_that_nothing_asks_for_hyperparameters():
    hyper = jnp.array(0.3)  # optax.sgd computes -hyper at once, so the array itself is gone
    with pytest.warns(UserWarning, match='meta.hyper has the gradient zero') as seen:
        found = gradient(THETA, hyper, inner_loss=square, optimizer=optax.sgd(hyper))
    assert found.hyper == 0
    assert seen[0].filename == __file__


@jax.custom_vjp
def reversed_gradient(x):
    return x


reversed_gradient.defvjp(lambda x: (x, None), lambda _, g: (-g,))


def through(estimator):
    """A function of θ, and the line on which it calls the package, for each estimator."""
    options = {'optimizer': optax.sgd(0.1), 'mode': 'mixed'}
    loss = lambda params, batch: square(reversed_gradient(params), batch)
    if estimator is meta.inner_loop:
        call = lambda theta: meta.inner_loop(meta.Meta(theta), INNER, loss=loss, **options).params
        return call, inspect.getsourcelines(call)[1]
    call = lambda theta: estimator(meta.Meta(theta), INNER, OUTER, inner_loss=loss, **options)[1]
    return call, inspect.getsourcelines(call)[1]


@pytest.mark.parametrize('estimator', [meta.inner_loop, *ESTIMATORS])
@pytest.mark.parametrize('around', ['nothing', 'jit', 'vmap', 'scan'])
def test_the_warning_of_mixed_mode_names_the_line_of_the_caller(estimator, around):
    call, line = through(estimator)
    scanned = lambda theta: jax.lax.scan(lambda carry, _: (carry, call(theta)), 0, length=1)
    run = {'jit': jax.jit(call), 'vmap': jax.vmap(call), 'scan': scanned}.get(around, call)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter('always')
        run(THETA[None] if around == 'vmap' else THETA)
    places = {(w.filename, w.lineno) for w in seen if 'is used instead' in str(w.message)}
    assert places == {(__file__, line)}
