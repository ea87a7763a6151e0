"""AdaIN."""

import jax
import numpy as np
import pytest

from metastyle_jax.baselines import adain, systems
from metastyle_jax.baselines.features import encoder_decoder, statistics


@pytest.fixture(scope='module')
def small():
    system = systems.compiled(adain.system(encoder='vgg16', width=2))
    params = system.init(jax.random.key(0))
    params['decoder']['conv1_1']['kernel'] *= 20  # a fresh decoder makes almost grey pictures
    return system, params


def pictures(n=1, height=18, width=21, seed=0):
    return np.random.default_rng(seed).uniform(size=(n, height, width, 3)).astype(np.float32)


@jax.jit
def expected_pictures(params, painting, contents, alpha):
    features, style = (
        encoder_decoder.encode(params['encoder'], images, ('relu4_1',))[0]
        for images in (contents, painting)
    )
    target = statistics.with_moments(features, statistics.moments(style))
    layers = encoder_decoder.decoder_layers('vgg16', 'relu4_1', width=2)
    blended = (1 - alpha) * features + alpha * target
    return encoder_decoder.decode(params['decoder'], layers, blended, contents.shape[1:3])


def test_the_decoded_features_have_the_moments_of_the_style(small):
    """At strength 0 they are those of the content, so that the picture is a reconstruction."""
    system, params = small
    contents, painting = pictures(2), pictures(1, 32, 24, 1)
    style = system.encode_style(params, painting[0])
    found = {alpha: system.apply(params, style, contents, alpha) for alpha in (0.0, 0.3, 1.0)}
    for alpha, stylized in found.items():
        expected = np.clip(expected_pictures(params, painting, contents, alpha), 0, 1)
        assert np.mean((expected > 0) & (expected < 1)) > 0.5
        np.testing.assert_allclose(stylized, expected, atol=1e-5)
    assert np.max(np.abs(found[0.0] - found[1.0])) > 1e-2


def test_each_content_is_stylized_as_if_alone(small):
    system, params = small
    contents = pictures(2)
    style = system.encode_style(params, pictures(1, 32, 24, 1)[0])
    both = system.apply(params, style, contents, 1.0)
    for i in range(2):
        alone = system.apply(params, style, contents[i : i + 1], 1.0)
        np.testing.assert_allclose(both[i], alone[0], atol=1e-5)


@pytest.mark.parametrize('painting', [np.zeros((16, 16, 3)), np.full((16, 16, 3), 0.7)])
def test_flat_pictures_and_small_ones_give_finite_pictures(small, painting):
    system, params = small
    style = system.encode_style(params, painting.astype(np.float32))
    for contents in (pictures(1, 16, 16), np.ones((1, 16, 16, 3), np.float32)):
        assert np.isfinite(system.apply(params, style, contents, 1.0)).all()
