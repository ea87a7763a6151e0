"""WCT."""

import jax
import numpy as np
import pytest

from metastyle_jax.baselines import systems, wct
from metastyle_jax.baselines.features import encoder_decoder, statistics
from metastyle_jax.core.errors import UserError


@pytest.fixture(scope='module')
def small():
    system = systems.compiled(wct.system(encoder='vgg16', width=2))
    params = system.init(jax.random.key(0))
    for decoder in params['decoders'].values():
        decoder['conv1_1']['kernel'] *= 20  # a fresh decoder makes almost grey pictures
    return system, params


def pictures(n=1, height=18, width=21, seed=0):
    return np.random.default_rng(seed).uniform(size=(n, height, width, 3)).astype(np.float32)


def test_the_kernels_are_as_many_as_on_the_poster():
    layers = [
        layer
        for cut in wct.CUTS
        for make in (encoder_decoder.encoder_layers, encoder_decoder.decoder_layers)
        for layer in make('vgg19', cut)
    ]
    assert sum(layer.size**2 * layer.inputs * layer.outputs for layer in layers) == 34_227_072


def test_the_stored_parameters_are_those_of_the_footnote():
    system = wct.system(width=2)
    params = jax.eval_shape(system.init, jax.random.key(0))
    stored = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert f'{stored:,} parameters are stored' in system.footnote
    assert stored < system.count


def test_a_less_deep_cascade_leaves_the_first_pairs_out(small):
    whole, params = small
    system = systems.compiled(wct.system(encoder='vgg16', width=2, deepest='relu3_1'))
    shapes = jax.eval_shape(system.init, jax.random.key(0))
    assert list(shapes['decoders']) == ['relu1_1', 'relu2_1', 'relu3_1']
    assert max(shapes['encoder']) == 'conv3_1'
    contents, painting = pictures(1), pictures(1, 32, 24, 1)[0]
    style = whole.encode_style(params, painting)
    expected = contents
    for cut in ('relu3_1', 'relu2_1', 'relu1_1'):
        (features,) = encoder_decoder.encode(params['encoder'], expected, (cut,))
        decoded = encoder_decoder.decode(
            params['decoders'][cut],
            encoder_decoder.decoder_layers('vgg16', cut, width=2),
            statistics.with_covariance(features, style[cut]),
            (18, 21),
        )
        expected = jax.numpy.clip(decoded, 0, 1)
    found = system.apply(params, system.encode_style(params, painting), contents, 1.0)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    with pytest.raises(UserError, match="deepest='relu2_2'"):
        wct.system(deepest='relu2_2')


@jax.jit
def expected_pictures(params, painting, contents, alpha):
    expected = contents
    for cut in ('relu5_1', 'relu4_1', 'relu3_1', 'relu2_1', 'relu1_1'):
        features, of_style = (
            encoder_decoder.encode(params['encoder'], images, (cut,))[0]
            for images in (expected, painting)
        )
        styled = statistics.with_covariance(features, statistics.covariance_roots(of_style))
        layers = encoder_decoder.decoder_layers('vgg16', cut, width=2)
        blended = (1 - alpha) * features + alpha * styled
        size = contents.shape[1:3]
        expected = encoder_decoder.decode(params['decoders'][cut], layers, blended, size)
        expected = jax.numpy.clip(expected, 0, 1)
    return expected


def test_each_pair_transforms_and_decodes_the_picture_of_the_pair_before(small):
    """At strength 0 each pair reconstructs its picture."""
    system, params = small
    contents, painting = pictures(2), pictures(1, 32, 24, 1)
    style = system.encode_style(params, painting[0])
    found = {alpha: system.apply(params, style, contents, alpha) for alpha in (0.0, 0.6)}
    for alpha, stylized in found.items():
        expected = expected_pictures(params, painting, contents, alpha)
        np.testing.assert_allclose(stylized, expected, atol=1e-4)
    assert np.max(np.abs(found[0.0] - found[0.6])) > 1e-2


@pytest.mark.parametrize(
    'painting', [np.zeros((16, 16, 3)), np.full((16, 16, 3), 0.7), pictures(1, 16, 16, 2)[0]]
)
def test_flat_pictures_and_small_ones_give_finite_pictures(small, painting):
    system, params = small
    style = system.encode_style(params, painting.astype(np.float32))
    for contents in (pictures(1, 16, 16), np.ones((1, 16, 16, 3), np.float32)):
        stylized = system.apply(params, style, contents, 1.0)
        assert stylized.shape == contents.shape
        assert np.isfinite(stylized).all()
