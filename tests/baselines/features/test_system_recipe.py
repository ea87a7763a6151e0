"""Parts of the training of the systems: losses, and their gradients."""

import functools

import baselines_helpers
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metastyle_jax.baselines import adain, avatar_net, meta_networks, style_swap, wct
from metastyle_jax.baselines.features import system_recipe
from metastyle_jax.core import errors

RECIPES = {
    'adain': adain.recipe,
    'wct': wct.recipe,
    'avatar-net': avatar_net.recipe,
    'style-swap': style_swap.recipe,
    'meta-networks': functools.partial(meta_networks.recipe, vgg_width=2, hidden=2, blocks=1),
}


def test_every_content_is_paired_with_its_style():
    contents = np.arange(6.0).reshape(2, 3, 1, 1, 1)
    styles = np.array([10.0, 20.0]).reshape(2, 1, 1, 1)
    flat, repeated = system_recipe.flat_pairs(contents, styles)
    assert flat.ravel().tolist() == [0, 1, 2, 3, 4, 5]
    assert np.ravel(repeated).tolist() == [10, 10, 10, 20, 20, 20]


def test_the_moment_loss_and_the_total_variation_are_those_of_numpy(x64):
    rng = np.random.default_rng(0)
    x, y = rng.uniform(size=(2, 4, 5, 3)), rng.uniform(size=(2, 6, 6, 3))
    expected = sum(
        np.mean((statistic(x, (1, 2)) - statistic(y, (1, 2))) ** 2)
        for statistic in (np.mean, np.std)
    )
    expected *= 2 / (np.mean(y) ** 2 + 1e-6)
    np.testing.assert_allclose(system_recipe.moment_loss((x, x), (y, y)), expected)
    variation = np.mean(np.abs(np.diff(x, axis=1))) + np.mean(np.abs(np.diff(x, axis=2)))
    np.testing.assert_allclose(system_recipe.total_variation(x), variation)


def test_feature_losses_do_not_depend_on_the_scale_of_a_layer(x64):
    x, y = np.random.default_rng(0).uniform(size=(2, 2, 4, 5, 3))
    found = [system_recipe.feature_loss(scale * x, scale * y) for scale in (1, 30)]
    np.testing.assert_allclose(found[0], np.mean((x - y) ** 2) / np.mean(y) ** 2, rtol=1e-5)
    np.testing.assert_allclose(found[1], found[0], rtol=1e-5)
    assert np.isfinite(system_recipe.feature_loss(x, np.zeros_like(y)))


def test_training_starts_from_trained_tensors_of_the_same_name_and_shape(tmp_path):
    _, trained = baselines_helpers.write_system(tmp_path, 'adain')
    start = str(tmp_path / 'adain.safetensors')
    params = avatar_net.recipe(width=2, start=start).init(jax.random.key(5))
    fresh = avatar_net.recipe(width=2).init(jax.random.key(5))
    for layer, module in params['decoder'].items():
        other = trained['decoder'].get(layer)
        taken = other is not None and other['kernel'].shape == module['kernel'].shape
        assert taken == (layer not in ('conv1_1', 'out'))
        expected = other if taken else fresh['decoder'][layer]
        np.testing.assert_array_equal(module['kernel'], expected['kernel'])
    with pytest.raises(errors.UserError, match='no tensor'):
        wct.recipe(width=2, start=start).init(jax.random.key(0))
    with pytest.raises(errors.UserError, match='missing'):
        adain.recipe(start=str(tmp_path / 'missing.safetensors'))


def test_a_decoder_starts_as_that_of_wct_for_the_same_cut(tmp_path):
    _, trained = baselines_helpers.write_system(tmp_path, 'wct')
    start = str(tmp_path / 'wct.safetensors')
    for recipe, cut in ((adain.recipe, 'relu4_1'), (style_swap.recipe, 'relu3_1')):
        params = recipe(width=2, start=start).init(jax.random.key(5))
        jax.tree.map(np.testing.assert_array_equal, params['decoder'], trained['decoders'][cut])


@pytest.mark.parametrize('name', RECIPES)
def test_the_gradient_of_the_loss_agrees_with_finite_differences(name, tmp_path, x64):
    recipe = RECIPES[name](width=2)
    baselines_helpers.write_encoder(tmp_path / 'vgg.npz')
    as_float64 = lambda tree: jax.tree.map(lambda x: x.astype(np.float64), tree)
    fixed = as_float64(recipe.load_fixed(tmp_path / 'vgg.npz'))
    params = as_float64(baselines_helpers.vivid(recipe.init(jax.random.key(0))))
    rng = np.random.default_rng(0)
    contents, styles = rng.uniform(size=(1, 1, 16, 16, 3)), rng.uniform(size=(1, 16, 16, 3))
    # At random biases no unit is exactly at the kink of its ReLU, as dead ones are at zero biases.
    nudged = lambda x: x + (0.1 * rng.normal(size=x.shape) if x.ndim == 1 else 0)
    fixed, params = jax.tree.map(nudged, (fixed, params))
    direction = jax.tree.map(lambda x: rng.normal(size=x.shape), params)
    length = np.sqrt(sum(np.sum(leaf**2) for leaf in jax.tree.leaves(direction)))

    def along(distance):
        moved = jax.tree.map(lambda x, d: x + distance * d / length, params, direction)
        return recipe.loss(moved, fixed, jnp.asarray(contents), jnp.asarray(styles)).total

    evaluate = jax.jit(jax.value_and_grad(along))  # one program for values and gradient
    step = 1e-7
    expected = (evaluate(step)[0] - evaluate(-step)[0]) / (2 * step)
    np.testing.assert_allclose(evaluate(0.0)[1], expected, rtol=1e-4)


@pytest.mark.parametrize('name', RECIPES)
def test_the_encoder_is_not_trained(name):
    recipe = RECIPES[name](width=2)
    assert 'encoder' not in jax.eval_shape(recipe.init, jax.random.key(0))


def test_an_encoder_of_another_width_is_refused(tmp_path):
    baselines_helpers.write_encoder(tmp_path / 'vgg.npz')
    with pytest.raises(errors.UserError, match='conv1_1/kernel'):
        adain.recipe(width=4).load_fixed(tmp_path / 'vgg.npz')
