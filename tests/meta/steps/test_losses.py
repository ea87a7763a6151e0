"""How losses and optimizers are called, and losses that close over the meta-parameters."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from meta_helpers import every_mode, square

from metastyle_jax import meta
from metastyle_jax.core.errors import UserError
from metastyle_jax.meta.steps import losses

pytestmark = pytest.mark.usefixtures('x64')

INNER, OUTER = jnp.array([[1.0, 0.5], [0.2, 3.0]]), jnp.array([0.3, -0.4])
THETA = {'w': jnp.array([1.0, -2.0])}


def plain(params, batch):
    return square(params['w'], batch)


def anchored(params, batch, meta):
    """The proximal term of iMAML."""
    return plain(params, batch) + 0.7 * square(params['w'], meta.theta['w'])


def gradient(theta, inner_loss, outer_loss=plain, **options):
    options = {'optimizer': optax.sgd(0.3), **options}
    return meta.meta_gradient(
        meta.Meta(theta), INNER, OUTER, inner_loss=inner_loss, outer_loss=outer_loss, **options
    ).gradient.theta


def by_hand(theta):
    w = theta['w']
    for batch in INNER:
        w = w - 0.3 * ((w - batch) + 0.7 * (w - theta['w']))
    return square(w, OUTER)


@every_mode
def test_a_loss_that_gets_theta_has_the_whole_gradient(mode, disagreement):
    disagreement(gradient(THETA, anchored, mode=mode), jax.grad(by_hand)(THETA), 1e-12)


@every_mode
@pytest.mark.parametrize('which', ['inner', 'outer'])
@pytest.mark.parametrize('around', ['nothing', 'jit', 'vmap', 'scan', 'numpy', 'jit inside'])
def test_a_loss_that_closes_over_theta_is_refused(which, around, mode):
    def run(theta):
        near = lambda w: square(w, theta['w'])
        near = jax.jit(near) if around == 'jit inside' else near
        closing = lambda params, batch: plain(params, batch) + 0.7 * near(params['w'])
        given = (closing, plain) if which == 'inner' else (plain, closing)
        return gradient(theta, *given, mode=mode)

    def scanned(theta):
        return jax.lax.scan(lambda carry, _: (carry, run(theta)), 0, length=1)

    runs = {'jit': jax.jit(run), 'scan': scanned, 'vmap': jax.vmap(run)}
    theta = jax.tree.map(np.asarray, THETA) if around == 'numpy' else THETA
    theta = jax.tree.map(lambda x: x[None], theta) if around == 'vmap' else theta
    with pytest.raises(UserError, match=rf"the {which} loss closes over meta.theta\['w'\]"):
        runs.get(around, run)(theta)


def test_a_loss_may_close_over_a_copy_and_over_other_arrays():
    copied, other = jnp.copy(THETA['w']), jnp.array([1.0, -2.0])
    closing = lambda params, batch: plain(params, batch) + square(copied, params['w'] * other)
    assert np.isfinite(gradient(THETA, closing)['w']).all()


def test_only_parameters_without_default_are_filled():
    def declares(w, b, step, *, meta, state=None, **others):
        return 0.0

    assert losses.extras_of(declares) == {'step', 'meta'}
    assert losses.extras_of(functools.partial(declares, meta=None)) == {'step'}
    assert losses.extras_of(lambda w, b: 0.0) == losses.extras_of(max) == set()


def test_without_outer_loss_the_auxiliary_output_of_the_inner_loss_is_returned():
    loss = lambda params, batch, state: (plain(params, batch), state + 1, params['w'])
    result = meta.meta_gradient(
        meta.Meta(THETA), INNER, OUTER, inner_loss=loss, inner_has_aux=True, state=0
    )
    np.testing.assert_array_equal(result.aux, result.carry.params['w'])
    assert result.carry.state == 2
