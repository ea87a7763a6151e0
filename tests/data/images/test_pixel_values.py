"""Values of pixels, with alpha and without."""

import numpy as np
import pytest
from pictures import encode, gradient
from PIL import Image

from metastyle_jax.data.images import image_files


@pytest.mark.parametrize(
    ('mode', 'encoder'), [('RGBA', 'PNG'), ('LA', 'PNG'), ('RGBA', 'TIFF'), ('PA', 'TIFF')]
)
def test_alpha_is_returned_and_rgb_is_composited_on_white(mode, encoder):
    solid = Image.fromarray(gradient())
    if mode == 'LA':
        solid = solid.convert('L')
    if mode == 'PA':
        solid = solid.quantize(16)
    image = solid.convert(mode)
    alpha = gradient()[..., 0]
    image.putalpha(Image.fromarray(alpha))
    picture = image_files.read(encode(image, encoder))
    opacity = alpha / 255
    np.testing.assert_allclose(picture.alpha, opacity, atol=1e-6)
    colour = np.asarray(solid.convert('RGB')) / 255
    expected = colour * opacity[..., None] + 1 - opacity[..., None]
    np.testing.assert_allclose(picture.rgb, expected, atol=1e-5)
    uint8 = image_files.read_uint8(encode(image, encoder))
    np.testing.assert_allclose(uint8, expected * 255, atol=0.51)


def test_an_opaque_alpha_channel_counts_as_none():
    image = Image.fromarray(gradient()).convert('RGBA')
    assert image_files.read(encode(image, 'PNG')).alpha is None
