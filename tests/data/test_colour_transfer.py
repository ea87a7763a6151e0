"""Colours of a photograph that a painting gets before the adaptation."""

import numpy as np

from metastyle_jax.data import colour_transfer


def test_a_painting_gets_the_histogram_of_the_photograph():
    rng = np.random.default_rng(0)
    pixels = rng.uniform(size=(20, 24, 3)).astype(np.float32)
    photo = pixels * np.array([1.0, 0.5, 0.1], np.float32)
    painting = np.random.default_rng(1).beta(2, 5, size=(30, 30, 3)).astype(np.float32)
    matched = colour_transfer.match(painting, photo)
    assert matched.shape == painting.shape
    for quantile in (0.1, 0.5, 0.9):
        found, wanted = (np.quantile(x, quantile, axis=(0, 1)) for x in (matched, photo))
        np.testing.assert_allclose(found, wanted, atol=0.02)
    order = np.argsort(painting[..., 0].ravel())
    assert (np.diff(matched[..., 0].ravel()[order]) >= -1e-6).all()  # bright stays bright
