"""A picture that is decoded at a reduced size is nearly the picture that is reduced afterwards."""

import functools
import io
import struct
import zlib

import numpy as np
import pytest
from pictures import chunk, encode, exif, unlike_srgb
from PIL import Image, ImageCms, ImageFile

from metastyle_jax.data import file_sources
from metastyle_jax.data.images import image_files, image_inputs, resizing
from metastyle_jax.data.images.decoding import png_strips, tiff_strips

SIZE = (62, 40)  # height and width of the reduced pictures, upright


@functools.cache
def photograph():
    """A photograph, 427 x 640."""
    return np.asarray(Image.open(file_sources.sample_files('content')['china']).convert('RGB'))


def linear_profile():
    """The profile of sRGB with a curve of linear light."""
    data = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
    start = data.index(b'para')
    flat = struct.pack('>4sIHHi', b'para', 0, 0, 0, 65536)
    return data[:start] + flat + data[start + len(flat) :]


def png_16(pixels, kind):
    """A PNG of 16 bits a sample, with each of the five filters in turn."""
    height, width = pixels.shape[:2]
    rows = pixels.astype('>u2').reshape(height, -1).view(np.uint8).astype(int)
    step = rows.shape[1] // width
    left = np.pad(rows, ((0, 0), (step, 0)))[:, :-step]
    above = np.pad(rows, ((1, 0), (0, 0)))[:-1]
    corner = np.pad(above, ((0, 0), (step, 0)))[:, :-step]
    near = np.stack([left, above, corner])
    nearest = np.abs(left + above - corner - near).argmin(0)
    paeth = np.take_along_axis(near, nearest[None], 0)[0]
    guesses = [0 * rows, left, above, (left + above) // 2, paeth]
    data = b''.join(
        bytes([y % 5]) + ((rows[y] - guesses[y % 5][y]) % 256).astype(np.uint8).tobytes()
        for y in range(height)
    )
    header = struct.pack('>IIBBBBB', width, height, 16, kind, 0, 0, 0)
    packed = zlib.compress(data)
    parts = [packed[i : i + 5000] for i in range(0, len(packed), 5000)]
    return b'\x89PNG\r\n\x1a\n' + b''.join(
        chunk(*each)
        for each in [(b'IHDR', header), *((b'IDAT', part) for part in parts), (b'IEND', b'')]
    )


def tiff(**options):
    tifffile = pytest.importorskip('tifffile')
    buffer = io.BytesIO()
    pixels = options.pop('pixels', photograph())
    levels = options.pop('levels', ())
    with tifffile.TiffWriter(buffer, bigtiff=options.pop('bigtiff', False)) as writer:
        writer.write(pixels, subifds=len(levels), **options)
        for level in levels:
            writer.write(level, subfiletype=1, **options)
    return buffer.getvalue()


def with_alpha():
    ramp = np.linspace(0, 255, 640).astype(np.uint8)[None].repeat(427, 0)
    ramp[:100] = 0
    return np.dstack([photograph(), ramp])


def files():
    rgb = Image.fromarray(photograph())
    grey16 = np.asarray(rgb.convert('L')).astype(np.uint16) * 257
    yield 'jpeg', encode(rgb, 'JPEG', quality=95)
    yield 'progressive jpeg', encode(rgb, 'JPEG', quality=95, progressive=True)
    yield 'grey jpeg', encode(rgb.convert('L'), 'JPEG', quality=95)
    yield 'cmyk jpeg', encode(rgb.convert('CMYK'), 'JPEG', quality=95)
    yield 'jpeg with a profile', encode(rgb, 'JPEG', quality=95, icc_profile=unlike_srgb())
    yield 'png', encode(rgb, 'PNG')
    yield 'png with alpha', encode(Image.fromarray(with_alpha()), 'PNG')
    yield 'png with a profile', encode(rgb, 'PNG', icc_profile=unlike_srgb())
    yield 'png in linear light', encode(rgb, 'PNG', icc_profile=linear_profile())
    yield 'png with gamma 1', insert(encode(rgb, 'PNG'), b'gAMA', struct.pack('>I', 100_000))
    yield 'png in HDR', insert(encode(rgb, 'PNG'), b'cICP', bytes([9, 16, 0, 1]))
    yield 'grey png', encode(rgb.convert('L'), 'PNG')
    yield 'png of two levels', encode(rgb.convert('1'), 'PNG')
    yield 'png of 16 colours', encode(rgb.quantize(16), 'PNG')
    yield 'png of 256 colours', encode(rgb.quantize(256), 'PNG', transparency=3)
    yield 'png with a clear colour', encode(rgb, 'PNG', transparency=(255, 255, 255))
    yield 'png of 16 bits', png_16(photograph() * np.uint16(257), 2)
    yield 'png of 16 bits with alpha', png_16(with_alpha() * np.uint16(257), 6)
    yield 'grey png of 16 bits', png_16(grey16, 0)
    yield 'grey png of 16 bits with alpha', png_16(np.dstack([grey16, grey16]), 4)
    yield 'tiff', encode(rgb, 'TIFF')
    yield 'lzw tiff', encode(rgb, 'TIFF', compression='tiff_lzw')
    yield 'jpeg tiff', encode(rgb, 'TIFF', compression='jpeg', quality=95)
    yield 'fax tiff', encode(rgb.convert('1'), 'TIFF', compression='group4')
    yield 'tiff of floats', encode(rgb.convert('F'), 'TIFF')
    yield 'grey tiff of 16 bits', encode(Image.fromarray(grey16), 'TIFF')
    yield 'tiff of tiles', tiff(tile=(64, 96), photometric='rgb', compression='zlib')
    yield 'big tiff', tiff(bigtiff=True, photometric='rgb', rowsperstrip=7)
    yield 'tiff of planes', tiff(pixels=photograph().transpose(2, 0, 1), photometric='rgb')
    yield 'white is zero', tiff(pixels=65535 - grey16, photometric='miniswhite', rowsperstrip=50)
    yield 'jpeg 2000', encode(rgb, 'JPEG2000')
    yield 'webp', encode(Image.fromarray(with_alpha()), 'WEBP', lossless=True)
    yield 'gif', encode(rgb.quantize(64), 'GIF', transparency=3)
    yield 'bmp', encode(rgb, 'BMP')
    yield 'ppm', encode(rgb, 'PPM')


def insert(data, kind, body):
    """A PNG with one more chunk before its pixels."""
    split = data.index(b'IDAT') - 4
    return data[:split] + chunk(kind, body) + data[split:]


FILES = dict(files())


def levels_apart(a, b):
    return np.abs(a - b).mean() * 255


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch):
    monkeypatch.setattr(png_strips, '_PART', 20_000)
    monkeypatch.setattr(tiff_strips, '_PART', 10_000)


@pytest.mark.parametrize('name', FILES)
@pytest.mark.filterwarnings('ignore::DeprecationWarning')
def test_a_reduced_picture_is_nearly_that_of_the_whole(name):
    size = SIZE[::-1]
    # Two levels are far apart, and the filters of JPEG 2000 are others.
    most = 1.7 if name in ('png in HDR', 'jpeg 2000', 'png of two levels', 'fax tiff') else 1.0
    whole = image_files.read(FILES[name])
    small = image_files.read(FILES[name], target=lambda height, width: size)
    is_reduced = 'floats' not in name
    assert small.rgb.shape[:2] == (size if is_reduced else (427, 640))
    expected = resizing.resize(whole.rgb, *size)
    assert levels_apart(resizing.resize(small.rgb, *size), expected) < most
    assert (small.alpha is None) == (whole.alpha is None)
    if whole.alpha is not None:
        expected = resizing.resize(whole.alpha, *size)
        assert levels_apart(resizing.resize(small.alpha, *size), expected) < 1


@pytest.mark.parametrize('encoder', ['JPEG', 'PNG', 'TIFF', 'WEBP'])
def test_pictures_for_training_are_nearly_those_of_the_whole(encoder):
    data = encode(Image.fromarray(photograph()[:400]), encoder)
    reduced = image_files.read_uint8(data, min_side=40)
    assert reduced.shape == ((50, 80, 3) if encoder == 'JPEG' else (80, 128, 3))
    expected = resizing.resize(image_files.read_uint8(data), 40, 64)
    assert levels_apart(resizing.resize(reduced, 40, 64) / 255, expected / 255) < 2.2


@pytest.mark.parametrize('name', [name for name in FILES if 'png' in name or 'tiff' in name])
def test_a_png_and_a_tiff_are_decoded_in_parts(name, monkeypatch):
    loaded = []
    load = ImageFile.ImageFile.load

    def record(image):
        loaded.append(image.size)
        return load(image)

    monkeypatch.setattr(ImageFile.ImageFile, 'load', record)
    image_files.read(FILES[name], target=lambda *_: (40, 62))
    is_whole = max(height for _, height in loaded) == 427
    assert is_whole == ('floats' in name or 'planes' in name or 'fax' in name)  # one strip


@pytest.mark.parametrize('turn', [1, 3, 6])
@pytest.mark.parametrize('encoder', ['JPEG', 'PNG', 'TIFF', 'WEBP', 'JPEG2000'])
def test_a_reduced_picture_is_upright(turn, encoder):
    options = {} if encoder == 'JPEG2000' else {'exif': exif(turn)}
    data = encode(Image.fromarray(photograph()), encoder, **options)
    size = SIZE if turn == 6 and options else SIZE[::-1]
    found = image_inputs.as_rgb(data, name='picture', target=lambda *_: size)
    expected = resizing.resize(image_files.read(data).rgb, *size)
    assert levels_apart(found, expected) < (1.2 if encoder == 'JPEG2000' else 1)


def test_the_level_of_a_pyramid_is_chosen_by_the_size():
    levels = [np.full((427 // k, 640 // k, 3), 30 * k, np.uint8) for k in (2, 4, 8)]
    data = tiff(tile=(16, 16), photometric='rgb', levels=levels)
    for side, level in ((40, 120), (100, 60)):
        found = image_files.read(data, target=lambda *_, side=side: (side, side)).rgb
        np.testing.assert_allclose(found, level / 255, atol=1e-6)
    thumbnail = np.zeros((160, 160, 3), np.uint8)  # of another shape: it shows something else
    data = tiff(tile=(16, 16), photometric='rgb', levels=[thumbnail])
    assert image_files.read(data, target=lambda *_: (40, 40)).rgb.mean() > 0.1


def test_images_in_memory_are_reduced_too():
    size = SIZE[::-1]
    turned = Image.open(io.BytesIO(encode(Image.fromarray(photograph()), 'TIFF', exif=exif(6))))
    expected = resizing.resize(photograph() / np.float32(255), *size)
    for image in (photograph(), photograph() / np.float32(255), Image.fromarray(photograph())):
        found = image_inputs.as_rgb(image, name='picture', target=lambda *_: size)
        assert levels_apart(found, expected) < 1
    found = image_inputs.as_rgb(turned, name='picture', target=lambda *_: SIZE)
    assert levels_apart(found, np.rot90(expected, -1)) < 1
    assert turned.size == (427, 640)


def test_the_target_is_given_the_upright_size():
    sizes = []

    def target(height, width):
        sizes.append((height, width))
        return 40, 62

    for encoder in ('JPEG', 'TIFF'):
        image_inputs.as_rgb(
            encode(Image.fromarray(photograph()), encoder, exif=exif(6)), name='a', target=target
        )
    assert set(sizes) == {(640, 427)}


@pytest.mark.parametrize('name', ['png', 'lzw tiff', 'jpeg', 'jpeg 2000'])
def test_a_damaged_picture_is_refused_at_a_reduced_size_as_well(name):
    data = FILES[name][: len(FILES[name]) // 2]
    with pytest.raises(image_files.ImageError, match='damaged'):
        image_files.read(data, target=lambda *_: (40, 62))


def test_a_small_picture_is_not_reduced():
    data = encode(Image.fromarray(photograph()), 'PNG')
    found = image_files.read(data, target=lambda height, width: (height, width)).rgb
    np.testing.assert_array_equal(found, image_files.read(data).rgb)
