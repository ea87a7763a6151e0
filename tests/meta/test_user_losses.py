"""Meta-gradients as others use them: their losses, parameters, optimizers and meshes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from metastyle_jax import meta
from metastyle_jax.core import errors, jax_compat

every_mode = pytest.mark.parametrize('mode', meta.MODES)


def square(w, b):
    return 0.5 * jnp.sum(jnp.square(w - b))


def by_hand(theta, inner, outer, *, loss, optimizer, outer_loss=None):
    """The meta-gradient by `jax.grad` of a plain loop."""

    def objective(w):
        state = optimizer.init(w)
        for i in range(len(inner)):
            updates, state = optimizer.update(jax.grad(loss)(w, inner[i]), state, w)
            w = optax.apply_updates(w, updates)
        return (outer_loss or loss)(w, outer)

    return jax.grad(objective)(theta)


# Derivative rules that give no derivatives. -------------------------------------------------------


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
def test_rules_that_give_no_derivatives_change_nothing(name, wrap, mode):
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
        found = run(meta.Meta(theta), inner, outer)
    else:
        with pytest.warns(UserWarning, match="mode='reverse' is used instead"):
            found = run(meta.Meta(theta), inner, outer)
    for part in theta:
        np.testing.assert_allclose(found.gradient.theta[part], expected[part], rtol=1e-12)


@pytest.mark.usefixtures('x64')
def test_rules_of_jax_and_those_that_are_trusted_keep_the_mixed_mode():
    @jax.custom_vjp
    def sine(x):
        return jnp.sin(x)

    sine.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (g * jnp.cos(x),))
    losses = {
        'of JAX': lambda w, b: jnp.sum(jax.nn.relu(w * b)) + jax.nn.logsumexp(jax.nn.softplus(w)),
        'own': lambda w, b: jnp.sum(jnp.square(sine(w) - b)),
    }
    theta, inner, outer = jnp.arange(1.0, 4), jnp.ones((2, 3)), jnp.full(3, 2.0)
    for name, loss in losses.items():  # a warning would be an error
        expected = by_hand(theta, inner, outer, loss=loss, optimizer=optax.sgd(0.1))
        for remat in (False, True):
            found = meta.meta_gradient(
                meta.Meta(theta), inner, outer, inner_loss=loss, optimizer=optax.sgd(0.1),
                mode='mixed', remat=remat, trust_rules=name == 'own',
            )  # fmt: skip
            np.testing.assert_allclose(found.gradient.theta, expected, rtol=1e-12)


def test_rules_within_those_of_jax_and_of_its_namesakes_are_found():
    def solve(x):
        return jax.lax.custom_root(
            lambda y: reversed_gradient(y) - x, x, lambda f, y: y - f(y), lambda g, y: y / g(1.0)
        )

    assert any('reversed_gradient' in rule for rule in rules_of(solve, 1.0))
    assert not list(rules_of(jax.nn.relu, 1.0))
    text = (
        'import jax\n@jax.custom_jvp\ndef f(x): return x\nf.defjvp(lambda p, t: (f(*p), 2 * t[0]))'
    )
    space: dict = {}
    exec(compile(text, jax.__file__.replace('/jax/', '/jaxopt/'), 'exec'), space)  # noqa: S102
    assert [rule.split()[0] for rule in rules_of(space['f'], 1.0)] == ['f']


def rules_of(function, x):
    return jax_compat.custom_derivative_rules(jax.make_jaxpr(function)(x).jaxpr)


# Types. -------------------------------------------------------------------------------------------


@every_mode
@pytest.mark.parametrize('remat', [False, True])
@pytest.mark.parametrize('short', [jnp.bfloat16, jnp.float16])
def test_short_floats_with_a_loss_of_long_ones(mode, remat, short):
    loss = lambda w, b: square(w.astype(jnp.float32), b)
    found = meta.meta_gradient(
        meta.Meta(jnp.ones(2, short)), jnp.zeros((3, 2)), jnp.zeros(2), inner_loss=loss,
        optimizer=optax.sgd(0.5), mode=mode, remat=remat,
    )  # fmt: skip
    assert found.gradient.theta.dtype == short
    np.testing.assert_allclose(found.gradient.theta.astype(float), 0.5**6, rtol=1e-2)


@pytest.mark.parametrize('mode', meta.MODES)
def test_norms_of_short_floats_do_not_overflow(mode):
    found = meta.meta_gradient(
        meta.Meta(jnp.full(1000, 30.0, jnp.float16)), jnp.zeros((1, 1000)), jnp.zeros(1000),
        inner_loss=lambda w, b: square(w.astype(jnp.float32), b), optimizer=optax.sgd(0.1),
        mode=mode,
    )  # fmt: skip
    np.testing.assert_allclose(found.first_order_norm, 27 * 1000**0.5, rtol=1e-3)


@every_mode
@pytest.mark.parametrize('remat', [False, True])
def test_a_loss_that_is_not_asked_for_leaves_no_nan(mode, remat):
    theta = {'body': jnp.zeros(2), 'head': jnp.ones(2)}
    outer = lambda p, b: jnp.sum(jnp.square(p['head'] + p['body'] - b))
    inner = lambda p, b: outer(p, b) + jnp.linalg.norm(p['body'])  # no derivative at zero
    found = meta.meta_gradient(
        meta.Meta(theta), jnp.zeros((1, 2)), jnp.full(2, 3.0), inner_loss=inner, outer_loss=outer,
        adapted=lambda name: name == 'head', mode=mode, remat=remat,
    )  # fmt: skip
    np.testing.assert_allclose(found.gradient.theta['body'], -3.9996, rtol=1e-5)


@every_mode
@pytest.mark.parametrize(
    'loss',
    [
        lambda w, b: {'l2': jnp.sum(w), 'loss': square(w, b)},
        lambda w, b: (square(w, b), w),
        lambda w, b: None,
        lambda w, b: jnp.square(w - b),
        lambda w, b: square(w, b)[None],
        lambda w, b: jnp.sum(w).astype(int),
    ],
)
def test_an_inner_loss_that_is_no_real_scalar_is_refused(mode, loss):
    with pytest.raises(errors.UserError, match='it must give one real number'):
        meta.meta_gradient(
            meta.Meta(jnp.ones(2)), jnp.ones((1, 2)), jnp.ones(2), inner_loss=loss,
            outer_loss=square, mode=mode,
        )  # fmt: skip


@pytest.mark.parametrize(
    ('leaf', 'kind'),
    [
        (np.int32(3), 'int32'),
        (jnp.asarray(True), 'bool'),
        (jax.random.key(0), 'key'),
        (3, 'int'),
        ('relu', 'str'),
    ],
)
def test_parameters_without_a_derivative_are_named(leaf, kind):
    theta = {'w': jnp.ones(2), 'step': leaf}
    with pytest.raises(errors.UserError, match=f"parameter 'step' is of {kind}.*keep it out of"):
        meta.meta_gradient(
            meta.Meta(theta), jnp.ones((1, 2)), jnp.ones(2),
            inner_loss=lambda p, b: square(p['w'], b), adapted=lambda name: name == 'w',
        )  # fmt: skip


# Arguments. ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'meta': jnp.ones(2)}, r'give Meta\(theta\)'),
        ({'meta': meta.Meta({'w': jnp.ones(2)}, jnp.ones(2))}, 'give a dict by name'),
        ({'meta': meta.Meta({'w': jnp.ones(2)}, {'w': jnp.ones(1)})}, r"rate of 'w'.*\(1,\)"),
        ({'adapted': ['w']}, 'must be a function of the name'),
        ({'optimizer': 0.1}, 'optimizer=0.1: it must be an optimizer of optax'),
        ({'optimizer': optax.sgd}, 'it must be an optimizer of optax'),
        ({'inner_batches': None}, 'leading axes of no array'),
        ({'meta': meta.Meta({'w': jnp.ones(2)}, {'w': 1})}, "learned rate of 'w' is 1: give a"),
        ({'has_aux': True}, 'must give a pair'),
        ({'has_aux': True, 'outer_loss': lambda p, b: jnp.ones(2)}, 'must give a pair'),
    ],
)
def test_arguments_of_another_kind_are_named(change, message):
    given = {
        'meta': meta.Meta({'w': jnp.ones(2)}),
        'inner_batches': jnp.ones((1, 2)),
        'outer_batch': jnp.ones(2),
        'inner_loss': lambda p, b: square(p['w'], b),
    }
    with pytest.raises(errors.UserError, match=message):
        meta.meta_gradient(**{**given, **change})


@pytest.mark.usefixtures('x64')
@every_mode
def test_a_rate_may_be_of_each_element(mode):
    theta, rates = {'w': jnp.arange(3.0)}, {'w': jnp.array([0.1, 0.2, 0.3])}
    found = meta.meta_gradient(
        meta.Meta(theta, rates), jnp.ones((1, 3)), jnp.full(3, 2.0),
        inner_loss=lambda p, b: square(p['w'], b), mode=mode,
    )  # fmt: skip
    left = (1 - rates['w']) * (theta['w'] - 1) - 1  # w₁ - b'
    np.testing.assert_allclose(found.gradient.theta['w'], (1 - rates['w']) * left, rtol=1e-12)
    np.testing.assert_allclose(found.gradient.rates['w'], -(theta['w'] - 1) * left, rtol=1e-12)


@every_mode
def test_first_order_takes_the_loss_for_a_constant_too(mode):
    found = meta.meta_gradient(
        meta.Meta(jnp.array([3.0, -1.0])), jnp.ones((1, 2)), jnp.zeros(2), inner_loss=square,
        optimizer=optax.polyak_sgd(max_learning_rate=10.0), order='first', mode=mode,
    )  # fmt: skip
    assert found.second_order_norm == 0


@pytest.mark.usefixtures('x64')
@every_mode
def test_an_optimizer_may_ask_for_the_loss(mode):
    theta, inner, outer = jnp.array([3.0, -1.0]), jnp.ones((1, 2)), jnp.zeros(2)
    found = meta.meta_gradient(
        meta.Meta(theta), inner, outer, inner_loss=square, mode=mode,
        optimizer=optax.polyak_sgd(max_learning_rate=10.0),
    )  # fmt: skip
    # Polyak's step is L / |∇L|² = 1/2 everywhere, but its derivative counts.
    step = lambda w: w - square(w, inner[0]) / jnp.sum(jnp.square(w - inner[0])) * (w - inner[0])
    expected = jax.grad(lambda w: square(step(w), outer))(theta)
    np.testing.assert_allclose(found.gradient.theta, expected, rtol=1e-10)


def test_a_mean_over_tasks_counts_what_is_true():
    gradient = lambda inner, outer: meta.meta_gradient(
        meta.Meta(jnp.ones(2)), inner, outer, inner_loss=square, has_aux=True,
        outer_loss=lambda w, b: (
            square(w, b), {'hit': b[0] > 0, 'count': jnp.int32(3), 'n': 2, 'yes': True}
        ),
    )  # fmt: skip
    outer = jnp.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
    found = meta.mean_over_tasks(gradient, jnp.ones((4, 1, 2)), outer)
    assert found.aux == {'hit': 0.75, 'count': 3.0, 'n': 2.0, 'yes': 1.0}


# Tasks over devices. ------------------------------------------------------------------------------


@pytest.mark.usefixtures('x64')
@every_mode
@pytest.mark.parametrize('optimizer', [optax.sgd(0.5), optax.adam(0.1, eps_root=1e-8)])
def test_tasks_on_devices_of_a_shard_map_do_not_mix(mode, optimizer):
    mesh = jax.make_mesh((4,), ('tasks',), axis_types=(AxisType.Auto,))
    rng = np.random.default_rng(0)
    theta, inner, outer = rng.normal(size=3), rng.normal(size=(4, 2, 3)), rng.normal(size=(4, 3))
    loss = lambda w, b: jnp.sum(jnp.square(jnp.sin(w) - b))
    tasks = zip(inner, outer, strict=True)
    alone = [by_hand(theta, *task, loss=loss, optimizer=optimizer) for task in tasks]

    def one(theta, inner, outer):
        found = meta.meta_gradient(
            meta.Meta(theta), inner[0], outer[0], inner_loss=loss, optimizer=optimizer, mode=mode
        )
        return found.gradient.theta[None], jax.lax.pmean(found.gradient.theta, 'tasks')

    tasks = P('tasks')
    spread = jax.shard_map(one, mesh=mesh, in_specs=(P(), tasks, tasks), out_specs=(tasks, P()))
    each, mean = jax.jit(spread)(theta, inner, outer)
    np.testing.assert_allclose(each, alone, rtol=1e-10)
    np.testing.assert_allclose(mean, np.mean(alone, axis=0), rtol=1e-10)

    def outside(theta):
        def one(theta, inner, outer):
            found = meta.inner_loop(
                meta.Meta(theta), inner[0], loss=loss, optimizer=optimizer, mode=mode
            )
            return jax.lax.pmean(loss(found.params, outer[0]), 'tasks')

        spread = jax.shard_map(one, mesh=mesh, in_specs=(P(), tasks, tasks), out_specs=P())
        return spread(theta, inner, outer)

    np.testing.assert_allclose(jax.jit(jax.grad(outside))(theta), mean, rtol=1e-10)

    def several(theta, inner, outer):
        gradient = lambda inner, outer: meta.meta_gradient(
            meta.Meta(theta), inner, outer, inner_loss=loss, optimizer=optimizer, mode=mode
        )
        return jax.lax.pmean(meta.mean_over_tasks(gradient, inner, outer).gradient.theta, 'tasks')

    two = jax.make_mesh((2,), ('tasks',), axis_types=(AxisType.Auto,))
    spread = jax.shard_map(several, mesh=two, in_specs=(P(), tasks, tasks), out_specs=P())
    np.testing.assert_allclose(jax.jit(spread)(theta, inner, outer), mean, rtol=1e-10)


@pytest.mark.usefixtures('x64')
@every_mode
@pytest.mark.parametrize('differing', ['rates', 'part of theta', 'closure', 'optimizer', 'all'])
def test_each_device_is_alone_whatever_it_is_that_differs(mode, differing):
    mesh = jax.make_mesh((2,), ('d',), axis_types=(AxisType.Auto,))
    rng = np.random.default_rng(0)
    one, two = rng.normal(size=2), rng.normal(size=(2, 2))
    inner, outer, number = rng.normal(size=(3, 2)), rng.normal(size=2), np.array([0.1, 0.3])

    def gradient(one, two, inner, outer, number):
        optimizer = optax.chain(
            optax.trace(0.5), optax.scale(-number if differing in ('optimizer', 'all') else -0.1)
        )
        rates = {'one': number, 'two': number} if differing in ('rates', 'all') else None
        weight = number if differing in ('closure', 'all') else 1.0
        loss = lambda p, b: weight * jnp.sum(jnp.square(jnp.sin(p['one']) + p['two'] - b))
        arguments = meta.Meta({'one': one, 'two': two}, rates), inner
        options = {'optimizer': optimizer, 'mode': mode}
        found = meta.meta_gradient(*arguments, outer, inner_loss=loss, **options)
        last = meta.inner_loop(*arguments, loss=loss, **options).params
        return found.gradient.theta, last

    theirs = differing in ('part of theta', 'all')
    two = two if theirs else two[0]
    alone = [gradient(one, two[i] if theirs else two, inner, outer, number[i]) for i in range(2)]

    def each(one, two, inner, outer, number):
        found = gradient(one, two[0] if theirs else two, inner, outer, number[0])
        return jax.tree.map(lambda x: x[None], found)

    specs = (P(), P('d') if theirs else P(), P(), P(), P('d'))
    spread = jax.shard_map(each, mesh=mesh, in_specs=specs, out_specs=P('d'))
    found = jax.jit(spread)(one, two, inner, outer, number)
    for i in range(2):
        jax.tree.map(
            lambda x, y, i=i: np.testing.assert_allclose(x[i], y, rtol=1e-10), found, alone[i]
        )


@pytest.mark.usefixtures('x64')
@every_mode
def test_one_task_may_be_shared_out_over_devices(mode):
    mesh = jax.make_mesh((4,), ('data',), axis_types=(AxisType.Auto,))
    rng = np.random.default_rng(0)
    theta, inner, outer = rng.normal(size=3), rng.normal(size=(2, 4, 3)), rng.normal(size=(4, 3))
    loss = lambda w, b: jnp.mean(jnp.sum(jnp.square(jnp.sin(w)[None] - b), axis=1))
    shared = lambda w, b: jax.lax.pmean(loss(w, b), 'data')
    expected = by_hand(theta, inner, outer, loss=loss, optimizer=optax.sgd(0.5))
    spread = jax.shard_map(
        lambda *task: meta.meta_gradient(
            meta.Meta(task[0]), *task[1:], inner_loss=shared, optimizer=optax.sgd(0.5), mode=mode
        ).gradient.theta,
        mesh=mesh, in_specs=(P(), P(None, 'data'), P('data')), out_specs=P(),
    )  # fmt: skip
    np.testing.assert_allclose(jax.jit(spread)(theta, inner, outer), expected, rtol=1e-10)
