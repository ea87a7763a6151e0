"""Exactness of the meta-gradient, in float64, against four independent references."""

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

from metastyle_jax import meta
from metastyle_jax.core import errors, trees
from metastyle_jax.models import gram, perceptual_loss, transformer, vgg

pytestmark = pytest.mark.usefixtures('x64')

every_problem = pytest.mark.parametrize(
    ('steps', 'which'), list(itertools.product((1, 2, 5), ('all', 'norm')))
)
# Each test runs all of these against one reference, which is compiled once.
VARIANTS = [{'mode': mode, 'remat': remat} for mode in meta.MODES for remat in (False, True)]
RATE = 0.07


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def small_params():
    return {
        'layer': {'conv': {'kernel': normal(0, 3, 4)}, 'norm': {'scale': 1 + normal(1, 4)}},
        'out': {'conv': {'kernel': normal(2, 4, 2)}, 'norm': {'bias': normal(3, 2)}},
    }


def with_rates(theta, which):
    rates = meta.initial_rates(theta, RATE, transformer.adapted(which))
    return {name: rate * (1 + 0.1 * i) for i, (name, rate) in enumerate(sorted(rates.items()))}


def gradient(meta_params, inner, outer, **options):
    """`meta_gradient`, compiled."""
    run = lambda *data: meta.meta_gradient(*data, **options)
    return jax.jit(run)(meta_params, inner, outer)


# Reference 1: the closed form on a quadratic inner loss. ----------------------------------------


def quadratic_problem(steps):
    """L(z, b) = ½ (Mz − b)ᵀA(Mz − b) and L'(z, b') = ½ |z − b'|² over all parameters z."""
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
    """Gradient in θ and rates: z_t = z_{t−1} − P MᵀA(M z_{t−1} − b_t), so J_t = (I − P MᵀAM) J."""
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
def test_closed_form_on_a_quadratic(steps, which, disagreement):
    theta, (*_, targets, outer_target, inner, outer) = small_params(), quadratic_problem(steps)
    rates = with_rates(theta, which)
    expected, expected_rates, first = closed_form(theta, rates, steps)
    for variant in VARIANTS:
        found = gradient(
            meta.Meta(theta, rates), targets, outer_target, inner_loss=inner, outer_loss=outer,
            optimizer=optax.sgd(1.0), adapted=transformer.adapted(which), **variant,
        )  # fmt: skip
        disagreement(found.gradient.theta, expected, 1e-12)
        disagreement(found.gradient.rates, expected_rates, 1e-12)
        # What exactness adds is what the closed form says: (J_T − I)ᵀ∇L'.
        disagreement(found.second_order_norm, np.linalg.norm(expected - first), 1e-12)
        disagreement(found.first_order_norm, np.linalg.norm(first), 1e-12)
        assert found.second_order_norm > 0.01 * found.first_order_norm


@pytest.mark.parametrize('mode', meta.MODES)
@pytest.mark.parametrize('which', ['all', 'norm'])
@pytest.mark.parametrize('steps', [1, 2, 5])
def test_first_order_leaves_out_what_the_closed_form_says(steps, which, mode, disagreement):
    theta, (*_, targets, outer_target, inner, outer) = small_params(), quadratic_problem(steps)
    rates = with_rates(theta, which)

    def run(order):
        return gradient(
            meta.Meta(theta, rates), targets, outer_target, inner_loss=inner, outer_loss=outer,
            optimizer=optax.sgd(1.0), adapted=transformer.adapted(which), mode=mode, order=order,
        )  # fmt: skip

    exact, first = run('exact'), run('first')
    expected, _, expected_first = closed_form(theta, rates, steps)
    disagreement(first.gradient.theta, expected_first, 1e-12)
    difference = jax.tree.map(jnp.subtract, exact.gradient.theta, first.gradient.theta)
    disagreement(difference, expected - expected_first, 1e-12)
    assert first.second_order_norm == 0


# Reference 2: a Python loop differentiated by jax.grad; reference 3: finite differences. --------


def network_loss(params, batch):
    """A smooth two-layer network in which every parameter matters."""
    x, y = batch
    h = jnp.tanh(x @ params['layer']['conv']['kernel']) * params['layer']['norm']['scale'][None]
    out = jnp.tanh(h @ params['out']['conv']['kernel']) + params['out']['norm']['bias'][None]
    return jnp.mean(jnp.square(out - y))


def network_batches(steps):
    inner = (normal(8, steps, 6, 3), normal(9, steps, 6, 2))
    return inner, (normal(10, 6, 3), normal(11, 6, 2))


def looped(meta_params, inner, outer, *, optimizer, which):
    """The same objective as a plain loop; nothing of the package but the two predicates."""
    chosen = transformer.adapted(which)
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
def test_equals_a_python_loop(steps, which, optimizer, disagreement):
    theta, (inner, outer) = small_params(), network_batches(steps)
    expected = jax.jit(
        jax.value_and_grad(looped), static_argnames=('optimizer', 'which')
    )(meta.Meta(theta), inner, outer, optimizer=OPTIMIZERS[optimizer](), which=which)  # fmt: skip
    for variant in VARIANTS:
        found = gradient(
            meta.Meta(theta), inner, outer, inner_loss=network_loss,
            optimizer=OPTIMIZERS[optimizer](), adapted=transformer.adapted(which), unroll=1,
            **variant,
        )  # fmt: skip
        assert all(jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(found))
        disagreement(found.outer_loss, expected[0], 1e-12)
        disagreement(found.gradient.theta, expected[1].theta, 1e-12)


def directional(objective, at, step):
    """Central difference and direction: (F(x + h·d) − F(x − h·d)) / 2h along a random unit d."""
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
def test_finite_differences_on_a_smooth_network(steps, which, learned, disagreement):
    theta, (inner, outer) = small_params(), network_batches(steps)
    rates = with_rates(theta, which) if learned else None
    optimizer = optax.sgd(1.0 if learned else RATE)
    at = meta.Meta(theta, rates)
    objective = jax.jit(lambda at: looped(at, inner, outer, optimizer=optimizer, which=which))
    slope, direction = directional(objective, at, 1e-5)
    for variant in VARIANTS:
        found = gradient(
            at, inner, outer, inner_loss=network_loss, optimizer=optimizer,
            adapted=transformer.adapted(which), unroll=1, **variant,
        )  # fmt: skip
        disagreement(ravel_pytree(found.gradient)[0] @ direction, slope, 1e-6)


# Finite differences on the real structure: transformer and VGG-16 at reduced width. --------------


def style_loss(network, params, batch):
    """The loss that training uses; batch is (contents, style)."""
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
def test_finite_differences_on_transformer_and_vgg(steps, which, disagreement):
    double = lambda tree: jax.tree.map(lambda x: x.astype(jnp.float64), tree)
    theta = double(transformer.init(jax.random.key(0), width=4, blocks=1))
    loss = functools.partial(style_loss, double(vgg.random(jax.random.key(1), width=4)))
    inner, outer = style_batches(steps)
    options = {
        'optimizer': optax.sgd(0.02), 'adapted': transformer.adapted(which), 'unroll': 1,
    }  # fmt: skip

    def objective(theta):
        return loss(meta.inner_loop(meta.Meta(theta), inner, loss=loss, **options).params, outer)

    slope, direction = directional(jax.jit(objective), theta, 1e-7)
    for variant in VARIANTS:
        found = gradient(meta.Meta(theta), inner, outer, inner_loss=loss, **options, **variant)
        disagreement(ravel_pytree(found.gradient.theta)[0] @ direction, slope, 1e-5)
        assert found.second_order_norm > 1e-3 * found.first_order_norm


# What the options promise. ------------------------------------------------------------------------


@pytest.mark.parametrize('mode', meta.MODES)
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


def looped_sgd(theta, inner, y):
    """Inner losses and final parameters of SGD with the targets y, as a plain loop."""
    losses_before = []
    for t in range(len(y)):
        batch = (inner[0][t], y[t])
        value, grads = jax.value_and_grad(network_loss)(theta, batch)
        losses_before.append(value)
        theta = jax.tree.map(lambda w, g: w - RATE * g, theta, grads)
    return theta, sum(losses_before)


@pytest.mark.parametrize('mode', meta.MODES)
def test_data_can_be_differentiated_through_the_inner_loop(mode, disagreement):
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


@pytest.mark.parametrize('mode', meta.MODES)
def test_losses_of_inner_steps_can_be_differentiated(mode, disagreement):
    theta, (inner, _) = small_params(), network_batches(3)

    def sums(theta):
        result = meta.inner_loop(
            meta.Meta(theta), inner, loss=network_loss, mode=mode, optimizer=optax.sgd(RATE)
        )
        return jnp.sum(result.losses)

    expected = jax.grad(lambda theta: looped_sgd(theta, inner, inner[1])[1])(theta)
    disagreement(jax.grad(sums)(theta), expected, 1e-12)


@pytest.mark.parametrize('mode', meta.MODES)
def test_a_loss_may_close_over_arrays_that_are_differentiated(mode, disagreement):
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


@pytest.mark.parametrize('mode', meta.MODES)
def test_calls_outside_jit_keep_nothing_alive(mode):
    theta = jnp.arange(3.0)
    loss = lambda w, b: jnp.sum(jnp.square(w - b) * jnp.ones(3))
    meta.meta_gradient(meta.Meta(theta), jnp.ones((2, 3)), jnp.ones(3), inner_loss=loss, mode=mode)
    alive = weakref.ref(theta)
    del theta
    gc.collect()
    assert alive() is None


@pytest.mark.parametrize('mode', meta.MODES)
def test_batches_may_hold_integers(mode):
    loss = lambda w, batch: jnp.sum(jnp.square(w[batch['index']] - batch['y']))
    batch = {'index': jnp.array([0, 2]), 'y': jnp.ones(2)}
    stacked = jax.tree.map(lambda x: x[None], batch)
    found = meta.meta_gradient(
        meta.Meta(jnp.zeros(3)), stacked, batch, inner_loss=loss, mode=mode,
        optimizer=optax.sgd(0.25),
    )  # fmt: skip
    np.testing.assert_allclose(found.gradient.theta, [-0.5, 0.0, -0.5])


def test_mean_over_tasks_is_the_mean_of_single_tasks(disagreement):
    theta = meta.Meta(small_params())
    tasks = [network_batches(2)] + [jax.tree.map(lambda x: -0.5 * x, network_batches(2))]
    gradient = lambda inner, outer: meta.meta_gradient(theta, inner, outer, inner_loss=network_loss)
    inner, outer = jax.tree.map(lambda *x: jnp.stack(x), *tasks)
    expected = jax.tree.map(lambda *x: sum(x) / 2, *[gradient(*task) for task in tasks])
    for unroll in (None, 1):
        found = meta.mean_over_tasks(gradient, inner, outer, unroll=unroll)
        disagreement(found, ravel_pytree(expected)[0], 1e-12)


def test_aux_of_the_outer_loss_is_returned():
    loss = lambda w, b: jnp.sum(jnp.square(w - b))
    found = meta.meta_gradient(
        meta.Meta(jnp.zeros(2)), jnp.ones((1, 2)), jnp.ones(2), inner_loss=loss,
        outer_loss=lambda w, b: (loss(w, b), {'w': w}), has_aux=True, optimizer=optax.sgd(0.25),
    )  # fmt: skip
    np.testing.assert_allclose(found.aux['w'], [0.5, 0.5])


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'mode': 'forward'}, 'forward'),
        ({'order': 'second'}, 'second'),
        ({'adapted': lambda name: False}, 'no parameter'),
    ],
)
def test_unknown_options_are_named(change, message):
    inner, outer = network_batches(1)
    with pytest.raises(errors.UserError, match=message):
        meta.meta_gradient(
            meta.Meta(small_params()), inner, outer, inner_loss=network_loss, **change
        )


def test_batches_without_a_common_axis_and_wrong_rates_are_refused():
    inner, outer = network_batches(2)
    with pytest.raises(errors.UserError, match='leading axes'):
        meta.meta_gradient(
            meta.Meta(small_params()), (inner[0], inner[1][:1]), outer, inner_loss=network_loss
        )
    with pytest.raises(errors.UserError, match='nowhere'):
        meta.meta_gradient(
            meta.Meta(small_params(), {'nowhere': jnp.ones(())}), inner, outer,
            inner_loss=network_loss,
        )  # fmt: skip


# No inner step, and Reptile. -----------------------------------------------------------------


def test_without_inner_steps_the_meta_gradient_is_the_gradient():
    theta = {'w': jnp.asarray(normal(0, 4))}
    loss = lambda params, b: jnp.sum(jnp.sin(params['w'] * b))
    rates = {'w': jnp.asarray(0.1)}
    for mode in meta.MODES:
        found = meta.meta_gradient(
            meta.Meta(theta, rates), jnp.zeros((0, 4)), normal(1, 4), inner_loss=loss, mode=mode
        )
        expected = jax.grad(loss)(theta, normal(1, 4))
        np.testing.assert_array_equal(found.gradient.theta['w'], expected['w'])
        assert found.gradient.rates['w'] == found.second_order_norm == 0
        assert found.inner_losses.shape == (0,)


def test_reptile_is_the_way_that_the_inner_loop_went():
    loss = lambda params, b: 0.5 * jnp.sum((params['w'] - b) ** 2)
    theta = {'w': jnp.zeros(2)}
    found = meta.reptile_gradient(
        meta.Meta(theta), jnp.ones((2, 2)), jnp.ones(2), inner_loss=loss, optimizer=optax.sgd(0.5)
    )
    np.testing.assert_allclose(found.gradient.theta['w'], [-0.75, -0.75])  # θ - (1 - 0.5²)
    assert found.outer_loss == 0.0625
    assert found.second_order_norm == 0
