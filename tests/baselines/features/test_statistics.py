"""Moments, whitening and colouring of feature maps."""

import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest

from metastyle_jax.baselines.features import statistics


def maps(n=2, height=9, width=7, channels=5, seed=0, dtype=np.float64):
    """Feature maps with correlated channels of different strengths."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(channels, channels)) * np.logspace(-1, 1, channels)
    x = rng.normal(size=(n, height, width, channels)) @ mixing + rng.normal(size=channels)
    return x.astype(dtype)


def covariances(x):
    return np.stack([np.cov(np.reshape(image, (-1, x.shape[-1])).T) for image in np.asarray(x)])


def test_moments_are_those_of_numpy(x64):
    x = maps()
    found = statistics.moments(x)
    np.testing.assert_allclose(found.mean, x.mean((1, 2)), rtol=1e-12)
    np.testing.assert_allclose(found.std, x.std((1, 2)), rtol=1e-12)


@pytest.mark.parametrize('count', [1, 2])
def test_features_get_the_mean_and_the_standard_deviation_of_others(x64, count):
    content, style = maps(), maps(n=count, height=4, width=6, seed=1)
    target = statistics.moments(style)
    found = statistics.moments(statistics.with_moments(content, target))
    for value, expected in zip(found, target, strict=True):
        np.testing.assert_allclose(value, np.broadcast_to(expected, value.shape), atol=1e-6)


def test_flat_channels_take_the_mean_of_the_style(x64):
    content, style = np.full((1, 3, 3, 2), 7.0), maps(n=1, channels=2)
    target = statistics.moments(style)
    found = statistics.with_moments(content, target)
    np.testing.assert_allclose(found, jnp.broadcast_to(target.mean[:, None, None], found.shape))


def test_the_gradient_of_moments_agrees_with_finite_differences(x64):
    style = maps(n=1, seed=1)

    def loss(x):
        mean, std = statistics.moments(x)
        adapted = statistics.with_moments(x, statistics.moments(style))
        return jnp.sum(jnp.sin(mean) + std**3) + jnp.sum(jnp.sin(adapted))

    jax.test_util.check_grads(loss, (maps(),), order=2, modes=['rev'], rtol=1e-4)
    flat = jax.grad(lambda x: jnp.sum(statistics.moments(x).std))(jnp.ones((1, 3, 3, 2)))
    np.testing.assert_array_equal(flat, 0)


def test_whitening_makes_the_covariance_the_identity(x64):
    x = maps()
    whitened = statistics.whiten(x, statistics.covariance_roots(x))
    np.testing.assert_allclose(np.mean(whitened, (1, 2)), 0, atol=1e-10)
    np.testing.assert_allclose(covariances(whitened), np.stack([np.eye(5)] * 2), atol=1e-5)


@pytest.mark.parametrize('count', [1, 2])
def test_colouring_makes_the_covariance_that_of_the_style(x64, count):
    content, style = maps(), maps(n=count, height=11, seed=1)
    target = statistics.covariance_roots(style)
    whitened = statistics.whiten(content, statistics.covariance_roots(content))
    for coloured in (
        statistics.colour(whitened, target),
        statistics.with_covariance(content, target),
    ):
        for i in range(2):
            expected = style[i % count]
            np.testing.assert_allclose(
                covariances(coloured)[i], covariances(style)[i % count], atol=1e-5
            )
            np.testing.assert_allclose(
                np.mean(coloured[i], (0, 1)), expected.mean((0, 1)), atol=1e-5
            )


def test_features_with_their_own_covariance_stay_the_same(x64):
    x = maps()
    found = statistics.with_covariance(x, statistics.covariance_roots(x))
    np.testing.assert_allclose(found, x, atol=1e-8)


def test_float32_features_are_whitened_as_well_as_float64_ones():
    # Standard deviations from 0.05 to 2,000: float32 alone cannot find the smallest eigenvalue.
    x = maps(n=1, height=40, width=40, channels=3, dtype=np.float32)
    x = x * np.array([0.5, 1, 200], np.float32)
    whitened = statistics.whiten(x, statistics.covariance_roots(x))
    assert whitened.dtype == np.float32
    np.testing.assert_allclose(covariances(whitened)[0], np.eye(3), atol=1e-3)


@pytest.mark.parametrize('dtype', [np.float32, np.float64])
@pytest.mark.parametrize('kind', ['flat', 'one pixel', 'few pixels', 'equal channels', 'tiny'])
def test_singular_covariances_give_finite_features(kind, dtype):
    x = {
        'flat': np.full((1, 4, 4, 6), 3.0),
        'one pixel': maps(n=1, height=1, width=1, channels=6),
        'few pixels': maps(n=1, height=2, width=2, channels=6) * 1e3,
        'equal channels': np.repeat(maps(n=1, channels=1), 6, axis=3),
        'tiny': maps(n=1, channels=6) * 1e-6,
    }[kind].astype(dtype)
    ordinary = maps(n=1, channels=6, seed=3, dtype=dtype)
    with jax.enable_x64(dtype == np.float64):
        for content, style in ((x, ordinary), (ordinary, x), (x, x)):
            target = statistics.covariance_roots(style)
            found = np.asarray(statistics.with_covariance(content, target))
            assert np.isfinite(found).all()
            assert found.dtype == dtype
            # Dropped directions must not come back as amplified rounding.
            spread = np.abs(style - style.mean((0, 1, 2))).max()
            assert np.abs(found - style.mean((0, 1, 2))).max() <= 100 * spread + 1e-4


def test_the_roots_can_be_compiled():
    x = maps(dtype=np.float32)
    for found, expected in zip(
        jax.jit(statistics.covariance_roots)(x), statistics.covariance_roots(x), strict=True
    ):
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
