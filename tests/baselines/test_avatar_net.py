"""Avatar-Net: the style decorator, and the decoder that follows the style's statistics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metastyle_jax.baselines import avatar_net, systems
from metastyle_jax.baselines.features import encoder_decoder, patches, statistics
from metastyle_jax.core import errors


def pictures(*shape, seed=0):
    return np.random.default_rng(seed).uniform(size=(*shape, 3)).astype(np.float32)


@pytest.fixture(scope='module')
def small():
    system = avatar_net.system(width=2)
    return systems.compiled(system), jax.jit(system.init)(jax.random.key(0))


def test_the_parameters_are_counted_to_the_digit():
    system = systems.get('avatar-net')
    decoding = avatar_net.decoder_layers('vgg19', width=64)
    assert encoder_decoder.parameter_count(decoding) == 3_549_827
    assert system.count == 143_667_240 + 3_549_827 == 147_217_067
    shapes = jax.eval_shape(system.init, jax.random.key(0))
    used = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    assert used == 3_505_728 + 3_549_827
    assert f'{used:,}' in system.footnote
    assert avatar_net.system(encoder='vgg16').count < system.count


def test_the_decoder_is_the_one_of_the_paper():
    layers = avatar_net.decoder_layers('vgg19', width=64)
    assert [(layer.inputs, layer.outputs, layer.size, layer.resamples) for layer in layers] == [
        (512, 256, 3, False), (256, 256, 3, True), (256, 256, 3, False), (256, 256, 3, False),
        (256, 128, 3, False), (128, 128, 3, True), (128, 64, 3, False), (64, 64, 3, True),
        (64, 64, 3, False), (64, 3, 7, False),
    ]  # fmt: skip


def reconstruction(params, contents):
    """Decodes the features of a picture, guided by its own moments."""
    *guides, features = avatar_net.encode(params, contents)
    moments = [statistics.moments(layer) for layer in guides]
    decoding = avatar_net.decoder_layers('vgg19', width=2)
    plain = avatar_net.decode(params, decoding, features, moments, contents.shape[1:3])
    return np.clip(plain, 0, 1)


def test_without_strength_the_content_is_reconstructed(small):
    system, params = small
    contents = pictures(2, 21, 18)
    style = system.encode_style(params, pictures(16, 24, seed=1))
    plain = reconstruction(params, contents)
    np.testing.assert_allclose(system.apply(params, style, contents, 0.0), plain, atol=1e-5)
    assert np.abs(system.apply(params, style, contents, 1.0) - plain).max() > 1e-3


def features_of(style_features):
    """A style from features at relu4_1 alone."""
    roots = statistics.covariance_roots(style_features)
    return avatar_net.DecoratorStyle(statistics.whiten(style_features, roots)[0], roots, ())


def test_decorated_features_are_coloured_patches_of_the_whitened_style(x64):
    rng = np.random.default_rng(0)
    content, style = (jnp.asarray(rng.normal(size=(1, *side, 3))) for side in ((7, 6), (5, 8)))
    found = jax.jit(avatar_net.decorate)(content, features_of(style))

    def white(x):
        flat = np.asarray(x).reshape(-1, 3)
        values, vectors = np.linalg.eigh(np.cov(flat.T))
        whitening = vectors / np.sqrt(values) @ vectors.T
        return ((flat - flat.mean(0)) @ whitening).reshape(x.shape), np.linalg.inv(whitening)

    swapped = patches.swap(
        jnp.asarray(white(content)[0]), jnp.asarray(white(style)[0][0]), size=5, centred=True
    )
    expected = np.asarray(swapped) @ white(style)[1] + np.asarray(style).mean((0, 1, 2))
    np.testing.assert_allclose(found, expected, atol=1e-10)


def test_features_decorated_in_their_own_style_stay_the_same(x64):
    own = jnp.asarray(np.random.default_rng(0).normal(size=(1, 9, 8, 3)))
    np.testing.assert_allclose(avatar_net.decorate(own, features_of(own)), own, atol=1e-10)


def test_without_weight_the_patches_are_not_swapped_but_coloured(x64):
    rng = np.random.default_rng(0)
    content, style = (jnp.asarray(rng.normal(size=(1, 6, 6, 3))) * scale for scale in (1, 3))
    found = avatar_net.decorate(content, features_of(style), swap_weight=0.0)
    target = statistics.covariance_roots(style)
    expected = statistics.with_covariance(content, target)
    np.testing.assert_allclose(found, expected, atol=1e-10)


def test_the_decoder_gives_its_features_the_moments_of_the_style(small, monkeypatch):
    system, params = small
    painting = pictures(24, 16, seed=1)
    style = system.encode_style(params, painting)
    seen = []

    def record(x, target):
        seen.append((x.shape[1:], target))
        return x

    monkeypatch.setattr(statistics, 'with_moments', record)
    decoding = avatar_net.decoder_layers('vgg19', width=2)
    avatar_net.decode(params, decoding, jnp.ones((1, 2, 3, 16)), style.moments, (16, 20))
    assert [shape for shape, _ in seen] == [(4, 5, 8), (8, 10, 4), (16, 20, 2)]
    layers = avatar_net.encode(params, painting[None])[:3]
    for (_, target), layer in zip(seen, reversed(layers), strict=True):
        np.testing.assert_allclose(target.mean, jnp.mean(layer, (1, 2)), rtol=1e-5)


@pytest.mark.parametrize('value', [0.0, 0.5, 1.0])
def test_flat_and_smallest_pictures_are_finite(small, value):
    system, params = small
    flat = np.full((16, 16, 3), value, np.float32)
    for style, content in ((flat, pictures(16, 16)), (pictures(16, 16), flat), (flat, flat)):
        found = systems.stylize(system, params, style, content[None])
        assert np.isfinite(found).all()


@pytest.mark.parametrize(
    'options', [{'size': 4}, {'size': 0}, {'swap_weight': 1.5}, {'encoder': 'vgg11'}]
)
def test_impossible_settings_are_refused(options):
    ((name, value),) = options.items()
    with pytest.raises(errors.UserError, match=f'{name}={value!r}'):
        avatar_net.system(**options)
