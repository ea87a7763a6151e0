"""Masks: one picture with a style in each region."""

import numpy as np
import pytest
from stylization_helpers import make_style

import metastyle_jax
from metastyle_jax.core.errors import UserError
from metastyle_jax.stylization import (
    mask_regions,
)


def test_each_style_fills_its_region(pixels):
    left = np.zeros(pixels.shape[:2], np.float32)
    left[:, :12] = 1
    one, two = make_style(1), make_style(2)
    output = metastyle_jax.stylize([one, two], pixels, masks=[1 - left], feather=0)
    first, second = (metastyle_jax.stylize(style, pixels) for style in (one, two))
    np.testing.assert_allclose(output[:, :12], first[:, :12], atol=1e-6)
    np.testing.assert_allclose(output[:, 12:], second[:, 12:], atol=1e-6)
    both = metastyle_jax.stylize([one, two], pixels, masks=[left, 1 - left], feather=0)
    np.testing.assert_allclose(both, output, atol=1e-6)
    soft = mask_regions.shares_of_styles([left], count=2, feather=0.1)
    np.testing.assert_allclose(soft.sum(0), 1, atol=1e-6)
    assert np.abs(np.diff(soft[1, 0])).max() < 0.3  # the edge is soft
    assert soft[1, 0, 0] > 0.99
    assert soft[1, 0, -1] < 0.01
    reduced = metastyle_jax.stylize([one, two], pixels, masks=[left], max_size=20)
    assert reduced.shape == (17, 20, 3)


@pytest.mark.parametrize(
    ('masks', 'message'),
    [
        ([], '0 mask.s. for 2 style'),
        ([np.zeros((20, 24))] * 3, '3 mask.s. for 2 style'),
        ([np.zeros((20, 23))], '23 x 20 pixels and the image 24 x 20'),
        ([np.full((20, 24), 0.4)] * 2, 'gap of 100.0 %'),
        ([np.full((20, 24), 0.6)] * 2, 'overlap: their sum is up to 1.20'),
        ([np.full((20, 24), 2.0)], 'mask 1 is no mask'),
        ([np.full((20, 24), np.nan)], 'mask 1 is no mask'),
        ([np.zeros((0, 0))], '0 x 0 pixels and the image 24 x 20'),
    ],
)
def test_masks_with_gaps_overlaps_or_wrong_sizes_are_refused(pixels, masks, message):
    with pytest.raises(UserError, match=message):
        metastyle_jax.stylize([make_style(1), make_style(2)], pixels, masks=masks)
