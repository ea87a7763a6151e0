"""Style-Swap: features of swapped patches, and the inverse network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metastyle_jax.baselines import style_swap, systems
from metastyle_jax.baselines.features import encoder_decoder
from metastyle_jax.core import errors


def pictures(*shape, seed=0):
    return np.random.default_rng(seed).uniform(size=(*shape, 3)).astype(np.float32)


@pytest.fixture(scope='module')
def small():
    system = style_swap.system(width=2)
    return systems.compiled(system), jax.jit(system.init)(jax.random.key(0))


def test_the_parameters_are_counted_as_built_with_a_footnote():
    system = systems.get('style-swap')
    assert system.count == 555_328 + 555_075
    assert '1.48 M' in system.footnote
    shapes = jax.eval_shape(system.init, jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == system.count


def reconstruction(params, contents):
    """Applies the inverse network to features that are not swapped."""
    decoding = encoder_decoder.decoder_layers('vgg19', 'relu3_1', width=2)
    features = style_swap.encode(params, contents)
    return np.clip(style_swap.invert(params, decoding, features, contents.shape[1:3]), 0, 1)


def test_without_strength_the_content_is_reconstructed(small):
    system, params = small
    contents, painting = pictures(2, 21, 18), pictures(16, 24, seed=1)
    style = system.encode_style(params, painting)
    plain = reconstruction(params, contents)
    np.testing.assert_allclose(system.apply(params, style, contents, 0.0), plain, atol=1e-5)
    assert np.abs(system.apply(params, style, contents, 1.0) - plain).max() > 1e-3


def test_a_picture_in_its_own_style_is_reconstructed(small):
    system, params = small
    contents = pictures(1, 24, 20)
    found = systems.stylize(system, params, contents[0], contents)
    np.testing.assert_allclose(found, reconstruction(params, contents), atol=1e-5)


def test_features_of_the_picture_are_patches_of_the_style(small):
    """Where the style has one colour, all its patches inside of the border are equal."""
    system, params = small
    style = system.encode_style(params, np.full((32, 32, 3), 0.3, np.float32))
    assert jnp.ptp(style, axis=(0, 1)).max() < 1e-6
    first, second = (
        system.apply(params, style, pictures(1, 16, 16, seed=seed), 1.0) for seed in (2, 3)
    )
    np.testing.assert_allclose(first, second, atol=1e-5)


@pytest.mark.parametrize('value', [0.0, 0.5, 1.0])
def test_flat_and_smallest_pictures_are_finite(small, value):
    system, params = small
    flat = np.full((16, 16, 3), value, np.float32)
    for style, content in ((flat, pictures(16, 16)), (pictures(16, 16), flat), (flat, flat)):
        found = systems.stylize(system, params, style, content[None])
        assert np.isfinite(found).all()


def test_impossible_patches_and_encoders_are_refused():
    with pytest.raises(errors.UserError, match='size=5'):
        style_swap.system(size=5)
    with pytest.raises(errors.UserError, match='encoder='):
        style_swap.system(encoder='vgg11')
