"""Embedded profiles: littleCMS through Pillow is the reference."""

import io
import struct

import numpy as np
import pytest
from pictures import HEIGHT, WIDTH, encode, gradient, png, unlike_srgb
from PIL import Image, ImageCms

from metastyle_jax.data.images import image_files


def profile(model, tags):
    """An ICC profile of tags by name, each one's bytes with its type."""
    table, body, offset = b'', b'', 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        data += b'\0' * (-len(data) % 4)
        table += struct.pack('>4sII', name.encode(), offset + len(body), len(data))
        body += data
    size = offset + len(body)
    header = struct.pack('>I4sI4s4s4s', size, b'lcms', 0x02400000, b'mntr', model, b'XYZ ')
    header += bytes(12) + b'acsp' + bytes(28) + struct.pack('>3I', 0xF6D6, 0x10000, 0xD32D)
    return header.ljust(128, b'\0') + struct.pack('>I', len(tags)) + table + body


def xyz(*values):
    return b'XYZ \0\0\0\0' + struct.pack('>3i', *(round(65536 * value) for value in values))


def text(words):
    data = words.encode() + b'\0'
    return b'desc\0\0\0\0' + struct.pack('>I', len(data)) + data + bytes(78)


def curve(*values):
    return b'curv\0\0\0\0' + struct.pack(f'>I{len(values)}H', len(values), *values)


WHITE = xyz(0.9642, 1, 0.8249)
LINEAR, GAMMA_18 = curve(), curve(round(1.8 * 256))
CURVES = {
    'linear': LINEAR,
    'gamma': GAMMA_18,
    'table': curve(*(np.linspace(0, 1, 30) ** 1.4 * 65535).astype(int)),
    'parametric': b'para\0\0\0\0\0\3\0\0' + struct.pack(
        '>5i',
        *(round(65536 * x) for x in (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)),
    ),
}  # fmt: skip


def rgb_profile(words, tone):
    """Primaries of sRGB, adapted to the white of the profile connection space."""
    return profile(b'RGB ', {
        'desc': text(words), 'wtpt': WHITE, 'rTRC': tone, 'gTRC': tone, 'bTRC': tone,
        'rXYZ': xyz(0.4361, 0.2225, 0.0139), 'gXYZ': xyz(0.3851, 0.7169, 0.0971),
        'bXYZ': xyz(0.1431, 0.0606, 0.7141),
    })  # fmt: skip


def converted(image, data):
    """What littleCMS makes of an image of 8 bits."""
    return np.asarray(
        ImageCms.profileToProfile(
            image, ImageCms.ImageCmsProfile(io.BytesIO(data)), ImageCms.createProfile('sRGB'),
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC, outputMode='RGB',
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    )  # fmt: skip


def saved(image, encoder, data):
    buffer = io.BytesIO()
    image.save(buffer, encoder, icc_profile=data)
    return buffer.getvalue()


@pytest.mark.parametrize('words', ['sRGB', 'sRGB IEC61966-2.1', 'linear sRGB', 'camera'])
@pytest.mark.parametrize('encoder', ['PNG', 'TIFF'])
def test_a_profile_is_judged_by_its_contents(words, encoder):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 24, 3), np.uint8)
    data = rgb_profile(words, LINEAR)
    expected = converted(Image.fromarray(pixels), data).astype(int)
    found = image_files.read_uint8(saved(Image.fromarray(pixels), encoder, data))
    assert np.abs(found - expected).max() <= 2
    assert np.abs(expected - pixels).mean() > 20


def test_pixels_of_an_srgb_profile_stay_as_they_are():
    pixels = np.random.default_rng(0).integers(0, 256, (20, 24, 3), np.uint8)
    data = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
    found = image_files.read_uint8(saved(Image.fromarray(pixels), 'PNG', data))
    np.testing.assert_array_equal(found, pixels)


@pytest.mark.parametrize('name', CURVES)
def test_grey_of_16_bits_is_converted_by_its_profile(name):
    data = profile(b'GRAY', {'desc': text('x'), 'wtpt': WHITE, 'kTRC': CURVES[name]})
    levels = np.linspace(20, 255, 32).round().astype(np.uint8)[None].repeat(20, 0)
    expected = converted(Image.fromarray(levels), data)[..., 0].astype(float)
    wide = levels.astype(np.uint16) * 257
    found = 255 * image_files.read(saved(Image.fromarray(wide), 'PNG', data)).rgb[..., 0]
    assert np.abs(found - expected).max() <= 2


@pytest.mark.parametrize('cut', [10, 130, 140, 300])
def test_a_broken_profile_is_ignored(cut):
    pixels = np.full((20, 24, 3), 77, np.uint8)
    data = rgb_profile('sRGB', LINEAR)[:cut]
    found = image_files.read_uint8(saved(Image.fromarray(pixels), 'PNG', data))
    np.testing.assert_array_equal(found, pixels)
    grey = np.full((20, 24), 20_000, np.uint16)
    broken = profile(b'GRAY', {'desc': text('x'), 'wtpt': WHITE, 'kTRC': LINEAR})[:cut]
    found = image_files.read(saved(Image.fromarray(grey), 'PNG', broken)).rgb
    np.testing.assert_allclose(found, 20_000 / 65535, atol=0.3)


def test_colours_of_another_profile_are_converted_to_srgb():
    image = Image.new('RGB', (WIDTH, HEIGHT), (255, 0, 0))
    rgb = image_files.read(encode(image, 'PNG', icc_profile=unlike_srgb())).rgb
    np.testing.assert_allclose(rgb[0, 0], [0, 1, 0], atol=0.02)
    image.putalpha(128)
    picture = image_files.read(encode(image, 'PNG', icc_profile=unlike_srgb()))
    np.testing.assert_allclose(picture.rgb[0, 0], [0.5, 1, 0.5], atol=0.02)


def test_a_profile_of_linear_srgb_is_converted():
    words = (text.encode('utf-16-be') for text in ('swap built-in', 'sRGB linear  '))
    linear = unlike_srgb().replace(*words)
    assert b's\0R\0G\0B' in linear
    image = Image.fromarray(gradient())
    found = image_files.read_uint8(encode(image, 'PNG', icc_profile=linear))
    wanted = image_files.read_uint8(encode(image, 'PNG', icc_profile=unlike_srgb()))
    np.testing.assert_array_equal(found, wanted)
    assert (found != gradient()).any()


@pytest.mark.parametrize('profile', [b'nonsense', unlike_srgb()[:300], b'\0' * 200])
def test_what_is_no_profile_is_ignored(profile):
    np.testing.assert_array_equal(image_files.read_uint8(png(icc_profile=profile)), gradient())


def test_an_srgb_profile_changes_nothing():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
    np.testing.assert_array_equal(image_files.read_uint8(png(icc_profile=profile)), gradient())
