"""The transformer: shapes, invariants, and the numbers of parameters that the paper states."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metastyle_jax.core import errors, trees
from metastyle_jax.models import transformer
from metastyle_jax.storage import tensor_files


def uniform(seed, *shape):
    return np.random.default_rng(seed).uniform(size=shape)


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
    expected = {  # first and last value, as a flax.linen module of the same names draws them
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
def test_the_margin_is_a_reflection_and_is_cut_off(shape):
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
def test_biases_that_a_norm_subtracts_again_have_no_gradient(monkeypatch):
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
