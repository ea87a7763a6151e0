"""One outer step, on one device and on eight."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from training_helpers import flat, make_batch, make_config

from metastyle_jax import meta
from metastyle_jax.core import errors, trees
from metastyle_jax.core.devices import sharding
from metastyle_jax.data import batching
from metastyle_jax.meta import inner
from metastyle_jax.models import gram, transformer, vgg
from metastyle_jax.training import gram_cache, objective, optimizers, outer_step


@pytest.fixture(scope='module')
def network():
    return vgg.random(jax.random.key(1), width=2)


def run(config, network, batch, devices):
    state = sharding.replicate(
        outer_step.create_state(config, jax.random.key(config.seed)), devices
    )
    step = sharding.spread(
        functools.partial(outer_step.train_step, config=config), shared=2, devices=devices
    )
    return step(state, sharding.replicate(network, devices), batch)


@functools.cache
def one_step(**changes):
    """The state before and after one step on one style and device, and its metrics.

    Tests share what is compiled for the same configuration.
    """
    config = make_config(outer_styles=1, outer_clip=0.0, **changes)
    before = outer_step.create_state(config, jax.random.key(0))
    return before, *run(config, vgg.random(jax.random.key(1), width=2), make_batch(1), 1)


def grams_of(network, style):
    return gram.of_image(network, style)


@pytest.mark.usefixtures('x64')
def test_gradients_on_one_and_eight_devices_agree(network, disagreement):
    config, batch = make_config(), make_batch(8)
    double = lambda tree: jax.tree.map(lambda x: x.astype(jnp.float64), tree)
    network, theta = (
        double(network),
        double(outer_step.create_state(config, jax.random.key(0)).params),
    )
    evaluate = objective.loss(network, config)

    def gradient(theta, batch):
        def one_style(inner, rest):
            contents = jnp.concatenate([inner, rest[0][None]])
            tasks = objective.make_tasks(network, contents, grams_of(network, rest[1]))
            first, last = (jax.tree.map(lambda x, i=i: x[i], tasks) for i in (slice(1), -1))
            return meta.meta_gradient(
                meta.Meta(theta), first, last,
                inner_loss=lambda params, task: evaluate(params, task).total,
                **objective.inner_options(config, 0),
            )  # fmt: skip

        inner, outer, style = (
            jnp.asarray(batching.as_float(x), jnp.float64)
            for x in (batch.inner, batch.outer, batch.style)
        )
        found = meta.mean_over_tasks(one_style, inner, (outer, style), unroll=1)
        return sharding.mean(found.gradient.theta)

    one, eight = (sharding.spread(gradient, shared=1, devices=n)(theta, batch) for n in (1, 8))
    disagreement(eight, flat(one), 1e-6)


def test_a_step_on_one_and_eight_devices_reports_the_same(network, disagreement, monkeypatch):
    monkeypatch.setattr(
        inner, 'default_unroll', lambda _: 1
    )  # compiles sooner, and changes no result
    config, batch = make_config(), make_batch(8)
    (_, one), (_, eight) = (run(config, network, batch, n) for n in (1, 8))
    disagreement(eight, flat(one), 1e-4)  # float32: sums in another order
    assert one.outer > 0
    np.testing.assert_allclose(one.outer, one.content + one.style, rtol=1e-5)


def test_a_step_moves_every_parameter_and_counts():
    before, after, metrics = one_step()
    assert after.step == 1
    leaves = zip(*map(jax.tree.leaves, (before.params, after.params)), strict=True)
    for name, (a, b) in zip(trees.names(before.params), leaves, strict=True):
        # Of the others no output depends on them, see tests/test_networks.py.
        assert bool(jnp.any(a != b)) != name.endswith(('conv/bias', 'second/norm/bias')), name
    assert metrics.second_order_norm > 0
    # Warm-up: a quarter of the rate at the first of four steps; Adam moves by about the rate.
    largest = np.max(np.abs(flat(after.params) - flat(before.params)))
    assert 0.9 * 2.5e-4 < largest < 1.01 * 2.5e-4


def test_learned_rates_move_gently_and_stay_within_bounds():
    _, after, _ = one_step(inner_learn_rates=True, outer_warmup=0, inner_max_rate=0.010005)
    ratios = np.exp(np.array(list(after.log_rates.values()))) / 0.01
    assert np.all(np.abs(ratios - 1) < 1.1e-3)  # Adam moves logarithms by its rate
    assert np.any(ratios - 1 < -0.9e-3)
    np.testing.assert_allclose(ratios.max(), 1.0005, rtol=2e-6)


def test_first_order_has_no_second_order_part():
    _, _, metrics = one_step(inner_order='first')
    assert metrics.second_order_norm == 0


def test_only_norms_move_in_the_inner_loop_of_norm(network):
    config = make_config(inner_params='norm')
    state = outer_step.create_state(config, jax.random.key(0))
    evaluate = objective.loss(network, config)
    contents = np.random.default_rng(0).uniform(size=(1, 1, 16, 16, 3)).astype(np.float32)
    tasks = objective.make_tasks(network, contents, grams_of(network, contents[0, 0]))
    result = meta.inner_loop(
        meta.Meta(state.params), tasks,
        loss=lambda params, task: evaluate(params, task).total,
        **objective.inner_options(config, 0),
    )  # fmt: skip
    for name, before, after in zip(
        trees.names(state.params), jax.tree.leaves(state.params), jax.tree.leaves(result.params),
        strict=True,
    ):  # fmt: skip
        moves = 'norm' in name and not name.endswith('second/norm/bias')  # which changes no output
        assert bool(jnp.any(before != after)) == moves, name


def test_preview_shows_theta_before_and_after_the_inner_loop(network):
    config = make_config(inner_steps=2, inner_rate=1.0)
    state = outer_step.create_state(config, jax.random.key(0))
    images = np.random.default_rng(0).uniform(size=(2, 16, 16, 3)).astype(np.float32)
    before, after = outer_step.preview(state, network, images[:1], images[1], config=config)
    np.testing.assert_array_equal(before, transformer.apply(state.params, images[:1]))
    assert jnp.any(before != after)


@pytest.mark.parametrize('changes', [{}, {'inner_steps': 0, 'outer_norms_rate': 0.1}])
def test_a_step_with_kept_grams_is_the_step_from_the_styles(network, disagreement, changes):
    config = make_config(outer_styles=2, outer_optimizer='sgd', **changes)
    batch = make_batch(2, steps=config.inner.steps)
    batch = batch._replace(style_index=np.array([3, 1], np.int32))
    kept = gram_cache.GramCache(network, 1.0)(batch)
    state = outer_step.create_state(config, jax.random.key(0), styles=4)
    step = sharding.spread(
        functools.partial(outer_step.train_step, config=config), shared=2, devices=1
    )
    (plain, _), (fast, _) = (step(state, network, each) for each in (batch, kept))
    start = flat(state.params)
    disagreement(flat(fast.params) - start, flat(plain.params) - start, 1e-4)


def test_grams_are_kept_within_the_memory_that_there_is(network):
    one, two = make_batch(1), make_batch(1)
    two = two._replace(style=255 - one.style, style_index=np.array([1], np.int32))
    size = sum(gram.nbytes for gram in gram_cache.GramCache(network, 0)(one).grams)
    kept = gram_cache.GramCache(network, 1.5 * size / 2**30)
    found = [kept(batch).grams for batch in (one, two, one)]
    assert kept.count == 1
    for first, other, again in zip(*found, strict=True):
        np.testing.assert_array_equal(first, again)
        assert np.any(first != other)
    # What is in memory is not computed again, whatever the pixels.
    stale = kept(one._replace(style=two.style)).grams
    np.testing.assert_array_equal(stale[0], found[0][0])


def test_tasks_hold_the_targets_of_every_batch(network):
    contents = np.random.default_rng(0).uniform(size=(3, 2, 16, 16, 3)).astype(np.float32)
    tasks = objective.make_tasks(network, contents, grams_of(network, contents[0, 0]))
    for t in range(3):
        expected = vgg.content_features(network, contents[t])
        np.testing.assert_allclose(tasks.targets.content[t], expected, atol=1e-5)
    grams = gram.of_image(network, contents[0, 0])
    for found, expected in zip(tasks.targets.grams, grams, strict=True):
        np.testing.assert_allclose(found[2], expected, atol=1e-5)


def test_rates_decay_as_the_paper_says():
    config = make_config(outer_decay=2.5e-5)
    np.testing.assert_allclose(optimizers.rate_decay(config, 40_000), 0.5)
    optimizer = optimizers.inner_optimizer(config, 40_000)
    updates, _ = optimizer.update({'w': jnp.ones(())}, optimizer.init({'w': jnp.ones(())}))
    np.testing.assert_allclose(updates['w'], -0.005, rtol=1e-6)


def test_the_cosine_goes_from_one_to_a_twentieth():
    config = make_config(outer_schedule='cosine')
    factors = [float(optimizers.rate_decay(config, step)) for step in (0, 5, 10, 20)]
    np.testing.assert_allclose(factors, [1, 0.525, 0.05, 0.05], rtol=1e-5)


def test_outer_gradients_are_clipped():
    config = make_config(outer_clip=1.0, outer_warmup=0)
    optimizer = optimizers.outer_optimizer(config)
    big = meta.Meta({'w': jnp.full((4,), 100.0)}, {'w': jnp.full((), 1e6)})
    _, state = optimizer.update(big, optimizer.init(big))
    moment = optax.tree.get(state, 'mu')  # θ and rates are clipped each by itself
    np.testing.assert_allclose(moment.theta['w'], 0.1 * 0.5 * np.ones(4), rtol=1e-5)
    np.testing.assert_allclose(moment.rates['w'], 0.1, rtol=1e-5)


def test_styles_that_cannot_be_shared_out_are_refused(network):
    with pytest.raises(errors.UserError, match='6 styles a step .* 8 devices.*multiple of 8'):
        run(make_config(outer_styles=6), network, make_batch(6), 8)


def test_logarithms_divide_each_gradient_by_its_loss(disagreement):
    plain, logarithm = one_step()[1:], one_step(outer_log_loss=True)[1:]
    moments = [flat(state.opt_state[1][0].mu.theta) for state, _ in (plain, logarithm)]
    disagreement(moments[1] * float(plain[1].outer), moments[0], 1e-4)
    assert float(logarithm[1].outer) == pytest.approx(float(plain[1].outer), rel=1e-5)


def test_kept_norms_change_no_output_of_a_step(disagreement):
    (start, plain, _), (_, kept, _) = one_step(), one_step(outer_keep_norms=True)
    length = lambda state: float(jnp.linalg.norm(state.params['down2']['conv']['kernel']))
    assert length(plain) != pytest.approx(length(start), rel=1e-6)
    assert length(kept) == pytest.approx(length(start), rel=1e-6)
    images = batching.as_float(make_batch(1).outer[0])
    outputs = [transformer.apply(state.params, images) for state in (kept, plain)]
    disagreement(*outputs, 1e-3)


def test_no_inner_step_is_plain_training(network):
    config = make_config(inner_steps=0, outer_styles=2, outer_clip=0.0, outer_optimizer='sgd')
    batch = make_batch(2, steps=0)
    state = outer_step.create_state(config, jax.random.key(0))
    after, found = run(config, network, batch, 1)
    assert found.inner.shape == (0,)
    assert found.second_order_norm == 0

    def loss(params):
        evaluate = objective.loss(network, config)
        total = 0.0
        for style, outer in zip(batch.style, batch.outer, strict=True):
            targets = grams_of(network, batching.as_float(style))
            task = objective.make_tasks(network, batching.as_float(outer)[None], targets)
            total += evaluate(params, jax.tree.map(lambda leaf: leaf[0], task)).total
        return total / 2

    rate = config.outer.rate / config.outer.warmup
    expected = jax.tree.map(
        lambda p, g: p - rate * g, state.params, jax.jit(jax.grad(loss))(state.params)
    )
    np.testing.assert_allclose(flat(after.params), flat(expected), rtol=1e-5, atol=1e-6)


def test_reptile_goes_towards_where_the_inner_loop_ends(network):
    config = make_config(
        inner_order='reptile',
        inner_steps=2,
        outer_styles=1,
        outer_clip=0.0,
        outer_optimizer='sgd',
        outer_rate=0.5,
        outer_warmup=0,
    )
    batch = make_batch(1, steps=2)
    state = outer_step.create_state(config, jax.random.key(0))
    after, _ = run(config, network, batch, 1)
    evaluate = objective.loss(network, config)
    targets = grams_of(network, batching.as_float(batch.style[0]))
    task = objective.make_tasks(network, batching.as_float(batch.inner[0]), targets)
    ended = meta.inner_loop(
        meta.Meta(state.params),
        task,
        loss=objective.inner_loss(evaluate, config),
        optimizer=optax.sgd(config.inner.rate),
    ).params
    expected = jax.tree.map(lambda a, b: (a + b) / 2, state.params, ended)
    np.testing.assert_allclose(flat(after.params), flat(expected), rtol=1e-5, atol=1e-6)


def test_rates_move_as_many_times_faster_as_told():
    gradient = meta.Meta({'w': jnp.array([1.0, -2.0])}, {'w': jnp.array(3.0)})
    moved = {}
    for speed in (1.0, 10.0):
        optimizer = optimizers.outer_optimizer(make_config(outer_rates_speed=speed))
        moved[speed], _ = optimizer.update(gradient, optimizer.init(gradient), gradient)
    np.testing.assert_array_equal(moved[10.0].theta['w'], moved[1.0].theta['w'])
    np.testing.assert_allclose(moved[10.0].rates['w'], 10 * moved[1.0].rates['w'], rtol=1e-6)
    assert moved[1.0].rates['w'] < 0
