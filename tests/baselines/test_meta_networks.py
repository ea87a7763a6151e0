"""Meta Networks: weights of a transformer that are computed from a style image."""

import math

import jax
import numpy as np
import pytest

from metastyle_jax.baselines import meta_networks, systems
from metastyle_jax.core import errors
from metastyle_jax.models import transformer

SMALL = {'hidden': 3, 'width': 2, 'blocks': 2, 'vgg_width': 2}


def pictures(*shape, seed=0):
    return np.random.default_rng(seed).uniform(size=(*shape, 3)).astype(np.float32)


@pytest.fixture(scope='module')
def small():
    system = meta_networks.system(**SMALL)
    return systems.compiled(system), jax.jit(system.init)(jax.random.key(0))


def test_the_parameters_are_counted_to_the_digit():
    system = systems.get('meta-networks')
    assert system.count == 219_316_259
    assert '1,660,448' in system.footnote
    params = jax.eval_shape(system.init, jax.random.key(0))
    style = jax.eval_shape(system.encode_style, params, pictures(16, 16))
    size = lambda tree: sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))
    assert size(params['hidden']) == 3_442_432
    assert len(params['groups']) == 14
    assert size(params['groups']) == 129 * 1_660_448 == 214_197_792
    assert size(params['outer']) + size(style) == 1_676_035
    held = size({name: params[name] for name in ('hidden', 'groups', 'outer')})
    assert held + size(style) == system.count


def test_a_smaller_hidden_width_has_fewer_parameters():
    system = meta_networks.system(hidden=8)
    params = jax.eval_shape(system.init, jax.random.key(0))
    assert params['groups']['up1']['kernel'].shape[0] == 8
    assert system.count < 20_000_000


def test_the_file_of_the_widths_that_are_trained_by_default_is_smaller_than_8_mb():
    params = jax.eval_shape(meta_networks.recipe().init, jax.random.key(0))
    assert 2 * sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params)) < 8e6


def test_generated_parameters_have_the_shapes_of_the_transformer(small):
    system, params = small
    style = system.encode_style(params, pictures(20, 17))
    found = meta_networks.transformer_params(params, style)
    transformer.check(found)
    assert transformer.width_and_blocks(found) == (2, 2)


def test_pictures_are_those_of_the_transformer_with_the_generated_parameters(small):
    system, params = small
    contents = pictures(2, 19, 24)
    style = system.encode_style(params, pictures(20, 17, seed=1))
    expected = transformer.apply(transformer.init(jax.random.key(0), width=2, blocks=2), contents)
    found = system.apply(params, style, contents, 1.0)
    assert np.abs(found - expected).max() > 0.01  # of other parameters
    numbers = meta_networks.image_statistics(params['encoder'], pictures(1, 20, 17, seed=1))[0]
    weights = by_hand(params, np.asarray(numbers))
    expected = jax.jit(transformer.apply)(weights, contents)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_array_equal(system.apply(params, style, contents, 0.0), contents)


def by_hand(params, numbers):
    """Computes the parameters of the transformer in NumPy, one group after the other."""
    weights = transformer.init(jax.random.key(0), width=2, blocks=2)  # norms with scale 1, bias 0
    weights['down1']['conv'], weights['out'] = params['outer']['down1'], params['outer']['out']
    names = ['down2', 'down3', 'block1/first', 'block1/second', 'block2/first', 'block2/second']
    units = np.maximum(numbers @ params['hidden']['kernel'] + params['hidden']['bias'], 0)
    for i, name in enumerate([*names, 'up1', 'up2']):
        block, _, place = name.partition('/')
        layer = weights[block][place] if place else weights[block]
        group = params['groups'][name]
        row = units[3 * i : 3 * i + 3] @ group['kernel'] + group['bias']
        kernel, bias = layer['conv']['kernel'], layer['conv']['bias']
        layer['conv'] = {
            'kernel': row[: kernel.size].reshape(kernel.shape),
            'bias': row[-bias.size :],
        }
    return weights


def test_statistics_are_means_and_standard_deviations_of_vgg(small):
    _, params = small
    found = meta_networks.image_statistics(params['encoder'], pictures(2, 16, 24))
    assert found.shape == (2, meta_networks.statistics_size(2))
    assert meta_networks.statistics_size() == 1920
    layer = meta_networks.vgg.features(params['encoder'], pictures(2, 16, 24))[0]
    np.testing.assert_allclose(found[:, :2], np.mean(layer, axis=(1, 2)), rtol=1e-5)
    np.testing.assert_allclose(found[:, 2:4], np.std(layer, axis=(1, 2)), rtol=1e-5)


@pytest.mark.parametrize('value', [0.0, 1.0])
def test_flat_styles_and_smallest_pictures_are_finite(small, value):
    system, params = small
    flat = np.full((16, 16, 3), value, np.float32)
    assert np.isfinite(systems.stylize(system, params, flat, pictures(1, 16, 16))).all()


def test_gradients_reach_every_parameter_that_is_trained(small):
    system, params = small
    trained = {name: params[name] for name in ('hidden', 'groups', 'outer')}

    def brightness(trained):
        both = {**trained, 'encoder': params['encoder']}
        style = system.encode_style(both, pictures(16, 16, seed=1))
        return system.apply(both, style, pictures(1, 16, 16), 1.0)[..., 0].mean()

    gradient = jax.jit(jax.grad(brightness))(trained)
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradient['groups']))
    assert np.abs(gradient['hidden']['kernel']).max() > 0
    assert np.abs(gradient['outer']['down1']['kernel']).max() > 0


@pytest.mark.parametrize(('name', 'value'), [('hidden', 0), ('width', 0), ('blocks', -1)])
def test_impossible_widths_are_refused(name, value):
    with pytest.raises(errors.UserError, match=f'{name}={value}'):
        meta_networks.system(**{name: value})
