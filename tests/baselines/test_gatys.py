"""Gatys's optimization of pixels."""

import numpy as np
import pytest
from adaptation_helpers import random_images, style_grams

from metastyle_jax.baselines import gatys
from metastyle_jax.core import errors
from metastyle_jax.data import batching
from metastyle_jax.models import gram


def test_gatys_lowers_the_loss_from_the_content_and_from_another_start(network):
    content = batching.as_float(random_images(6, 1)[0])
    for start in (None, 1 - content):
        found = gatys.optimize(content, style_grams(network), network, start=start, iterations=5)
        assert found.losses.shape == found.seconds.shape == (6,)
        assert found.losses[-1] < 0.9 * found.losses[0]
        assert 0 <= found.image.min() <= found.image.max() <= 1
    assert (np.diff(found.losses) <= 0).all()


def test_gatys_keeps_a_content_that_has_the_style_already(network):
    content = batching.as_float(random_images(6, 1)[0])
    own = gram.of_image(network, content)
    found = gatys.optimize(content, own, network, iterations=2)
    assert found.losses[0] == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(found.image, content, atol=1e-5)


@pytest.mark.parametrize(
    ('change', 'message'),
    [({'start': np.zeros((8, 8, 3))}, 'both must be one image'), ({'iterations': 0}, '=0')],
)
def test_gatys_refuses_a_start_of_another_size_and_zero_iterations(network, change, message):
    content = np.zeros((16, 16, 3), np.float32)
    with pytest.raises(errors.UserError, match=message):
        gatys.optimize(content, style_grams(network), network, **change)
