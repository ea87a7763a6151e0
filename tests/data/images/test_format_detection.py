"""Formats told by content, repairs, and depths of TIFF."""

import io
import zlib

import numpy as np
import pytest
from pictures import chunk, encode
from PIL import Image

from metastyle_jax.data.images import format_detection, image_files
from metastyle_jax.data.images.decoding import tiff_directories


def noise(height=40, width=48):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def tiff(pixels, bits, *, photometric=1, sample_format=1):
    """An uncompressed grey TIFF of any depth."""
    height, width = pixels.shape
    if bits == 12:
        pairs = pixels.astype(np.uint16).reshape(height, -1, 2)
        first, second = pairs[..., 0], pairs[..., 1]
        packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], -1)
        data = packed.astype(np.uint8).tobytes()
    else:
        data = pixels.astype(f'<{"i" if sample_format == 2 else "u"}{bits // 8}').tobytes()
    tags = {
        256: width, 257: height, 258: bits, 259: 1, 262: photometric, 273: 200, 277: 1,
        278: height, 279: len(data), 339: sample_format,
    }  # fmt: skip
    head = b'II*\0\x08\0\0\0' + len(tags).to_bytes(2, 'little')
    for tag, value in tags.items():
        head += tag.to_bytes(2, 'little') + b'\x04\0\x01\0\0\0' + value.to_bytes(4, 'little')
    return (head + bytes(4)).ljust(200, b'\0') + data


RAMP = np.linspace(0, 1, 32)[None].repeat(20, 0)


@pytest.mark.parametrize(
    ('bits', 'options', 'expected'),
    [
        (12, {}, RAMP),
        (16, {}, RAMP),
        (16, {'photometric': 0}, 1 - RAMP),
        (32, {}, RAMP),
        (32, {'sample_format': 2}, RAMP),
    ],
)
def test_integers_of_a_tiff_are_scaled_by_their_depth(bits, options, expected):
    largest = 2 ** (bits - (options.get('sample_format') == 2)) - 1
    data = tiff(np.round(RAMP * largest), bits, **options)
    found = image_files.read(data, name='x').rgb[..., 0]
    np.testing.assert_allclose(found, expected, atol=1 / 2**11)


def test_a_tiff_that_pillow_cannot_decode_is_named():
    data = tiff(np.round(RAMP * 4095), 12, photometric=8)  # L*a*b*
    with pytest.raises(image_files.ImageError, match='a TIFF of a kind that Pillow cannot decode'):
        image_files.read(data, name='x')


def test_12_bits_of_which_0_is_white_are_read():
    found = image_files.read(tiff(np.round(RAMP * 4095), 12, photometric=0), name='x').rgb[..., 0]
    np.testing.assert_allclose(found, 1 - RAMP, atol=1 / 2**11)


def test_16_bits_in_integers_of_32_bits_keep_their_scale():
    found = image_files.read(tiff(np.round(RAMP * 65535), 32), name='x').rgb[..., 0]
    np.testing.assert_allclose(found, RAMP, atol=1e-4)


@pytest.mark.parametrize('kind', ['zTXt', 'iTXt', 'tEXt'])
@pytest.mark.parametrize('place', ['before', 'after'])
def test_pixels_of_a_png_with_a_large_text_are_read(kind, place):
    pixels, words = noise(), b'x' * 3_000_000
    body = {
        'zTXt': b'Comment\0\0' + zlib.compress(words),
        'iTXt': b'Comment\0\1\0\0\0' + zlib.compress(words),
        'tEXt': b'Comment\0' + words,
    }[kind]
    data, extra = encode(Image.fromarray(pixels), 'PNG'), chunk(kind.encode(), body)
    at = 33 if place == 'before' else data.index(b'IEND') - 4
    found = image_files.read_uint8(data[:at] + extra + data[at:], name='x')
    np.testing.assert_array_equal(found, pixels)


# The first directory of a camera's file is a preview that Pillow cannot decode; it points to more.
NEF = tiff_directories.file_of(
    '<',
    {
        name: tiff_directories.tag_of('<', tiff_directories.LONG, [value])
        for name, value in ((254, 1), (256, 160), (257, 120), (259, 34713), (330, 8))
    },
)


@pytest.mark.parametrize(
    ('data', 'words'),
    [
        (b'<svg xmlns="http://www.w3.org/2000/svg"></svg>', 'an SVG drawing: export it as PNG'),
        (b'<?xml version="1.0"?>\n<!-- x -->\n<svg></svg>', 'an SVG drawing'),
        (b'<!DOCTYPE html><html></html>', 'a text or a web page'),
        (b'II*\0\x10\0\0\0CR\x02\0' + bytes(99), 'RAW data of a camera: develop it'),
        (b'FUJIFILMCCD-RAW 0201' + bytes(99), 'RAW data'),
        (b'\0\0\0\x18ftypcrx \0\0\0\1crx isom' + bytes(99), 'RAW data'),
        (b'\xff\x0a' + bytes(99), 'JPEG XL'),
        (b'8BPS\0\1' + bytes(99), 'Photoshop'),
        (b'%PDF-1.7\n' + bytes(99), 'PDF'),
        (b'\0\0\1\0\1\0' + bytes(99), 'ICO, which is not read here'),
        (b'gimp xcf file' + bytes(99), 'a GIMP document'),
        (b'\x1f\x8b\x08' + bytes(99), 'gzip'),
        (NEF, 'RAW data of a camera: develop it'),
        (b'BM' + bytes(99), 'a BMP of a kind that Pillow cannot decode'),
    ],
)
@pytest.mark.parametrize('suffix', ['.jpg', '.xyz'])
def test_what_cannot_be_read_is_named_by_its_content(tmp_path, data, words, suffix):
    path = tmp_path / f'picture{suffix}'
    path.write_bytes(data)
    with pytest.raises(image_files.ImageError, match=words):
        image_files.read(path)


def test_a_dng_is_named_as_raw():
    data = bytearray(tiff(np.zeros((20, 32)), 16))
    at = data.index((339).to_bytes(2, 'little'))
    data[at : at + 2] = (50706).to_bytes(2, 'little')
    with pytest.raises(image_files.ImageError, match='RAW data of a camera'):
        image_files.read(bytes(data), name='x')


HEIC = b'\0\0\0\x18ftypheic\0\0\0\0mif1heic' + bytes(99)


def test_heic_without_its_extra_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setattr(image_files.importlib.util, 'find_spec', lambda name: None)
    path = tmp_path / 'phone.jpg'
    path.write_bytes(HEIC)
    with pytest.raises(image_files.ImageError, match=r'is HEIC.*metastyle_jax\[heif\]'):
        image_files.read(path)


def test_heic_is_read_whatever_its_suffix(tmp_path):
    pillow_heif = pytest.importorskip('pillow_heif')
    pixels = np.zeros((64, 80, 3), np.uint8)
    pixels[:, 40:] = (200, 60, 30)
    path = tmp_path / 'phone.jpg'
    pillow_heif.from_pillow(Image.fromarray(pixels)).save(path, format='HEIF', quality=95)
    assert np.abs(image_files.read_uint8(path).astype(int) - pixels).mean() < 3


@pytest.mark.parametrize('encoder', ['JPEG', 'PNG', 'GIF', 'BMP', 'WEBP', 'AVIF'])
def test_formats_that_pillow_writes_are_named(encoder):
    stream = io.BytesIO(encode(Image.fromarray(noise()), encoder))
    assert format_detection.kind_of(stream).upper() == encoder
    assert stream.tell() == 0
