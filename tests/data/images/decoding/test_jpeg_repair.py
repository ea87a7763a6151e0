"""A JPEG that lacks nothing but its end is read; one that lacks more is refused."""

import numpy as np
import pytest
from pictures import encode, gradient
from PIL import Image

from metastyle_jax.data.images import image_files


def photograph(side=64):
    """Something with details of all sizes."""
    rng = np.random.default_rng(0)
    return np.clip(gradient(side, side) + rng.normal(0, 20, (side, side, 3)), 0, 255).astype(
        np.uint8
    )


def test_a_progressive_jpeg_without_its_end_marker_is_read_with_a_warning(caplog):
    whole = encode(Image.fromarray(photograph()), 'JPEG', progressive=True, quality=90)
    found = image_files.read_uint8(whole[:-2], name='photo')
    np.testing.assert_array_equal(found, image_files.read_uint8(whole))
    assert 'photo: its end is missing' in caplog.text


@pytest.mark.parametrize('share', [0.3, 0.6, 0.8])
def test_a_progressive_jpeg_that_lacks_scans_is_refused(share):
    noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)
    whole = encode(Image.fromarray(noise), 'JPEG', progressive=True, quality=90)
    with pytest.raises(image_files.ImageError, match='damaged or cut short'):
        image_files.read(whole[: int(share * len(whole))], name='photo')


@pytest.mark.parametrize('quality', [30, 80, 95])
@pytest.mark.parametrize('mode', ['RGB', 'L'])
def test_a_baseline_jpeg_without_its_end_marker_is_read_with_a_warning(mode, quality, caplog):
    whole = encode(Image.fromarray(photograph(150)).convert(mode), 'JPEG', quality=quality)
    found = image_files.read_uint8(whole[:-2], name='photo')
    np.testing.assert_array_equal(found, image_files.read_uint8(whole))
    assert 'photo: its end is missing' in caplog.text


@pytest.mark.parametrize('missing', [20, 100, 1000])
def test_a_baseline_jpeg_that_lacks_pixels_is_refused(missing):
    whole = encode(Image.fromarray(photograph(150)), 'JPEG', quality=90)
    with pytest.raises(image_files.ImageError, match='damaged or cut short'):
        image_files.read(whole[:-missing], name='photo')
