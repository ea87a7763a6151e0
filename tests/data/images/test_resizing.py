"""Resizing of pictures with values in 0..1 and of bytes."""

import numpy as np
import pytest
from pictures import HEIGHT, WIDTH, gradient

from metastyle_jax.data.images import image_files, resizing


@pytest.mark.parametrize('dtype', [np.float32, np.uint8])
@pytest.mark.parametrize('shape', [(HEIGHT, WIDTH, 3), (HEIGHT, WIDTH)])
def test_resizing_keeps_dtype_range_and_constants(dtype, shape):
    value = 200 if dtype == np.uint8 else 0.3
    small = resizing.resize(np.full(shape, value, dtype), 10, 20)
    assert small.dtype == dtype
    assert small.shape == (10, 20, *shape[2:])
    np.testing.assert_allclose(small, np.asarray(value, dtype), atol=1e-6)
    edge = np.zeros(shape, dtype)
    edge[:, shape[1] // 2 :] = 255 if dtype == np.uint8 else 1
    large = resizing.resize(edge, 100, 100)
    assert large.max() == edge.max()
    assert large.min() == 0


def test_downscaling_is_antialiased():
    stripes = np.zeros((64, 64, 3), np.float32)
    stripes[:, ::2] = 1
    small = resizing.resize(stripes, 16, 16)
    np.testing.assert_allclose(small[:, 2:-2], 0.5, atol=0.01)


def test_resizing_of_floats_and_of_bytes_agree():
    rgb = gradient()
    floats = resizing.resize((rgb / 255).astype(np.float32), 13, 17)
    assert np.abs(floats * 255 - resizing.resize(rgb, 13, 17)).max() < 1.5


def test_fit_never_upscales():
    image = np.zeros((30, 100, 3), np.float32)
    assert resizing.fit(image, 200) is image
    assert resizing.fit(image, 50).shape == (15, 50, 3)
    assert resizing.fit(np.zeros((1, 100, 3), np.float32), 10).shape == (1, 10, 3)
    with pytest.raises(image_files.ImageError, match='at least 1'):
        resizing.resize(image, 0, 5)
