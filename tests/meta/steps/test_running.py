"""Inner loops whose losses have a state, auxiliary data, hyperparameters and other batches."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from meta_helpers import (
    FULL_OPTIONS,
    every_mode,
    full_by_hand,
    full_optimizer,
    full_outer,
    full_problem,
    full_start,
    normal,
    square,
)

from metastyle_jax import meta
from metastyle_jax.core.errors import UserError

pytestmark = pytest.mark.usefixtures('x64')

OPTIONS = {**FULL_OPTIONS, 'outer_loss': full_outer}
# The whole problem in each way to store and recompute; 5 steps make segments of 3 and 2.
WAYS = [
    {'mode': mode, 'remat': remat, 'unroll': unroll}
    for mode in meta.MODES
    for remat, unroll in [
        (False, 1),
        (True, 1),
        ('sqrt', 1),
        (jax.checkpoint_policies.dots_saveable, 2),
    ]
]


@pytest.fixture(scope='module')
def expected():
    """Gradient and results of the full problem, by a plain Python loop."""
    with jax.enable_x64(True):
        problem, inner, outer = full_problem(5)
        run = jax.jit(jax.value_and_grad(full_by_hand, has_aux=True))
        return run(problem, inner, outer)


@pytest.mark.parametrize('way', WAYS, ids=str)
def test_a_loop_with_every_part_equals_a_python_loop(way, expected, disagreement):
    problem, inner, outer = full_problem(5)
    (value, (losses, hidden, _)), gradient = expected
    run = lambda *task: meta.meta_gradient(*task, state=full_start(), **OPTIONS, **way)
    result = jax.jit(run)(problem, inner, outer)
    disagreement(result.gradient, gradient, 1e-12)
    disagreement(result.outer_loss, value, 1e-12)
    disagreement(result.inner_losses, losses, 1e-12)
    disagreement(result.inner_aux['hidden'], hidden, 1e-12)
    assert (result.carry.step, result.carry.state['seen']) == (5, 5)


@every_mode
def test_a_loop_that_is_continued_gives_truncated_gradients(mode, disagreement):
    problem, inner, outer = full_problem(2)
    carry = meta.init_carry(problem, optimizer=full_optimizer, state=full_start())
    run = jax.jit(
        lambda carry: meta.meta_gradient(problem, inner, outer, carry=carry, mode=mode, **OPTIONS)
    )
    second = run(run(carry).carry)
    start = full_by_hand(problem, inner, outer)[1][2]
    by_hand = jax.value_and_grad(full_by_hand, has_aux=True)
    (value, (losses, _, end)), gradient = by_hand(problem, inner, outer, start=(*start, 2))
    disagreement(second.outer_loss, value, 1e-12)
    disagreement(second.gradient, gradient, 1e-12)
    disagreement(second.inner_losses, losses, 1e-12)
    disagreement(second.carry.params, end[0], 1e-12)
    assert second.carry.step == 4


def by_loop(theta, batches, outer, rate=0.3):
    for batch in batches:
        theta = theta - rate * jax.grad(square)(theta, batch)
    return square(theta, outer)


@every_mode
def test_batches_may_be_one_batch_a_function_of_the_step_or_nothing(mode, disagreement):
    theta, outer, table = (
        jnp.array([1.0, -2.0]),
        jnp.zeros(2),
        jnp.array([[1.0, 0.5], [0.2, 3], [1, 1]]),
    )
    run = lambda batches, loss=square, steps=3: meta.meta_gradient(
        meta.Meta(theta), batches, outer, inner_loss=loss, outer_loss=square, mode=mode,
        optimizer=optax.sgd(0.3), steps=steps,
    ).gradient.theta  # fmt: skip
    expected = jax.grad(by_loop)(theta, table, outer)
    disagreement(run(table, steps=None), expected, 1e-12)
    disagreement(run(lambda step: table[step]), expected, 1e-12)
    disagreement(run(None, lambda w, b, step: square(w, table[step])), expected, 1e-12)
    same = jax.grad(by_loop)(theta, [table[1]] * 3, outer)
    disagreement(run(table[1]), same, 1e-12)
    disagreement(run(table[1], steps=0), theta, 1e-12)


def test_frozen_tensors_have_a_gradient_even_if_no_step_follows():
    theta, outer = {'w': jnp.ones(2), 'frozen': jnp.array([2.0, 3.0])}, jnp.zeros(2)
    carry = meta.init_carry(meta.Meta(theta), adapted=lambda name: name == 'w')
    result = meta.meta_gradient(
        meta.Meta(theta), None, outer, steps=0, carry=carry, adapted=lambda name: name == 'w',
        inner_loss=lambda params, batch: square(params['w'] * params['frozen'], batch),
    )  # fmt: skip
    np.testing.assert_allclose(result.gradient.theta['frozen'], theta['frozen'])
    np.testing.assert_allclose(result.gradient.theta['w'], 0)  # the carry is a constant


def schedule(meta):
    return optax.sgd(lambda count: meta.hyper[count])


@every_mode
def test_a_schedule_of_learning_rates_is_a_hyperparameter(mode, disagreement):
    theta, table, outer = jnp.array([1.0, -2.0]), jnp.array([[1.0, 0.5], [0.2, 3]]), jnp.zeros(2)

    def by_hand(rates):
        w = theta
        for rate, batch in zip(rates, table, strict=True):
            w = w - rate * jax.grad(square)(w, batch)
        return square(w, outer)

    result = meta.meta_gradient(
        meta.Meta(theta, hyper=jnp.array([0.1, 0.2])), table, outer, inner_loss=square, mode=mode,
        optimizer=schedule,
    )  # fmt: skip
    disagreement(result.gradient.hyper, jax.grad(by_hand)(jnp.array([0.1, 0.2])), 1e-12)


@pytest.mark.parametrize(
    ('options', 'shape'),
    [
        ({}, ()),
        ({'steps': 4}, (4, 1, 1)),
        ({'each_element': True}, (2, 3)),
        ({'steps': 4, 'each_element': True}, (4, 2, 3)),
    ],
)
def test_initial_rates_may_be_of_each_step_and_of_each_element(options, shape):
    rates = meta.initial_rates({'w': jnp.ones((2, 3))}, 0.1, lambda name: True, **options)
    np.testing.assert_array_equal(rates['w'], np.full(shape, 0.1))


def dropped(params, batch, state):
    """A loss with dropout, whose state is a random key."""
    rng, now = jax.random.split(state)
    kept = jax.random.bernoulli(now, 0.5, batch.shape)
    return jnp.sum(jnp.sin(params * batch) ** 2 * kept), rng


@every_mode
@pytest.mark.parametrize('key', [jax.random.key, jax.random.PRNGKey])
def test_a_random_key_may_be_the_state(key, mode, disagreement):
    theta, table, outer = jnp.asarray(normal(0, 6)), jnp.asarray(normal(1, 3, 6)), jnp.zeros(6)

    def by_hand(w):
        rng = key(0)
        for batch in table:
            grads, rng = jax.grad(dropped, has_aux=True)(w, batch, rng)
            w = w - 0.1 * grads
        return square(w, outer)

    result = meta.meta_gradient(
        meta.Meta(theta), table, outer, inner_loss=dropped, outer_loss=square, state=key(0),
        mode=mode, optimizer=optax.sgd(0.1),
    )  # fmt: skip
    disagreement(result.gradient.theta, jax.grad(by_hand)(theta), 1e-12)


@every_mode
@pytest.mark.parametrize('shape', [(), (3,), (2, 1), (2, 3), (4, 1, 1), (4, 1, 3), (4, 2, 3)])
def test_rates_of_channels_and_of_steps_are_differentiated(shape, mode, disagreement):
    theta, rates = {'w': jnp.asarray(normal(0, 2, 3))}, {'w': 0.1 * jnp.asarray(normal(1, *shape))}
    table, outer = jnp.asarray(normal(2, 4, 2, 3)), jnp.asarray(normal(3, 2, 3))
    loss = lambda params, batch: jnp.sum(jnp.sin(params['w'] * batch) ** 2)

    def by_hand(theta, rates):
        for step, batch in enumerate(table):
            rate = rates['w'][step] if len(shape) == 3 else rates['w']
            slope = jax.grad(loss)(theta, batch)['w']
            theta = {'w': theta['w'] - jnp.broadcast_to(rate, (2, 3)) * slope}
        return loss(theta, outer)

    result = meta.meta_gradient(meta.Meta(theta, rates), table, outer, inner_loss=loss, mode=mode)
    expected = jax.grad(by_hand, argnums=(0, 1))(theta, rates)
    disagreement(result.gradient[:2], expected, 1e-12)


def state_that_grows(params, batch, state):
    return square(params, batch), jnp.append(state, 1.0)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'inner_batches': lambda step: jnp.ones(2)}, 'batches is a function: give steps'),
        ({'steps': -1}, 'steps=-1: it must be a whole number'),
        ({'remat': 'cube'}, "remat='cube': it must be True, False, 'sqrt'"),
        ({'carry': 3}, 'carry is of int: make it with init_carry'),
        ({'state': 1.0, 'carry': meta.Carry(jnp.ones(2), ())}, 'carry already holds the state'),
        ({'inner_loss': state_that_grows, 'state': jnp.ones(1)}, 'changes its state from'),
        ({'inner_loss': lambda w, b, state: square(w, b), 'state': 1.0}, '`state` must give'),
        ({'inner_has_aux': True}, r'has_aux=True must give a tuple, \(scalar, aux\)'),
        ({'outer_loss': lambda w, b: w}, r'outer loss has the shape \(2,\): give a scalar'),
        ({'outer_weights': jnp.ones(2)}, 'one weight for each of the 1 inner steps'),
        ({'meta': meta.Meta(jnp.ones(2), hyper={'n': 3})}, 'keep it out of hyper'),
        ({'optimizer': lambda meta: 0.1}, 'must be an optimizer of optax'),
        ({'meta': meta.Meta(jnp.ones(2), {'': jnp.ones((3, 1))})}, r'rate of .* shape \(3, 1\)'),
    ],
)  # fmt: skip
def test_errors_name_options_that_do_not_fit(change, message):
    given = {
        'meta': meta.Meta(jnp.ones(2)), 'inner_batches': jnp.ones((1, 2)),
        'outer_batch': jnp.ones(2), 'inner_loss': square, 'outer_loss': square,
    }  # fmt: skip
    with pytest.raises(UserError, match=message):
        meta.meta_gradient(**{**given, **change})


def test_a_loss_with_half_precision_and_adam_stays_finite():
    theta, batch = jnp.array([1.0, -2.0], jnp.float16), jnp.zeros(2)
    run = lambda theta: meta.meta_gradient(
        meta.Meta(theta), batch, batch, inner_loss=lambda w, b: 1e-4 * square(w.astype(float), b),
        outer_loss=lambda w, b: square(w.astype(float), b), steps=3,
        optimizer=optax.adam(0.1, eps_root=1e-8),
    ).gradient.theta  # fmt: skip
    wide = run(theta.astype(jnp.float32))
    assert np.isfinite(wide).all()
    np.testing.assert_allclose(run(theta).astype(float), wide, rtol=1e-2)
    np.testing.assert_allclose(run(jnp.zeros(2, jnp.float16)).astype(float), 0)
