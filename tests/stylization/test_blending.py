"""Blends of styles: parameters, weights of grids and of animations."""

import jax
import numpy as np
import pytest
from stylization_helpers import THETA, make_style, network

import metastyle_jax
from metastyle_jax.core.errors import UserError
from metastyle_jax.models import transformer
from metastyle_jax.stylization import (
    blending,
)


def test_a_blend_is_the_weighted_mean_of_all_parameters(pixels):
    one, two = make_style(1), make_style(2)
    blended = blending.blend([network(1), network(2)], [0.3, 0.7])
    for a, b, mean in zip(*map(jax.tree.leaves, (network(1), network(2), blended)), strict=True):
        np.testing.assert_allclose(mean, 0.3 * a + 0.7 * b, rtol=1e-6)
    output = metastyle_jax.stylize([one, two], pixels, weights=[0.3, 0.7])
    np.testing.assert_allclose(
        output, transformer.apply_with_margin(blended, pixels[None])[0], atol=1e-5
    )
    np.testing.assert_array_equal(
        metastyle_jax.stylize([one, two], pixels, weights=[1, 0]),
        metastyle_jax.stylize(one, pixels),
    )
    equal = metastyle_jax.stylize([one, two], pixels, weights=[0.5, 0.5])
    np.testing.assert_array_equal(metastyle_jax.stylize([one, two], pixels), equal)


@pytest.mark.parametrize(
    ('weights', 'message'),
    [
        ([0.5], '2 styles need 2 weights'),
        ([1.5, -0.5], 'none may be negative'),
        ([0.5, 0.4], 'their sum is 0.9, it must be 1'),
        ([float('nan'), 1.0], 'none may be negative'),
    ],
)
def test_invalid_weights_are_refused(pixels, weights, message):
    with pytest.raises(UserError, match=message):
        metastyle_jax.stylize([make_style(1), make_style(2)], pixels, weights=weights)


def test_styles_adapted_from_different_theta_are_not_blended(pixels):
    with pytest.raises(UserError, match="'style 1' and 'style 2' were adapted from different θ"):
        metastyle_jax.stylize([make_style(1), make_style(2, network(9))], pixels)
    with pytest.raises(UserError, match='no style is given'):
        metastyle_jax.stylize([], pixels)
    small = transformer.init(jax.random.key(0), width=4, blocks=1)
    with pytest.raises(UserError, match='different sizes'):
        blending.blend([THETA, small], [0.5, 0.5])


def test_the_corners_of_a_grid_are_the_styles():
    (strip,) = blending.grid_weights(2, 3)
    assert strip == [[1, 0], [0.5, 0.5], [0, 1]]
    square = blending.grid_weights(4, 3)
    assert square[0][0] == [1, 0, 0, 0]
    assert square[0][-1] == [0, 1, 0, 0]
    assert square[-1][0] == [0, 0, 1, 0]
    assert square[1][1] == [0.25] * 4
    for row in square:
        for weights in row:
            blending.check_weights(weights, 4)


def test_a_tour_visits_every_style_in_even_steps_and_returns():
    weights = np.array(blending.tour_weights(3, 12))
    np.testing.assert_allclose(weights[::4], np.eye(3), atol=1e-12)
    np.testing.assert_allclose(weights.sum(1), 1)
    steps = np.abs(weights - np.roll(weights, -1, 0)).sum(1)
    np.testing.assert_allclose(steps, 0.5)
