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
from metastyle_jax.meta.steps import loops
from metastyle_jax.models import gram, transformer, vgg
from metastyle_jax.training import objective, outer_step, training_state


@pytest.fixture(scope='module')
def network():
    return vgg.random(jax.random.key(1), width=2)


def run(config, network, batch, devices):
    state = sharding.replicate(
        training_state.create_state(config, jax.random.key(config.seed)), devices
    )
    step = sharding.spread(
        functools.partial(outer_step.train_step, config=config), shared=2, devices=devices
    )
    return step(state, sharding.replicate(network, devices), batch)


@functools.cache
def one_step(**changes):
    """The state before and after one step with one style, and the metrics of the step.

    Cached, so that tests with the same configuration compile it once.
    """
    config = make_config(outer_styles=1, outer_clip=0.0, **changes)
    before = training_state.create_state(config, jax.random.key(0))
    batch = make_batch(1, config.inner.steps)
    return before, *run(config, vgg.random(jax.random.key(1), width=2), batch, 1)


@pytest.mark.usefixtures('x64')
def test_gradients_on_one_and_eight_devices_agree(network, disagreement):
    config, batch = make_config(), make_batch(8)
    double = lambda tree: jax.tree.map(lambda x: x.astype(jnp.float64), tree)
    network, theta = (
        double(network),
        double(training_state.create_state(config, jax.random.key(0)).params),
    )
    evaluate = objective.loss(network, config)

    def gradient(theta, batch):
        def one_style(inner, rest):
            contents = jnp.concatenate([inner, rest[0][None]])
            tasks = objective.make_tasks(network, contents, gram.of_image(network, rest[1]))
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
        mean_gradient = meta.mean_over_tasks(one_style, inner, (outer, style), unroll=1)
        return sharding.mean(mean_gradient.gradient.theta)

    one, eight = (sharding.spread(gradient, shared=1, devices=n)(theta, batch) for n in (1, 8))
    disagreement(eight, flat(one), 1e-6)


def test_a_step_on_one_and_eight_devices_reports_the_same(network, disagreement, monkeypatch):
    # Compiles faster, with the same result.
    monkeypatch.setattr(loops, 'default_unroll', lambda _: 1)
    config, batch = make_config(), make_batch(8)
    (_, one), (_, eight) = (run(config, network, batch, n) for n in (1, 8))
    disagreement(eight, flat(one), 1e-4)  # float32: sums in another order
    assert one.outer > 0
    np.testing.assert_allclose(one.outer, one.content + one.style, rtol=1e-5)


def test_a_step_moves_each_parameter_that_an_output_depends_on():
    before, after, metrics = one_step()
    assert after.step == 1
    leaves = zip(*map(jax.tree.leaves, (before.params, after.params)), strict=True)
    for name, (a, b) in zip(trees.names(before.params), leaves, strict=True):
        # No output depends on the others: an instance norm or a residual sum cancels them.
        assert bool(jnp.any(a != b)) != name.endswith(('conv/bias', 'second/norm/bias')), name
    assert metrics.second_order_norm > 0
    # Warm-up: a quarter of the rate at the first of four steps; Adam moves by about the rate.
    largest = np.max(np.abs(flat(after.params) - flat(before.params)))
    assert 0.9 * 2.5e-4 < largest < 1.01 * 2.5e-4


def test_learned_rates_move_by_the_outer_rate_and_respect_their_bound():
    _, after, _ = one_step(inner_learn_rates=True, outer_warmup=0, inner_max_rate=0.010005)
    ratios = np.exp(np.array(list(after.log_rates.values()))) / 0.01
    assert np.all(np.abs(ratios - 1) < 1.1e-3)  # Adam moves logarithms by its rate
    assert np.any(ratios - 1 < -0.9e-3)
    np.testing.assert_allclose(ratios.max(), 1.0005, rtol=2e-6)


def test_rates_of_each_step_and_element_are_learned_while_theta_is_frozen():
    before, after, _ = one_step(
        inner_learn_rates=True, inner_rates_per='step_element', inner_steps=2,
        inner_params='norm', outer_freeze_theta=True, outer_warmup=0,
    )  # fmt: skip
    assert all(
        bool(jnp.all(a == b))
        for a, b in zip(*map(jax.tree.leaves, (before.params, after.params)), strict=True)
    )
    ratios = jnp.exp(after.log_rates['up2/norm/scale'] - before.log_rates['up2/norm/scale'])
    assert ratios.shape[0] == 2
    assert bool(jnp.all(jnp.abs(ratios - 1) > 0.9e-3))


def test_first_order_has_no_second_order_part():
    _, _, metrics = one_step(inner_order='first')
    assert metrics.second_order_norm == 0


def test_gram_matrices_are_not_copied_for_each_inner_step(network, monkeypatch):
    seen, exact = [], meta.meta_gradient

    def spy(start, inner_batches, outer_batch, **options):
        seen.extend((inner_batches, outer_batch))
        return exact(start, inner_batches, outer_batch, **options)

    monkeypatch.setattr(meta, 'meta_gradient', spy)
    monkeypatch.setattr(loops, 'default_unroll', lambda _: 1)
    config = make_config(outer_styles=1, inner_steps=3)
    state = training_state.create_state(config, jax.random.key(0))
    step = functools.partial(outer_step.train_step, config=config)
    run = sharding.spread(step, shared=2, devices=1)
    run.lower(*sharding.replicate((state, network), 1), make_batch(1, 3))
    for batch in seen[:2]:
        contents, features = jax.tree.leaves(batch)
        assert contents.shape[-1] == 3
        assert features.shape[-1] == 4


def test_preview_stylizes_before_and_after_the_inner_loop(network):
    config = make_config(inner_steps=2, inner_rate=1.0)
    state = training_state.create_state(config, jax.random.key(0))
    images = np.random.default_rng(0).uniform(size=(2, 16, 16, 3)).astype(np.float32)
    before, after = outer_step.preview(state, network, images[:1], images[1], config=config)
    np.testing.assert_array_equal(before, transformer.apply(state.params, images[:1]))
    assert jnp.any(before != after)


def test_a_number_of_styles_that_devices_cannot_share_is_refused(network):
    with pytest.raises(errors.UserError, match='6 styles a step .* 8 devices.*multiple of 8'):
        run(make_config(outer_styles=6), network, make_batch(6), 8)


def test_the_gradient_of_the_log_loss_is_the_gradient_divided_by_the_loss(disagreement):
    plain, logarithm = one_step()[1:], one_step(outer_log_loss=True)[1:]
    moments = [flat(state.opt_state[1][0].mu.theta) for state, _ in (plain, logarithm)]
    disagreement(moments[1] * float(plain[1].outer), moments[0], 1e-4)
    assert float(logarithm[1].outer) == pytest.approx(float(plain[1].outer), rel=1e-5)


def test_keeping_kernel_norms_changes_no_output(disagreement):
    (start, plain, _), (_, kept, _) = one_step(), one_step(outer_keep_norms=True)
    length = lambda state: float(jnp.linalg.norm(state.params['down2']['conv']['kernel']))
    assert length(plain) != pytest.approx(length(start), rel=1e-6)
    assert length(kept) == pytest.approx(length(start), rel=1e-6)
    images = batching.as_float(make_batch(1).outer[0])
    outputs = [transformer.apply(state.params, images) for state in (kept, plain)]
    disagreement(*outputs, 1e-3)


def test_without_inner_steps_a_step_is_plain_training(network):
    config = make_config(inner_steps=0, outer_styles=2, outer_clip=0.0, outer_optimizer='sgd')
    batch = make_batch(2, steps=0)
    state = training_state.create_state(config, jax.random.key(0))
    after, metrics = run(config, network, batch, 1)
    assert metrics.inner.shape == (0,)
    assert metrics.second_order_norm == 0

    def loss(params):
        evaluate = objective.loss(network, config)
        total = 0.0
        for style, outer in zip(batch.style, batch.outer, strict=True):
            targets = gram.of_image(network, batching.as_float(style))
            task = objective.make_tasks(network, batching.as_float(outer)[None], targets)
            total += evaluate(params, jax.tree.map(lambda leaf: leaf[0], task)).total
        return total / 2

    rate = config.outer.rate / config.outer.warmup
    expected = jax.tree.map(
        lambda p, g: p - rate * g, state.params, jax.jit(jax.grad(loss))(state.params)
    )
    np.testing.assert_allclose(flat(after.params), flat(expected), rtol=1e-5, atol=1e-6)


def test_reptile_moves_theta_towards_the_end_of_the_inner_loop(network):
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
    state = training_state.create_state(config, jax.random.key(0))
    after, _ = run(config, network, batch, 1)
    evaluate = objective.loss(network, config)
    targets = gram.of_image(network, batching.as_float(batch.style[0]))
    task = objective.make_tasks(network, batching.as_float(batch.inner[0]), targets)
    ended = meta.inner_loop(
        meta.Meta(state.params),
        task,
        loss=objective.inner_loss(evaluate, config),
        optimizer=optax.sgd(config.inner.rate),
    ).params
    expected = jax.tree.map(lambda a, b: (a + b) / 2, state.params, ended)
    np.testing.assert_allclose(flat(after.params), flat(expected), rtol=1e-5, atol=1e-6)
