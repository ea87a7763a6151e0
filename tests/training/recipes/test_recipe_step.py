"""The training step of a recipe, with a network of three parameters."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import training_helpers

from metastyle_jax.core.devices import sharding
from metastyle_jax.data import batching
from metastyle_jax.training import outer_step
from metastyle_jax.training.recipes import recipe_step, training_recipe


def loss(params, fixed, contents, styles):
    """The network scales the contents; the style loss compares mean colours."""
    pictures = contents * params['scale']
    content = jnp.mean(jnp.square(pictures - fixed['target'] * contents))
    colours = jnp.mean(pictures, axis=(1, 2, 3)) - jnp.mean(styles, axis=(1, 2))
    style = jnp.mean(jnp.square(colours))
    return training_recipe.RecipeLoss(content + style, content, style)


RECIPE = training_recipe.Recipe(
    load_fixed=lambda vgg_file: {'target': jnp.ones((1, 1, 1, 1, 3))},
    init=lambda rng: {'scale': jax.random.uniform(rng, (1, 1, 1, 1, 3))},
    loss=loss,
    stylize=lambda params, fixed, contents, style, alpha: (
        contents * (1 + alpha * (params['scale'][0] - 1))
    ),
)


def setting(styles=4, **changes):
    config = training_helpers.make_config(
        recipe='toy', inner_steps=0, outer_clip=0.0, outer_warmup=0.0, **changes
    )
    state = recipe_step.create_state(config, jax.random.key(0), RECIPE)
    return config, state, RECIPE.load_fixed(None), training_helpers.make_batch(styles, steps=0)


def stepped(config, state, fixed, batch, devices):
    step = sharding.spread(
        functools.partial(recipe_step.train_step, config=config, recipe=RECIPE),
        shared=2,
        devices=devices,
    )
    state, fixed = (sharding.replicate(tree, devices) for tree in (state, fixed))
    return step(state, fixed, sharding.put(batch, devices))


def test_a_step_is_one_of_the_optimizer_along_the_gradient_of_the_loss():
    config, state, fixed, batch = setting(outer_optimizer='sgd', outer_rate=0.1)
    before = state.params['scale']
    contents, styles = map(batching.as_float, (batch.outer, batch.style))
    expected, gradient = jax.value_and_grad(
        lambda scale: loss({'scale': scale}, fixed, contents, styles).total
    )(before)
    moved, metrics = stepped(config, state, fixed, batch, 1)
    assert int(moved.step) == 1
    np.testing.assert_allclose(moved.params['scale'], before - 0.1 * gradient, rtol=1e-5)
    np.testing.assert_allclose(metrics.outer, expected, rtol=1e-5)
    np.testing.assert_allclose(metrics.content + metrics.style, expected, rtol=1e-5)
    np.testing.assert_allclose(metrics.gradient_norm, jnp.linalg.norm(gradient), rtol=1e-5)
    assert metrics.inner.shape == (0,)


def test_several_devices_make_the_same_step():
    config, state, fixed, batch = setting()
    one, _ = stepped(config, state, fixed, batch, 1)
    two, _ = stepped(config, state, fixed, batch, 2)
    np.testing.assert_allclose(one.params['scale'], two.params['scale'], rtol=1e-6)


def test_samples_show_the_contents_without_the_style_and_with_it():
    config, state, fixed, batch = setting()
    contents = batching.as_float(batch.outer[0])
    method = recipe_step.method_of(config, RECIPE)
    plain, stylized = method.preview(state, fixed, contents, contents[0])
    np.testing.assert_allclose(plain, contents)
    np.testing.assert_allclose(stylized, contents * state.params['scale'][0], rtol=1e-5)
    assert len(method.captions) == 2


def test_without_a_recipe_the_method_is_meta_training():
    method = recipe_step.method_of(training_helpers.make_config(), None)
    assert method.train_step.func is outer_step.train_step
    assert method.captions == ('θ', 'after 1 inner step(s)')
