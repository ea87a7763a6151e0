"""Strength, colours, strips and forms of images in `stylize`."""

import numpy as np
import pytest
from PIL import Image
from stylization_helpers import THETA, make_style, network

import metastyle_jax
from metastyle_jax.core.errors import UserError
from metastyle_jax.data import colour_transfer
from metastyle_jax.models import transformer
from metastyle_jax.stylization import (
    blending,
)


def test_strength_leads_from_the_photograph_to_the_style(theta, pixels):
    style = make_style(1)
    at = lambda strength: metastyle_jax.stylize(style, pixels, strength=strength, theta=theta)
    np.testing.assert_array_equal(at(0.0), pixels)
    between = blending.blend([network(1), THETA], [0.25, 0.75])
    made = transformer.apply_with_margin(between, pixels[None])[0]
    np.testing.assert_allclose(at(0.25), 0.75 * pixels + 0.25 * made, atol=1e-6)
    np.testing.assert_allclose(at(1.0), metastyle_jax.stylize(style, pixels), atol=1e-6)
    for middle in (0.25, 0.5, 0.75):  # no jumps
        assert np.abs(at(middle + 1e-4) - at(middle - 1e-4)).max() < 1e-2


@pytest.mark.parametrize('strength', [-0.1, 1.1, float('nan')])
def test_strengths_out_of_range_are_refused(pixels, strength):
    with pytest.raises(UserError, match='strength='):
        metastyle_jax.stylize(make_style(1), pixels, strength=strength)


def test_strength_needs_the_theta_of_the_style(pixels):
    with pytest.raises(UserError, match='needs the θ from which the style was adapted.*theta='):
        metastyle_jax.stylize(make_style(1), pixels, strength=0.7)


def test_kept_colours_take_only_brightness_from_the_style(pixels):
    style = make_style(1)
    plain = metastyle_jax.stylize(style, pixels)
    kept = metastyle_jax.stylize(style, pixels, keep_colours=True)
    luma = np.array([0.299, 0.587, 0.114], np.float32)
    inside = (kept > 0).all(-1) & (kept < 1).all(-1)
    assert inside.mean() > 0.3
    np.testing.assert_allclose((kept @ luma)[inside], (plain @ luma)[inside], atol=1e-3)
    chroma = lambda image: image - (image @ luma)[..., None]
    np.testing.assert_allclose(chroma(kept)[inside], chroma(pixels)[inside], atol=2e-3)
    np.testing.assert_allclose(colour_transfer.keep(pixels, pixels), pixels, atol=1e-3)
    with pytest.raises(UserError, match='have the same size'):
        colour_transfer.keep(pixels[1:], pixels)


def test_a_pillow_image_gives_a_pillow_image(pixels):
    one, two = make_style(1), make_style(2)
    photo = Image.fromarray(np.rint(pixels * 255).astype(np.uint8))
    mask = np.zeros(pixels.shape[:2], np.float32)
    mask[:, 12:] = 1
    for options in ({'style': one}, {'style': [one, two], 'masks': [mask]}):
        expected = metastyle_jax.stylize(image=np.asarray(photo), **options)
        assert isinstance(expected, np.ndarray)
        if 'masks' in options:
            options['masks'] = [Image.fromarray((mask * 255).astype(np.uint8))]
        found = metastyle_jax.stylize(image=photo, **options)
        assert isinstance(found, Image.Image)
        np.testing.assert_allclose(np.asarray(found) / 255, expected, rtol=0, atol=0.5 / 255)


def test_rendering_in_strips_gives_the_same_image(theta, pixels, monkeypatch):
    one, two = make_style(1), make_style(2)
    left = np.zeros(pixels.shape[:2], np.float32)
    left[:, :12] = 1
    for options in (
        {'style': one, 'strength': 0.3, 'keep_colours': True, 'theta': theta},
        {'style': [one, two], 'masks': [left]},
    ):
        whole = metastyle_jax.stylize(**options, image=pixels, tile='never')
        strips = metastyle_jax.stylize(**options, image=pixels, tile='always')
        np.testing.assert_allclose(strips, whole, atol=1e-4)
    with pytest.raises(UserError, match="tile='sometimes'"):
        metastyle_jax.stylize(one, pixels, tile='sometimes')


def test_each_image_of_a_batch_is_stylized_as_it_is_alone(library_file, theta, photo):
    pixels = np.random.default_rng(0).uniform(size=(2, 18, 21, 3)).astype(np.float32)
    for options in ({}, {'strength': 0.7}, {'strength': 0.2}, {'keep_colours': True}):
        found = metastyle_jax.stylize_batch(
            library_file, pixels, ['c', 'a'], theta=theta, **options
        )
        for image, alone, name in zip(found, pixels, 'ca', strict=True):
            expected = metastyle_jax.stylize(
                f'{library_file}:{name}', alone, theta=theta, **options
            )
            np.testing.assert_allclose(image, expected, atol=1e-5)
    with pytest.raises(UserError, match='1 images of 24 x 20 pixels for 2 names'):
        metastyle_jax.stylize_batch(library_file, [photo], ['c', 'a'], theta=theta)
    with pytest.raises(UserError, match='but the θ in the package is'):
        metastyle_jax.stylize_batch(library_file, pixels, ['c', 'a'])
