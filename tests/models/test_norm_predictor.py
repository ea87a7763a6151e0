"""The norm predictor: predictions, training, files, and adaptation that starts from them."""

import dataclasses
import functools

import helpers
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import training_helpers

import metastyle_jax
from metastyle_jax.adaptation import adapt_folder, adaptation_start
from metastyle_jax.adaptation.config import AdaptConfig
from metastyle_jax.core import trees
from metastyle_jax.core.devices import sharding
from metastyle_jax.core.errors import UserError
from metastyle_jax.data import batching
from metastyle_jax.data.images import image_writing
from metastyle_jax.evaluation import before_after
from metastyle_jax.models import gram, norm_predictor, perceptual_loss, transformer, vgg
from metastyle_jax.storage import checkpoints, tensor_files, theta_files
from metastyle_jax.training import objective, outer_step, training_state

IS_NORM = transformer.adapted('norm')


@pytest.fixture(scope='module')
def network():
    return vgg.random(jax.random.key(1), width=2)


@pytest.fixture(scope='module')
def theta():
    return transformer.init(jax.random.key(0), width=2, blocks=1)


@pytest.fixture(scope='module')
def predictor(network, theta):
    """A predictor whose offsets are not zero."""
    empty = norm_predictor.init(jax.random.key(2), theta, norm_predictor.feature_count(network))
    keys = iter(jax.random.split(jax.random.key(3), len(empty.out)))
    return empty._replace(
        out={
            name: 0.05 * jax.random.normal(next(keys), leaf.shape)
            for name, leaf in empty.out.items()
        }
    )


@pytest.fixture(scope='module')
def whole(theta, predictor):
    return theta_files.Theta(theta, tensor_files.fingerprint(theta), {}, None, predictor)


def style_grams(network, seed=0):
    style = np.random.default_rng(seed).uniform(size=(1, 24, 32, 3)).astype(np.float32)
    return gram.of_image(network, style[0])


def predicted_by_hand(theta, predictor, grams):
    """θ with predicted norms by name, computed with NumPy."""
    x = []
    for layer in grams:
        strength = np.sqrt(np.diagonal(layer).astype(np.float64))
        x += [*np.log(strength / strength.mean() + 0.1), np.log(strength.mean())]
    hidden = np.maximum(np.array(x) @ predictor.kernel + predictor.bias, 0)
    return {
        name: leaf + hidden @ predictor.out[name] if IS_NORM(name) else leaf
        for name, leaf in tensor_files.flatten(theta).items()
    }


def test_predicted_norms_are_those_of_theta_plus_the_offsets(network, theta, predictor):
    found = style_grams(network)
    expected = predicted_by_hand(theta, predictor, found)
    for name, leaf in tensor_files.flatten(
        norm_predictor.predicted_theta(theta, predictor, found)
    ).items():
        np.testing.assert_allclose(leaf, expected[name], rtol=1e-5, atol=1e-5)
        assert (name in predictor.out) == (not np.allclose(leaf, tensor_files.flatten(theta)[name]))


def test_a_new_predictor_leaves_theta_unchanged(network, theta):
    new = norm_predictor.init(jax.random.key(2), theta, norm_predictor.feature_count(network))
    start = norm_predictor.predicted_theta(theta, new, style_grams(network))
    helpers.assert_identical(start, theta)
    helpers.assert_identical(
        norm_predictor.predicted_theta(theta, None, style_grams(network)), theta
    )


def test_centring_moves_the_mean_offset_into_theta_and_keeps_predictions(network, theta, predictor):
    found = [style_grams(network, seed) for seed in range(3)]
    each = [norm_predictor.predict_offsets(predictor, one) for one in found]
    mean = jax.tree.map(lambda *leaves: sum(leaves) / 3, *each)
    moved, centered = norm_predictor.center(theta, predictor, mean)
    for one in found:
        before, after = (
            tensor_files.flatten(norm_predictor.predicted_theta(*pair, one))
            for pair in ((theta, predictor), (moved, centered))
        )
        for name, leaf in before.items():
            np.testing.assert_allclose(after[name], leaf, atol=1e-5)
    left = jax.tree.map(
        lambda *leaves: sum(leaves),
        *(norm_predictor.predict_offsets(centered, one) for one in found),
    )
    for leaf in left.values():
        np.testing.assert_allclose(leaf, 0, atol=1e-5)


def test_norms_predicted_for_a_black_image_are_finite(network, theta, predictor):
    black = tuple(jnp.zeros_like(gram) for gram in style_grams(network))
    assert all(
        np.isfinite(leaf).all()
        for leaf in jax.tree.leaves(norm_predictor.predicted_theta(theta, predictor, black))
    )


# Training. ----------------------------------------------------------------------------------------


def make_config(**changes):
    return training_helpers.make_config(
        **{'inner_steps': 0, 'model_predictor': True, 'outer_predictor_rate': 0.01, **changes}
    )


def make_state(config, theta, predictor, **options):
    return training_state.create_state(
        config, jax.random.key(0), theta=theta, predictor=predictor, **options
    )


def one_step(state, vgg_params, batch, *, config):
    """One outer step on one device."""
    step = sharding.spread(
        functools.partial(outer_step.train_step, config=config), shared=2, devices=1
    )
    return step(*sharding.replicate((state, vgg_params), 1), batch)


@pytest.mark.parametrize('norms_rate', [0.0, 0.1])
def test_gradients_of_a_batch_equal_the_mean_over_single_styles(
    network, theta, predictor, norms_rate, disagreement
):
    config = make_config(outer_norms_rate=norms_rate, outer_log_loss=True, outer_clip=0.0)
    batch = training_helpers.make_batch(2, steps=0)
    state = make_state(config, theta, predictor, styles=4)
    after, metrics = one_step(state, network, batch, config=config)
    outer = batching.as_float(batch.outer)
    each = gram.of_images(network, batching.as_float(batch.style))

    def mean_loss(theta, predictor):
        total = 0.0
        for i in range(2):
            targets = tuple(layer[i] for layer in each)
            params = norm_predictor.predicted_theta(theta, predictor, targets)
            task = objective.StyleTask(
                outer[i], perceptual_loss.compute_targets(network, outer[i], targets)
            )
            total += jnp.log(objective.loss(network, config)(params, task).total)
        return total / 2

    of_theta, of_predictor = jax.jit(jax.grad(mean_loss, argnums=(0, 1)))(theta, predictor)
    mu = after.opt_state[1][0].mu.theta  # a tenth of the gradient
    disagreement(10 * training_helpers.flat(mu), training_helpers.flat(of_theta), 1e-4)
    mu = after.predictor.adam[0].mu
    disagreement(10 * training_helpers.flat(mu), training_helpers.flat(of_predictor), 1e-4)
    assert np.isfinite(metrics.outer)
    assert (after.table is None) == (not norms_rate)


def test_a_step_on_one_and_eight_devices_agrees_and_is_restored(
    network, theta, predictor, disagreement, tmp_path
):
    config = make_config(outer_optimizer='sgd')
    batch = training_helpers.make_batch(8, steps=0)
    start = make_state(config, theta, predictor)

    def run(devices):
        step = sharding.spread(
            functools.partial(outer_step.train_step, config=config), shared=2, devices=devices
        )
        return step(*sharding.replicate((start, network), devices), batch)[0]

    one, eight = run(1), run(8)
    for a, b in ((one.params, eight.params), (one.predictor.adam[0], eight.predictor.adam[0])):
        disagreement(training_helpers.flat(b), training_helpers.flat(a), 1e-4)
    with checkpoints.Manager(tmp_path / 'checkpoints') as manager:
        manager.save(1, one, data_state={})
        restored = manager.restore(start)
    helpers.assert_identical(restored.state.predictor, one.predictor)
    helpers.assert_identical(theta_files.load_theta(tmp_path).predictor, one.predictor.params)


def test_training_a_predictor_alone_lowers_the_loss_of_each_style(network, theta):
    config = make_config(outer_predictor_rate=0.02, outer_log_loss=True)
    # The check of a configuration refuses this rate.
    config = dataclasses.replace(config, outer=dataclasses.replace(config.outer, rate=0.0))
    state = make_state(config, theta, None, features=norm_predictor.feature_count(network))
    step = sharding.spread(
        functools.partial(outer_step.train_step, config=config), shared=2, devices=1
    )
    batch = training_helpers.make_batch(3, steps=0)
    state, network = sharding.replicate((state, network), 1)
    state, first = step(state, network, batch)
    for _ in range(20):
        state, last = step(state, network, batch)
    assert last.outer < 0.9 * first.outer
    helpers.assert_identical(state.params, theta)


def test_exact_meta_gradients_go_through_an_inner_loop_from_predicted_norms(
    network, theta, predictor, disagreement
):
    config = training_helpers.make_config(model_predictor=True, outer_clip=0.0, inner_rate=0.005)
    batch = training_helpers.make_batch(1)
    after, _ = one_step(make_state(config, theta, predictor), network, batch, config=config)
    helpers.assert_identical(after.predictor.params, predictor)  # an inner loop does not train it
    evaluate = objective.loss(network, config)
    each = gram.of_images(network, batching.as_float(batch.style))

    def one(theta):
        targets = tuple(gram[0] for gram in each)
        contents = batching.as_float(np.stack([batch.inner[0, 0], batch.outer[0]]))
        inner, outer = (
            jax.tree.map(
                lambda leaf, j=j: leaf[j], objective.make_tasks(network, contents, targets)
            )
            for j in range(2)
        )
        start = norm_predictor.predicted_theta(theta, predictor, targets)
        moved = jax.grad(lambda params: evaluate(params, inner).total)(start)
        return evaluate(jax.tree.map(lambda a, b: a - 0.005 * b, start, moved), outer).total

    expected = jax.jit(jax.grad(one))(theta)
    mu = after.opt_state[1][0].mu.theta
    disagreement(10 * training_helpers.flat(mu), training_helpers.flat(expected), 1e-4)


# The file. ----------------------------------------------------------------------------------------


@pytest.mark.parametrize('dtype', ['float32', 'float16'])
def test_a_predictor_is_saved_with_theta_and_does_not_change_its_fingerprint(
    whole, predictor, tmp_path, dtype
):
    path = tmp_path / 'theta.safetensors'
    theta_files.save_theta(path, whole.params, settings={}, predictor=predictor, dtype=dtype)
    found = theta_files.load_theta(path)
    rounded = jax.tree.map(lambda leaf: leaf.astype(dtype).astype(jnp.float32), predictor)
    helpers.assert_identical(found.predictor, rounded)
    if dtype == 'float32':
        assert found.fingerprint == whole.fingerprint


@pytest.mark.parametrize('broken', ['width', 'name', 'rank'])
def test_a_predictor_of_another_theta_is_refused(theta, predictor, tmp_path, broken):
    name = next(iter(predictor.out))
    others = {
        'width': predictor._replace(bias=jnp.zeros(3)),
        'rank': predictor._replace(kernel=jnp.zeros(4)),
        'name': predictor._replace(out={**predictor.out, name: jnp.zeros((64, 99))}),
    }
    path = tmp_path / 'theta.safetensors'
    theta_files.save_theta(path, theta, settings={}, predictor=others[broken])
    with pytest.raises(tensor_files.CheckpointError, match=r'theta\.safetensors has a predictor'):
        theta_files.load_theta(path)


# Adaptation. --------------------------------------------------------------------------------------


def test_adaptation_starts_from_theta_or_from_predicted_norms(network, theta, whole):
    found = style_grams(network)
    predicted = adaptation_start.start_params(whole, found, 'predicted')
    helpers.assert_identical(
        predicted, norm_predictor.predicted_theta(theta, whole.predictor, found)
    )
    helpers.assert_identical(adaptation_start.start_params(whole, found, 'theta'), theta)
    alone = whole._replace(predictor=None)
    helpers.assert_identical(adaptation_start.start_params(alone, found, 'predicted'), theta)
    with pytest.raises(UserError, match="begin='x': it must be one of predicted, theta"):
        metastyle_jax.adapt('painting.png', whole, begin='x')


def test_the_default_rate_depends_on_the_start(whole):
    alone = whole._replace(predictor=None)
    rate = lambda theta, begin, params: adaptation_start.learning_rate(
        AdaptConfig(begin=begin, params=params), theta
    )
    assert rate(whole, 'predicted', 'all') < rate(whole, 'theta', 'all')
    assert rate(alone, 'predicted', 'norm') == rate(alone, 'theta', 'norm')
    assert adaptation_start.learning_rate(AdaptConfig(rate=0.5), whole) == 0.5


def test_a_predictor_of_another_loss_network_is_refused(whole, network):
    found = style_grams(network)
    with pytest.raises(UserError, match="this loss network gives .*begin='theta'"):
        adaptation_start.start_params(whole, found[:3], 'predicted')


def test_a_style_starts_alike_alone_and_in_a_library(whole, tmp_path, monkeypatch, disagreement):
    monkeypatch.setattr(vgg, 'load', lambda path: vgg.random(jax.random.key(1), width=2))
    pixels = np.random.default_rng(0).integers(0, 256, (2, 40, 40, 3), dtype=np.uint8)
    folder = tmp_path / 'paintings'
    folder.mkdir()
    for name, picture in zip(('a.png', 'b.png'), pixels, strict=True):
        image_writing.write(folder / name, batching.as_float(picture))
    options = {'steps': 1, 'batch': 1, 'size': 16, 'style_size': 24, 'schedule': 'constant'}
    first = {}
    for begin in ('predicted', 'theta'):
        made = adapt_folder.adapt_many(
            folder, whole, begin=begin, styles_at_once=2, devices=1, **options
        ).library
        for i, name in enumerate(made.entries):
            alone = metastyle_jax.adapt(folder / name, whole, begin=begin, params='norm', **options)
            disagreement(alone.losses['total'][0], made.entries[name].losses['total'][0], 1e-4)
            disagreement(
                {key: leaf[i] for key, leaf in made.params.items()}, dict(alone.params), 1e-3
            )
            assert alone.settings['begin'] == begin
        first[begin] = [entry.losses['total'][0] for entry in made.entries.values()]
    assert all(a != pytest.approx(b, rel=1e-3) for a, b in zip(*first.values(), strict=True))


def test_the_comparison_shows_the_start_of_adaptation(whole, network, tmp_path, monkeypatch):
    monkeypatch.setattr(vgg, 'load', lambda path: network)
    painting = tmp_path / 'a.png'
    pixels = np.random.default_rng(0).uniform(size=(24, 24, 3)).astype(np.float32)
    image_writing.write(painting, pixels)
    options = {'steps': 1, 'batch': 1, 'size': 16, 'style_size': 24, 'params': 'norm'}
    # So short a step that a style stays where it begins.
    style = metastyle_jax.adapt(painting, whole, rate=1e-9, **options)
    before = before_after._start_of_adaptation(str(painting), style, whole, None)
    assert before.params.keys() == style.params.keys()
    for name, leaf in style.params.items():
        np.testing.assert_allclose(before.params[name], leaf, atol=1e-5)
    plain = style._replace(settings={**style.settings, 'begin': 'theta'})
    assert before_after._start_of_adaptation(str(painting), plain, whole, None).params == {}


def test_style_features_of_vgg16_are_its_channels_and_one_more_for_each_layer():
    network = jax.eval_shape(lambda: vgg.random(jax.random.key(0)))
    assert norm_predictor.feature_count(network) == 64 + 128 + 256 + 512 + 4
    theta = transformer.init(jax.random.key(0))
    norms, _ = trees.partition(theta, IS_NORM)
    assert norm_predictor.init(jax.random.key(0), theta, 964).out.keys() == norms.keys()


@pytest.mark.parametrize(('each_step', 'share'), [(False, 0.25), (True, 0.0)])
def test_the_predictor_learns_through_the_inner_steps(network, theta, predictor, each_step, share):
    config = make_config(
        inner_steps=2, inner_params='norm', inner_rate=0.02, outer_styles=2, outer_clip=0.0,
        outer_log_loss=True, outer_freeze_theta=True, outer_each_step=each_step,
        outer_start_weight=share,
    )  # fmt: skip
    batch = training_helpers.make_batch(2, steps=2)
    state = make_state(config, theta, predictor)
    after, _ = one_step(state, network, batch, config=config)
    evaluate = objective.loss(network, config)

    def mean_loss(predictor):
        total = 0.0
        for i in range(2):
            grams = gram.of_image(network, batching.as_float(batch.style[i]))
            contents = batching.as_float(np.stack([*batch.inner[i], batch.outer[i]]))
            tasks = objective.make_tasks(network, contents, grams)
            pick = lambda t, tasks=tasks: jax.tree.map(lambda leaf: leaf[t], tasks)
            params = norm_predictor.predicted_theta(theta, predictor, grams)
            at_start, losses = jnp.log(evaluate(params, pick(2)).total), []
            for t in range(2):  # a plain loop of SGD steps
                gradient = jax.grad(lambda p, task: evaluate(p, task).total)(params, pick(t))
                params = jax.tree_util.tree_map_with_path(
                    lambda path, p, g: p - 0.02 * g if IS_NORM(trees.leaf_name(path)) else p,
                    params,
                    gradient,
                )
                losses.append(jnp.log(evaluate(params, pick(2)).total))
            behind = sum(losses) / 2 if each_step else losses[-1]
            total += share * at_start + (1 - share) * behind
        return total / 2

    # Adam's first moment after its first step is a tenth of the gradient.
    found = jax.tree.map(lambda leaf: 10 * leaf, after.predictor.adam[0].mu)
    expected = jax.jit(jax.grad(mean_loss))(predictor)
    for ours, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, other, rtol=2e-3, atol=1e-5 * np.abs(other).max())
    assert all(map(np.array_equal, *map(jax.tree.leaves, (after.params, theta))))
