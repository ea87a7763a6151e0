"""Colours of PNG files: the cICP chunk, gamma, chromaticities, high dynamic range."""

import io
import struct

import numpy as np
import pytest
from pictures import chunk
from PIL import Image

from metastyle_jax.data.images import colour_spaces, image_files

BT2020_IN_709 = np.array(  # ITU-R BT.2087
    [[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]]
)


def png_with(pixels, **chunks):
    """A PNG with chunks before its pixels."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, 'PNG')
    data = buffer.getvalue()
    extra = b''.join(chunk(name.encode(), body) for name, body in chunks.items())
    return data[:33] + extra + data[33:]


def photo():
    """Colours of medium saturation, which all the spaces here hold."""
    rng = np.random.default_rng(0)
    return rng.uniform(0.2, 0.8, (24, 32, 3))


def to_linear(srgb):
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def as_bytes(x):
    return np.round(255 * x).astype(np.uint8)


def check(data, expected, levels=2):
    found = 255 * image_files.read(data, name='photo').rgb
    assert np.abs(found - 255 * expected).max() <= levels


@pytest.mark.parametrize('transfer', [1, 14, 15])
def test_wide_colours_of_cicp_become_srgb(transfer):
    expected = photo()
    encoded = (to_linear(expected) @ BT2020_IN_709.T) ** (1 / 2.4)
    check(png_with(as_bytes(encoded), cICP=bytes([9, transfer, 0, 1])), expected, levels=4)


def test_perceptual_quantizer_is_decoded_and_said_to_be(caplog):
    expected = photo()
    encoded = colour_spaces.encode_pq(to_linear(expected) @ BT2020_IN_709.T)
    data = png_with(as_bytes(encoded), cICP=bytes([9, 16, 0, 1]))
    found = 255 * image_files.read(data, name='photo').rgb
    # A level of 8-bit PQ is several levels of sRGB in the shadows.
    assert np.abs(found - 255 * expected).mean() < 2
    assert 'photo: its high dynamic range is reduced' in caplog.text


@pytest.mark.parametrize('code', [16, 18])
def test_highlights_keep_order_and_hue(code):
    levels = np.linspace(0.3, 1, 64)
    pixels = as_bytes(np.stack([levels, 0.9 * levels, 0.8 * levels], -1))[None].repeat(16, 0)
    data = png_with(pixels, cICP=bytes([1, code, 0, 1]))
    row = image_files.read(data, name='x').rgb[0]
    assert (np.diff(row[:, 0]) >= 0).all()
    assert (row[:, 0] >= row[:, 1]).all()
    assert (row[:, 1] >= row[:, 2]).all()
    assert row[-1, 0] > 0.95


def test_pq_is_inverted_and_has_the_white_of_the_standard():
    x = np.linspace(0, 1, 50)
    np.testing.assert_allclose(colour_spaces.encode_pq(colour_spaces.decode_pq(x)), x, atol=1e-6)
    np.testing.assert_allclose(203 * colour_spaces.decode_pq(np.array(0.5081)), 100, rtol=2e-3)


def test_hlg_has_the_peak_of_its_nominal_display():
    np.testing.assert_allclose(203 * colour_spaces.decode_hlg(np.array(1.0)), 1000, rtol=1e-3)


def test_linear_gamma_is_encoded():
    expected = photo()
    data = png_with(as_bytes(to_linear(expected)), gAMA=struct.pack('>I', 100_000))
    check(data, expected, levels=3)


def test_gamma_of_other_primaries_takes_their_chromaticities():
    expected = photo()
    wide = (to_linear(expected) @ BT2020_IN_709.T) ** (1 / 2.2)
    places = (0.3127, 0.3290, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046)
    chromaticities = struct.pack('>8I', *(round(100_000 * x) for x in places))
    data = png_with(as_bytes(wide), gAMA=struct.pack('>I', 45_455), cHRM=chromaticities)
    check(data, expected, levels=4)


@pytest.mark.parametrize(
    'chunks',
    [
        {},
        {'gAMA': struct.pack('>I', 45_455)},  # how older programs say sRGB
        {'gAMA': struct.pack('>I', 100_000), 'sRGB': b'\0'},  # sRGB counts for more
        {'cICP': bytes([1, 13, 0, 1]), 'gAMA': struct.pack('>I', 100_000)},
        {'cICP': bytes([2, 2, 0, 1])},  # unspecified
        {'gAMA': struct.pack('>I', 0)},
    ],
)
def test_srgb_stays_as_it_is(chunks):
    pixels = as_bytes(photo())
    np.testing.assert_array_equal(image_files.read_uint8(png_with(pixels, **chunks)), pixels)


def test_grey_of_16_bits_has_its_gamma_applied():
    expected = np.linspace(0.1, 0.9, 32)[None].repeat(20, 0)
    linear = np.round(65535 * to_linear(expected)).astype(np.uint16)
    data = png_with(linear, gAMA=struct.pack('>I', 100_000))
    check(data, expected[..., None], levels=0.1)
