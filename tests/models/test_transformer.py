"""Layers, transformer, losses: shapes, invariants, and the numbers that the papers state."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from metastyle_jax.core import errors, trees
from metastyle_jax.models import gram, layers, perceptual_loss, transformer, vgg
from metastyle_jax.storage import tensor_files


def uniform(seed, *shape):
    return np.random.default_rng(seed).uniform(size=shape)


# Layers. ------------------------------------------------------------------------------------------


def derivatives(layer, x, kernel):
    """Value, gradient, and Hessian-vector product of a layer, in its input and its kernel."""
    loss = lambda x, kernel: jnp.sum(jnp.sin(layer(x, kernel)))
    along = (np.cos(x), np.cos(kernel))
    gradient, product = jax.jvp(jax.grad(loss, argnums=(0, 1)), (x, kernel), along)
    return layer(x, kernel), gradient, product


@pytest.mark.parametrize('size', [3, 9])
@pytest.mark.usefixtures('x64')
def test_formulations_of_a_convolution_are_equal_to_second_order(size, disagreement):
    x, bias = uniform(0, 2, 12, 14, 3), uniform(2, 5)
    kernel = uniform(1, size, size, 3, 5) / size**2
    expected, *others = (
        derivatives(
            lambda x, kernel, form=form: layers.reflect_conv(x, kernel, bias, formulation=form),
            x,
            kernel,
        )
        for form in ('plain', 'cropped', 'blocked')
    )
    for found in others:
        disagreement(found, expected, 1e-12)


@pytest.mark.usefixtures('x64')
def test_formulations_of_a_strided_convolution_are_equal():
    x, kernel, bias = uniform(0, 2, 11, 14, 3), uniform(1, 3, 3, 3, 5), uniform(2, 5)
    run = lambda form: layers.reflect_conv(x, kernel, bias, stride=2, formulation=form)
    np.testing.assert_allclose(run('cropped'), run('plain'), rtol=1e-12)
    for odd, stride in ((x, 1), (x[:, :10], 2)):
        with pytest.raises(errors.UserError, match=f"'blocked' at stride {stride}"):
            layers.reflect_conv(odd, kernel, bias, stride=stride, formulation='blocked')


@pytest.mark.usefixtures('x64')
def test_formulations_of_upsampling_are_equal_to_second_order(disagreement):
    x, kernel, bias = uniform(0, 2, 5, 6, 3), uniform(1, 3, 3, 3, 4) / 9, uniform(2, 4)

    def layer(form):
        return lambda x, kernel: layers.upsample_conv(
            x, kernel, bias, height=10, width=12, formulation=form
        )

    expected = derivatives(layer('plain'), x, kernel)
    disagreement(derivatives(layer('phases'), x, kernel), expected, 1e-12)
    by_hand = layers.reflect_conv(layers.upsample(x, height=10, width=12), kernel, bias)
    np.testing.assert_allclose(expected[0], by_hand, rtol=1e-12)
    with pytest.raises(errors.UserError, match='9 x 12'):
        layers.upsample_conv(x, kernel, bias, height=9, width=12, formulation='phases')


@pytest.mark.usefixtures('x64')
def test_convolution_equals_its_definition():
    x, kernel, bias = uniform(0, 1, 6, 7, 2), uniform(1, 3, 3, 2, 4), uniform(2, 4)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode='reflect')
    for stride in (1, 2):
        found = layers.reflect_conv(x, kernel, bias, stride=stride)
        expected = np.zeros(found.shape)
        for i, j in np.ndindex(found.shape[1:3]):
            patch = padded[0, stride * i : stride * i + 3, stride * j : stride * j + 3]
            expected[0, i, j] = np.einsum('hwc,hwcd->d', patch, kernel) + bias
        np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.usefixtures('x64')
def test_instance_norm_normalizes_and_stays_finite_on_constant_channels():
    x = uniform(0, 2, 5, 6, 3)
    y = layers.instance_norm(x, np.ones(3), np.zeros(3))
    np.testing.assert_allclose(jnp.mean(y, (1, 2)), np.zeros((2, 3)), atol=1e-12)
    np.testing.assert_allclose(jnp.var(y, (1, 2)), np.ones((2, 3)), rtol=1e-3)
    squared = lambda x: jnp.sum(jnp.square(layers.instance_norm(x, np.ones(3), np.zeros(3))))
    constant = np.full((1, 4, 4, 3), 0.5)
    assert jnp.all(jnp.isfinite(jax.grad(squared)(constant)))
    assert jnp.all(jnp.isfinite(jax.grad(lambda x: jnp.sum(jax.grad(squared)(x)))(constant)))


@pytest.mark.usefixtures('x64')
def test_layers_are_differentiable_to_second_order():
    x, kernel = uniform(0, 1, 5, 5, 2), uniform(1, 3, 3, 2, 2)

    def whole(x, kernel, scale):
        y = layers.reflect_conv(x, kernel, np.zeros(2))
        y = layers.instance_norm(y, scale, np.zeros(2))
        y = layers.upsample(jnp.tanh(y), height=9, width=10)
        return jnp.sum(jnp.square(gram.gram(y)))

    check_grads(whole, (x, kernel, uniform(2, 2)), order=2, rtol=1e-5, atol=1e-5)


def test_upsampling_repeats_each_pixel_and_crops():
    x = np.arange(6.0).reshape(1, 2, 3, 1)
    y = layers.upsample(x, height=3, width=6)
    np.testing.assert_array_equal(
        y[0, :, :, 0], np.repeat(np.repeat(x[0, :, :, 0], 2, 0), 2, 1)[:3]
    )


@pytest.mark.usefixtures('x64')
def test_gram_equals_its_definition():
    x = uniform(0, 2, 3, 4, 5)
    found = gram.gram(x)
    for n in range(2):
        flat = x[n].reshape(12, 5)
        np.testing.assert_allclose(found[n], flat.T @ flat / (5 * 3 * 4), rtol=1e-12)


# Transformer. -------------------------------------------------------------------------------------


def test_parameter_counts_are_those_of_the_paper():
    params = jax.eval_shape(lambda: transformer.init(jax.random.key(0)))
    norm, rest = trees.partition(params, transformer.adapted('norm'))
    count = lambda tree: sum(x.size for x in jax.tree.leaves(tree))
    assert (count(params), count(norm), count(rest)) == (1_679_235, 3_200, 1_676_035)
    every, none = trees.partition(params, transformer.adapted('all'))
    assert count(every) == 1_679_235
    assert not none


def test_a_seed_gives_the_parameters_that_it_always_gave():
    params = transformer.init(jax.random.key(0), width=2, blocks=1)
    expected = {  # first and last value, drawn by `init` of a flax.linen module of the same names
        'down1/conv/kernel': (-0.056634635, -0.053295098),
        'down3/conv/bias': (0.0052514477, -0.063755952),
        'block1/second/conv/kernel': (0.090564221, 0.079871625),
        'up1/norm/scale': (1, 1),
        'out/kernel': (-0.062194102, 0.030150509),
        'out/bias': (-0.0099160857, -0.0763653),
    }
    for name, (first, last) in expected.items():
        leaf = functools.reduce(lambda tree, scope: tree[scope], name.split('/'), params)
        np.testing.assert_allclose(np.ravel(leaf)[[0, -1]], [first, last], rtol=1e-6)


def test_init_and_check_agree_on_the_shapes_of_all_parameters():
    for width, blocks in ((3, 0), (2, 3), (5, 12)):
        params = jax.eval_shape(
            functools.partial(transformer.init, width=width, blocks=blocks), jax.random.key(0)
        )
        transformer.check(params)
        assert transformer.width_and_blocks(params) == (width, blocks)
        images = jax.ShapeDtypeStruct((2, 21, 18, 3), np.float32)
        assert jax.eval_shape(transformer.apply, params, images).shape == images.shape


@pytest.mark.parametrize('shape', [(16, 16), (16, 17), (18, 31), (33, 22), (19, 64)])
def test_output_has_the_size_of_the_input(shape):
    params = transformer.init(jax.random.key(0), width=2, blocks=1)
    images = uniform(0, 2, *shape, 3).astype(np.float32)
    outputs = transformer.apply(params, images)
    assert outputs.shape == images.shape
    assert outputs.dtype == images.dtype
    assert jnp.all((outputs > 0) & (outputs < 1))


@pytest.mark.usefixtures('x64')
def test_images_do_not_mix_within_a_batch():
    params = transformer.init(jax.random.key(0), width=2, blocks=1)
    images = uniform(0, 3, 20, 20, 3)
    together = transformer.apply(params, images)
    assert together.dtype == jnp.float64
    alone = jnp.concatenate([transformer.apply(params, image[None]) for image in images])
    np.testing.assert_allclose(together, alone, atol=1e-12)


@pytest.mark.parametrize('shape', [(1, 15, 16, 3), (1, 16, 15, 3), (16, 16, 3), (1, 16, 16, 4)])
def test_images_of_a_wrong_shape_are_refused(shape):
    params = transformer.init(jax.random.key(0), width=2, blocks=1)
    for apply in (transformer.apply, transformer.apply_with_margin):
        with pytest.raises(errors.UserError, match='at least 16'):
            apply(params, jnp.zeros(shape))


@pytest.mark.parametrize('shape', [(16, 19), (20, 24)])
def test_a_margin_is_what_reflection_shows_and_is_cut_off(shape):
    params = transformer.init(jax.random.key(0), width=2, blocks=1)
    images = uniform(0, 2, *shape, 3).astype(np.float32)
    sides = (transformer.MARGIN,) * 2
    wide = transformer.apply(params, np.pad(images, ((0, 0), sides, sides, (0, 0)), 'reflect'))
    middle = slice(transformer.MARGIN, -transformer.MARGIN)
    found = transformer.apply_with_margin(params, images)
    np.testing.assert_allclose(found, wide[:, middle, middle], atol=1e-6)


def test_parameters_of_another_network_are_refused_by_name():
    params = transformer.init(jax.random.key(0), width=2, blocks=1)
    transformer.check(params)
    params['up1']['norm']['scale'] = jnp.ones(3)
    with pytest.raises(errors.UserError, match='up1/norm/scale'):
        transformer.check(params)
    with pytest.raises(errors.UserError, match='not of a style transformer'):
        transformer.check({'dense': jnp.ones(3)})
    with pytest.raises(errors.UserError, match="'some'"):
        transformer.adapted('some')


# Losses. ------------------------------------------------------------------------------------------


def features(images):
    """Four layers of different widths and sizes, as a loss network has them."""
    kernels = [np.random.default_rng(i).normal(size=(3, 2 + i)) for i in range(4)]
    return [images[:, :: i + 1, :: i + 1] @ kernel for i, kernel in enumerate(kernels)]


@pytest.mark.usefixtures('x64')
def test_perceptual_loss_equals_its_definition():
    outputs, contents, style = (
        uniform(0, 2, 6, 8, 3),
        uniform(1, 2, 6, 8, 3),
        uniform(2, 1, 6, 4, 3),
    )
    grams = tuple(gram.gram(layer)[0] for layer in features(style))
    targets = perceptual_loss.Targets(features(contents)[1], grams)
    weights = perceptual_loss.LossWeights(content=2.0, style=30.0)
    found = perceptual_loss.of_features(features(outputs), targets, weights)
    content = 2 * np.mean((features(outputs)[1] - features(contents)[1]) ** 2)
    style_layers = []
    for out, ref in zip(features(outputs), features(style), strict=True):
        plain = lambda x: x.reshape(-1, x.shape[-1]).T @ x.reshape(-1, x.shape[-1]) / x.size
        style_layers.append(30 * np.mean([(plain(o) - plain(ref[0])) ** 2 for o in out]))
    np.testing.assert_allclose(found.content, content, rtol=1e-12)
    np.testing.assert_allclose(found.style_layers, style_layers, rtol=1e-12)
    np.testing.assert_allclose(found.style, sum(style_layers), rtol=1e-12)
    np.testing.assert_allclose(found.total, content + sum(style_layers), rtol=1e-12)


def test_a_picture_has_no_loss_against_itself():
    maps = features(uniform(0, 1, 8, 8, 3))
    targets = perceptual_loss.Targets(maps[1], tuple(gram.gram(layer)[0] for layer in maps))
    assert perceptual_loss.of_features(maps, targets, perceptual_loss.DEFAULT_WEIGHTS).total == 0


@pytest.mark.usefixtures('x64')
def test_styles_in_one_batch_have_the_losses_that_each_has_alone(disagreement):
    network = vgg.random(jax.random.key(0), width=2)
    theta = transformer.init(jax.random.key(1), width=2, blocks=1)
    norms, rest = trees.partition(theta, transformer.adapted('norm'))
    several = {
        name: jnp.stack([leaf, 1.3 * leaf + 0.1, 0.7 * leaf]) for name, leaf in norms.items()
    }
    contents = uniform(0, 2, 16, 16, 3)
    grams = gram.of_images(network, uniform(1, 3, 16, 16, 3))
    per_image = {name: jnp.repeat(leaf, 2, axis=0) for name, leaf in several.items()}
    params = trees.combine(theta, per_image, rest)
    shared = perceptual_loss.compute_targets(network, contents, grams)
    together = perceptual_loss.of_styles(params, network, contents, shared)
    own = shared._replace(content=jnp.stack([shared.content] * 3))
    apart = perceptual_loss.of_styles(params, network, np.stack([contents] * 3), own)
    for i in range(3):
        one = trees.combine(theta, {name: leaf[i] for name, leaf in several.items()}, rest)
        targets = shared._replace(grams=tuple(layer[i] for layer in grams))
        alone = perceptual_loss.of_network(one, network, contents, targets)
        for batch in (together, apart):
            disagreement(jax.tree.map(lambda leaf, i=i: leaf[i], batch), alone, 1e-6)


def test_parameters_of_thousands_of_blocks_or_of_no_width_are_refused_at_once():
    params = transformer.init(jax.random.key(0), width=2, blocks=1)
    transformer.check(params)
    many = params | {f'block{i}': {'x': jnp.ones(1)} for i in range(1, 20_000)}
    with pytest.raises(errors.UserError, match='parameter block1/'):
        transformer.check(many)  # tracing a network of so many would take minutes
    none = params | {'down1': {'conv': {'kernel': jnp.ones((9, 9, 3, 0))}}}
    with pytest.raises(errors.UserError, match='width is 0'):
        transformer.check(none)


@pytest.mark.usefixtures('x64')
def test_what_no_output_depends_on_has_no_gradient(monkeypatch):
    params = transformer.init(jax.random.key(0), width=2, blocks=2)
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), params)
    rng = np.random.default_rng(0)
    images, weights = rng.uniform(size=(2, 1, 21, 18, 3))
    gradient = lambda: tensor_files.flatten(
        jax.grad(lambda params: jnp.sum(weights * transformer.apply(params, images)))(params)
    )
    found = gradient()
    monkeypatch.setattr(jax.lax, 'stop_gradient', lambda leaf: leaf)
    computed = gradient()
    zero = {name for name, leaf in computed.items() if np.abs(leaf).max() < 1e-12}
    assert zero == {name for name in found if name.endswith(('conv/bias', 'second/norm/bias'))}
    for name, leaf in found.items():
        if name in zero:
            assert not np.any(leaf), name
        else:
            np.testing.assert_allclose(leaf, computed[name], rtol=1e-9, atol=1e-12)
