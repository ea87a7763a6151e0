"""TIFF files whose samples Pillow does not know are read as others are."""

import io

import numpy as np
import pytest
from pictures import gradient

from metastyle_jax.data.images import image_files
from metastyle_jax.data.images.decoding import tiff_directories

PIXELS = gradient()
GREY = PIXELS[..., 0]


def packed_tiff(pixels, bits, *, compression=1, **more):
    """A TIFF of integers that are packed bit by bit, in one strip; `pixels` are in 0..1."""
    height, width, samples = pixels.shape
    values = np.round(pixels * (2**bits - 1)).astype(np.int64).reshape(height, -1)
    rows = (values[..., None] >> np.arange(bits - 1, -1, -1)) & 1
    data = np.packbits(rows.reshape(height, -1).astype(np.uint8), axis=1).tobytes()
    data += b'\0' * (len(data) % 2)
    tags = {
        256: [width], 257: [height], 258: [bits] * samples, 259: [compression],
        262: [2 if samples > 2 else 1], 273: [8], 277: [samples], 278: [height], 279: [len(data)],
        **{int(name[1:]): [value] for name, value in more.items()},
    }  # fmt: skip
    return tiff_directories.file_of(
        '<',
        {
            name: tiff_directories.tag_of('<', tiff_directories.LONG, values)
            for name, values in tags.items()
        },
        data,
    )


@pytest.mark.parametrize('bits', [10, 12, 14, 24])
def test_packed_integers_are_scaled_by_their_depth(bits):
    found = image_files.read(packed_tiff(PIXELS / 255, bits))
    np.testing.assert_allclose(found.rgb * 255, PIXELS, atol=0.6)
    grey = image_files.read(packed_tiff(GREY[..., None] / 255, bits)).rgb
    np.testing.assert_allclose(grey[..., 1] * 255, GREY, atol=0.2)
    inverted = image_files.read(packed_tiff(1 - GREY[..., None] / 255, bits, _262=0)).rgb
    np.testing.assert_allclose(inverted[..., 1] * 255, GREY, atol=0.2)


@pytest.mark.parametrize('dtype', ['uint32', 'int32', 'float16', 'float32', 'float64'])
@pytest.mark.parametrize(
    'options',
    [{}, {'byteorder': '>'}, {'compression': 'zlib'}, {'compression': 'zlib', 'tile': (16, 16)}],
)
def test_wide_samples_are_read(dtype, options):
    tifffile = pytest.importorskip('tifffile')
    white = {'uint32': 2**32 - 1, 'int32': 2**31 - 1}.get(dtype, 1)
    buffer = io.BytesIO()
    values = (PIXELS / 255.0 * white).astype(dtype)
    tifffile.imwrite(buffer, values, photometric='rgb', **options)
    found = image_files.read(buffer.getvalue())
    np.testing.assert_allclose(found.rgb * 255, PIXELS, atol=0.6)


def test_predictors_are_undone():
    difference = np.diff(PIXELS.astype(np.uint32) * 2**24, axis=1, prepend=0).astype('<u4')
    data = packed_tiff(np.zeros((32, 48, 3)), 32, _317=2)
    found = image_files.read(data[:8] + difference.tobytes() + data[8 + difference.nbytes :])
    np.testing.assert_allclose(found.rgb * 255, PIXELS, atol=1.1)
    planes = (PIXELS / 255).astype('>f4').reshape(32, 144).view(np.uint8).reshape(32, 144, 4)
    planes = planes.transpose(0, 2, 1).reshape(32, -1, 3)
    steps = np.diff(planes.astype(np.int64), axis=1, prepend=0).astype(np.uint8)
    data = packed_tiff(np.zeros((32, 48, 3)), 32, _317=3, _339=3)
    found = image_files.read(data[:8] + steps.tobytes() + data[8 + steps.nbytes :])
    np.testing.assert_allclose(found.rgb * 255, PIXELS, atol=0.6)


def test_transparency_and_orientation_are_applied():
    alpha = np.linspace(0, 1, 48)[None].repeat(32, 0)
    pixels = np.dstack([PIXELS / 255, alpha])
    found = image_files.read(packed_tiff(pixels, 12, _338=2, _274=6))
    expected = np.rot90(PIXELS / 255 * alpha[..., None] + 1 - alpha[..., None], -1)
    np.testing.assert_allclose(found.rgb, expected, atol=0.01)
    np.testing.assert_allclose(found.alpha, np.rot90(alpha, -1), atol=0.01)


def test_what_is_cut_off_too_large_or_unknown_is_refused():
    data = packed_tiff(PIXELS / 255, 12)
    with pytest.raises(image_files.ImageError, match='200,000,000 pixels'):
        image_files.read(packed_tiff(PIXELS / 255, 12, _256=60_000, _257=60_000))
    for broken in (
        packed_tiff(PIXELS / 255, 12, _257=500),
        packed_tiff(PIXELS / 255, 12, _279=100),
        packed_tiff(PIXELS / 255, 12, compression=34712),
        packed_tiff(PIXELS / 255, 12, _262=8),
    ):
        with pytest.raises(image_files.ImageError, match='damaged'):
            image_files.read(broken)
    assert image_files.probe(data) == (32, 48)
