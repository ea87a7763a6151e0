"""Picture files are read as RGB, and what cannot be read is named with the reason."""

import io
import os
import random
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from pictures import HEIGHT, WIDTH, chunk, encode, exif, gradient, png, unlike_srgb
from PIL import Image

from metastyle_jax.core import errors
from metastyle_jax.data.images import image_files


@pytest.mark.parametrize('encoder', ['PNG', 'TIFF', 'BMP', 'PPM'])
def test_lossless_formats_are_read_exactly(encoder):
    picture = image_files.read(encode(Image.fromarray(gradient()), encoder))
    assert picture.rgb.dtype == np.float32
    assert picture.alpha is None
    np.testing.assert_allclose(picture.rgb, gradient() / 255, atol=1e-6)


@pytest.mark.parametrize('encoder', ['JPEG', 'WEBP', 'GIF', 'JPEG2000'])
def test_lossy_formats_are_read_within_5_percent(encoder):
    picture = image_files.read(encode(Image.fromarray(gradient()), encoder))
    assert picture.rgb.shape == (HEIGHT, WIDTH, 3)
    assert np.abs(picture.rgb - gradient() / 255).mean() < 0.05


@pytest.mark.parametrize('encoder', ['GIF', 'WEBP', 'PNG', 'TIFF'])
def test_of_an_animation_the_first_frame_is_read(encoder):
    frames = [Image.new('RGB', (WIDTH, HEIGHT), colour) for colour in ('red', 'lime', 'blue')]
    data = encode(frames[0], encoder, save_all=True, append_images=frames[1:])
    np.testing.assert_allclose(image_files.read(data).rgb[9, 9], [1, 0, 0], atol=0.03)


@pytest.mark.parametrize(('min_side', 'short'), [(None, 400), (401, 400), (300, 400), (100, 100)])
def test_a_jpeg_is_not_decoded_below_min_side(min_side, short):
    data = encode(Image.fromarray(gradient(600, 400)), 'JPEG', exif=exif(6))
    decoded = image_files.read_uint8(data, min_side=min_side)
    assert decoded.shape[0] == short
    assert decoded.shape[1] == short * 3 // 2


def test_a_string_a_path_and_bytes_give_the_same_pixels(tmp_path):
    path = tmp_path / 'a.png'
    path.write_bytes(png())
    for source in (str(path), path, path.read_bytes()):
        np.testing.assert_array_equal(image_files.read_uint8(source), gradient())


def test_a_large_picture_with_alpha_is_composited_in_strips(monkeypatch):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (70, 40, 4), np.uint8)
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, 'PNG')
    colour, alpha = pixels[..., :3] / 255, pixels[..., 3:] / 255
    expected = np.rint((1 - (1 - colour) * alpha) * 255)
    monkeypatch.setattr(image_files, '_STRIP', 16)
    found = image_files.read_uint8(encoded.getvalue())
    assert np.abs(found - expected).max() <= 1
    np.testing.assert_allclose(
        image_files.read(encoded.getvalue()).rgb, expected / 255, atol=0.51 / 255
    )


def test_image_error_is_a_user_error():
    assert issubclass(image_files.ImageError, errors.UserError)


def png_header(width, height):
    header = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(b'\0' * 1000)
    return (
        b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IDAT', body) + chunk(b'IEND', b'')
    )


@pytest.mark.parametrize('reader', [image_files.read, image_files.read_uint8, image_files.probe])
@pytest.mark.parametrize(
    ('content', 'words'),
    [
        (b'', 'no bytes'),
        (b'just some text, long enough to be sniffed at', 'is a text or a web page'),
        (b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n', 'is PostScript'),
        (png_header(60_000, 60_000), '200,000,000 pixels'),
        (png_header(15_000, 15_000), '15000 x 15000'),
        (encode(Image.new('RGB', (15, 99)), 'PNG'), 'at least 16'),
        (encode(Image.new('RGB', (99, 15)), 'GIF'), '99 x 15'),
    ],
)
def test_a_bad_file_is_named_with_the_reason(tmp_path, reader, content, words):
    path = tmp_path / 'bad file.png'
    path.write_bytes(content)
    with pytest.raises(image_files.ImageError, match=words) as error:
        reader(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize('reader', [image_files.read, image_files.read_uint8, image_files.probe])
def test_a_missing_file_a_folder_and_an_impossible_name_are_refused(tmp_path, reader):
    with pytest.raises(image_files.ImageError, match='no such file'):
        reader(tmp_path / 'absent.png')
    with pytest.raises(image_files.ImageError, match='is a folder'):
        reader(tmp_path)
    for name in ('a\0b.png', 'x' * 5000 + '.png'):
        with pytest.raises(image_files.ImageError, match='cannot be opened'):
            reader(name)


@pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='no named pipes here')
def test_a_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / 'pipe.png')
    with pytest.raises(image_files.ImageError, match='regular file'):
        image_files.read(tmp_path / 'pipe.png')


def test_a_file_without_read_permission_is_named(tmp_path, monkeypatch):
    path = tmp_path / 'secret.png'
    path.write_bytes(png())

    def deny(self, *args):
        raise PermissionError(13, 'Permission denied', str(self))

    monkeypatch.setattr(Path, 'open', deny)  # the mode bits would not stop root
    with pytest.raises(image_files.ImageError, match=r'secret\.png: may not be read'):
        image_files.read(path)


@pytest.mark.parametrize('encoder', ['JPEG', 'PNG', 'BMP', 'TIFF', 'WEBP', 'PPM', 'JPEG2000'])
def test_a_truncated_file_is_refused(encoder):
    data = encode(Image.fromarray(gradient(64, 64)), encoder)
    with pytest.raises(image_files.ImageError, match='cut short|is damaged'):
        image_files.read(data[: len(data) * 2 // 3], name='half')


def test_bytes_are_called_by_their_name():
    with pytest.raises(image_files.ImageError, match='^third record: has no bytes'):
        image_files.read(b'', name='third record')
    with pytest.raises(image_files.ImageError, match='^picture: '):
        image_files.read(b'nothing of the kind')


def test_a_huge_header_is_refused_with_little_memory():
    data = png_header(60_000, 60_000)
    tracemalloc.start()
    try:
        with pytest.raises(image_files.ImageError, match='downscale'):
            image_files.read(data)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize('limit', [1000, None])
def test_the_limit_of_pillow_has_no_effect(monkeypatch, limit):
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', limit)
    assert image_files.read(png()).rgb.shape == (HEIGHT, WIDTH, 3)


def test_a_gif_of_more_pixels_than_its_bytes_can_hold_is_refused():
    encoded = io.BytesIO()
    Image.new('P', (64, 48)).save(encoded, 'GIF')
    data = bytearray(encoded.getvalue())
    struct.pack_into('<HH', data, 6, 12000, 12000)
    with pytest.raises(image_files.ImageError, match='bytes for 12000 x 12000 pixels'):
        image_files.read(bytes(data))
    plain = io.BytesIO()
    Image.new('P', (1000, 1000)).save(plain, 'GIF')  # of one colour: as few bytes as there can be
    assert image_files.read(plain.getvalue()).rgb.shape == (1000, 1000, 3)


def seeds():
    image = Image.fromarray(gradient())
    yield encode(image, 'JPEG', exif=exif(6), icc_profile=unlike_srgb())
    yield encode(image.convert('CMYK'), 'JPEG')
    yield png(exif=exif(3), icc_profile=unlike_srgb())
    yield encode(image.quantize(16), 'PNG', transparency=3)
    yield encode(image.quantize(16), 'GIF', transparency=0)
    yield encode(image, 'TIFF')
    yield encode(image.convert('F'), 'TIFF')
    yield encode(image, 'WEBP', exif=exif(8))
    yield encode(image, 'BMP')
    yield encode(image, 'PPM')


def test_only_image_errors_escape_from_damaged_files():
    rng = random.Random(0)
    refused = 0
    for data in seeds():
        for trial in range(20):
            broken = bytearray(data)
            reach = len(data) if trial % 2 else min(len(data), 200)  # headers break the most
            for _ in range(rng.choice([1, 2, 4, 16])):
                broken[rng.randrange(reach)] = rng.choice([0, 127, 128, 255, rng.randrange(256)])
            if trial % 4 == 0:
                del broken[rng.randrange(len(broken)) :]
            try:
                picture = image_files.read(bytes(broken))
                assert picture.rgb.ndim == 3
                assert 0 <= picture.rgb.min() <= picture.rgb.max() <= 1
            except image_files.ImageError:
                refused += 1
    assert refused > 50
