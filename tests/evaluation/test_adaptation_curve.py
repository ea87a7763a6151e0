"""Losses on the way of an adaptation."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from adaptation_helpers import make_theta, open_pictures, random_images, style_grams
from evaluation_helpers import ADAPT

from metastyle_jax.adaptation import adaptation_step
from metastyle_jax.core import loss_weights
from metastyle_jax.data import batching
from metastyle_jax.evaluation import adaptation_curve
from metastyle_jax.models import perceptual_loss, transformer
from metastyle_jax.storage import tensor_files


def test_milestones_are_dense_at_first_and_end_with_the_last_step():
    assert adaptation_curve.milestones(200) == [0, 1, 2, 5, 10, 20, 50, 100, 200]
    assert adaptation_curve.milestones(30) == [0, 1, 2, 5, 10, 20, 30]
    assert adaptation_curve.milestones(1) == [0, 1]


def test_losses_of_a_curve_are_those_of_plain_adaptation_steps(network):
    start, targets = make_theta(0).params, style_grams(network)
    batches, squares = random_images(4, 6).reshape(3, 2, 32, 32, 3), random_images(5)
    kept = jax.tree.map(np.array, start)
    curve, outputs = adaptation_curve.adaptation_curve(
        make_theta(0), targets, network, iter(batches), squares, config=ADAPT, keep=(0, 3)
    )
    jax.tree.map(np.testing.assert_array_equal, kept, start)  # θ stays the caller's
    assert curve.steps == [0, 1, 2, 3]
    assert curve.seconds[0] == 0
    assert curve.seconds == sorted(curve.seconds)
    weights = adaptation_step.StepScalars(
        1e-2, loss_weights.CONTENT_WEIGHT, loss_weights.STYLE_WEIGHT
    )
    state, fixed, plan = adaptation_step.start(start, 'all')
    for batch in batches:
        state, _ = adaptation_step.adapt_step(
            state, fixed, network, jnp.asarray(batch), targets, weights, plan=plan
        )
    contents = batching.as_float(squares)
    expected = perceptual_loss.of_network(
        outputs.params, network, contents,
        perceptual_loss.compute_targets(network, contents, targets),
    )  # fmt: skip
    for name in ('total', 'content', 'style'):
        assert getattr(curve, name)[-1] == pytest.approx(float(getattr(expected, name)), rel=1e-4)
    for name, leaf in state.fast.items():
        found = tensor_files.flatten(outputs.params)[name]
        np.testing.assert_allclose(found, leaf, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        outputs.by_step[0], transformer.apply(start, contents), rtol=1e-4, atol=1e-5
    )


def test_steps_in_one_program_have_the_losses_of_steps_taken_one_by_one(network):
    config = dataclasses.replace(ADAPT, steps=5)
    pool = adaptation_curve.ContentPool(jnp.asarray(random_images(4, 7)), jax.random.key(2))
    keep = (4, 9)  # none of them a milestone
    rolled, singly = (
        adaptation_curve.adaptation_curve(
            make_theta(0),
            style_grams(network),
            network,
            pool,
            random_images(5),
            config=config,
            keep=keep,
            rolled=rolled,
        )
        for rolled in (True, False)
    )
    assert rolled[0].steps == singly[0].steps == [0, 1, 2, 4, 5]
    assert list(rolled[1].by_step) == list(singly[1].by_step) == [4]
    np.testing.assert_allclose(rolled[0].total, singly[0].total, rtol=1e-3)
    assert len(set(rolled[0].total)) == 5
    with pytest.raises(ValueError, match='need a pool'):
        adaptation_curve.adaptation_curve(
            make_theta(0),
            style_grams(network),
            network,
            iter([]),
            random_images(5),
            config=config,
            rolled=True,
        )


def test_a_pool_holds_crops_of_the_contents_and_each_step_draws_its_own_batch(tmp_path):
    photos = open_pictures(tmp_path / 'photos', 3, 0)
    pool = adaptation_curve.read_pool(photos, count=4, size=16, seed=0)
    assert pool.crops.shape == (4, 16, 16, 3)
    assert pool.crops.dtype == np.uint8
    draw = lambda step, pool: np.asarray(adaptation_curve._draw(pool, jnp.asarray(step), batch=2))  # noqa: E731
    numbered = pool._replace(crops=jnp.arange(100, dtype=jnp.uint8)[:, None])
    drawn = [draw(step, numbered) for step in range(50)]
    assert all(batch.shape == (2, 1) for batch in drawn)
    assert len(np.unique(drawn)) > 40
    np.testing.assert_array_equal(draw(7, numbered), drawn[7])


def test_only_norms_change_if_only_norms_are_adapted(network):
    config = dataclasses.replace(ADAPT, steps=1, params='norm')
    start = make_theta(0)
    _, outputs = adaptation_curve.adaptation_curve(
        start,
        style_grams(network),
        network,
        iter([random_images(4)]),
        random_images(5),
        config=config,
    )
    before, after = tensor_files.flatten(start.params), tensor_files.flatten(outputs.params)
    moved = {name for name in before if (before[name] != after[name]).any()}
    assert moved
    assert all('norm' in name for name in moved)
