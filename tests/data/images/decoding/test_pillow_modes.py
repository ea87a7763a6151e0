"""Every mode of Pillow as colour and alpha, upright."""

import io
import struct
import threading
import warnings

import numpy as np
import pytest
from pictures import HEIGHT, WIDTH, chunk, encode, exif, gradient, png
from PIL import Image

from metastyle_jax.data.images import image_files


@pytest.mark.parametrize(('mode', 'encoder'), [('L', 'PNG'), ('1', 'PNG'), ('L', 'PPM')])
def test_grey_has_three_equal_channels(mode, encoder):
    image = Image.fromarray(gradient()).convert(mode)
    picture = image_files.read(encode(image, encoder))
    expected = np.asarray(image.convert('RGB')) / 255
    np.testing.assert_allclose(picture.rgb, expected, atol=1e-6)
    assert picture.alpha is None


@pytest.mark.parametrize(
    ('dtype', 'encoder'),
    [('<u2', 'PNG'), ('<u2', 'TIFF'), ('>u2', 'TIFF'), ('<i4', 'PPM'), ('<i4', 'TIFF')],
)
def test_grey_of_16_bits_keeps_its_precision(dtype, encoder):
    grey = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) + 30_000
    picture = image_files.read(encode(Image.fromarray(grey.astype(dtype)), encoder))
    np.testing.assert_allclose(picture.rgb[..., 1] * 65535, grey, atol=0.02)
    uint8 = image_files.read_uint8(encode(Image.fromarray(grey.astype(dtype)), encoder))
    np.testing.assert_array_equal(uint8[..., 2], np.rint(grey / 257))


def test_grey_of_16_bits_may_have_a_transparent_level():
    grey = np.full((HEIGHT, WIDTH), 20_000, np.uint16)
    grey[:5] = 777
    data = encode(Image.fromarray(grey), 'PNG')
    split = data.index(b'IDAT') - 4
    picture = image_files.read(data[:split] + chunk(b'tRNS', struct.pack('>H', 777)) + data[split:])
    assert picture.alpha is not None
    np.testing.assert_array_equal(picture.alpha, grey != 777)
    assert (picture.rgb[:5] == 1).all()


@pytest.mark.parametrize(('top', 'expected'), [(0.5, 0.5), (1.0, 1.0), (200.0, 1.0)])
def test_floating_point_grey_is_scaled_only_where_it_exceeds_one(top, expected):
    grey = np.linspace(-0.1, top, HEIGHT * WIDTH, dtype=np.float32).reshape(HEIGHT, WIDTH)
    picture = image_files.read(encode(Image.fromarray(grey), 'TIFF'))
    assert picture.rgb.min() == 0
    assert picture.rgb.max() == pytest.approx(expected)


def test_floating_point_grey_with_nan_is_refused():
    grey = np.full((HEIGHT, WIDTH), np.nan, np.float32)
    with pytest.raises(image_files.ImageError, match='NaN'):
        image_files.read(encode(Image.fromarray(grey), 'TIFF'))


def test_a_cmyk_jpeg_with_inverted_inks_is_read_as_rgb():
    image = Image.new('CMYK', (WIDTH, HEIGHT), (0, 255, 255, 0))
    picture = image_files.read(encode(image, 'JPEG', quality=100))
    np.testing.assert_allclose(picture.rgb[5, 5], [1, 0, 0], atol=0.03)


def test_lab_and_ycbcr_tiffs_are_read_as_rgb():
    lab = Image.new('LAB', (WIDTH, HEIGHT), (255, 128, 128))
    np.testing.assert_allclose(image_files.read(encode(lab, 'TIFF')).rgb, 1, atol=0.02)
    ycbcr = Image.new('RGB', (WIDTH, HEIGHT), (200, 30, 60)).convert('YCbCr')
    rgb = image_files.read(encode(ycbcr, 'TIFF', compression='tiff_lzw')).rgb
    np.testing.assert_allclose(rgb[3, 3] * 255, [200, 30, 60], atol=3)


@pytest.mark.parametrize(
    ('encoder', 'transparency'), [('PNG', 3), ('PNG', bytes([0, 255, 128, 0])), ('GIF', 3)]
)
def test_transparent_entries_of_a_palette_become_alpha(encoder, transparency):
    index = np.arange(HEIGHT * WIDTH, dtype=np.uint8).reshape(HEIGHT, WIDTH) % 4
    image = Image.new('P', (WIDTH, HEIGHT))
    image.putdata(index.ravel().tolist())
    image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
    picture = image_files.read(encode(image, encoder, transparency=transparency))
    assert picture.alpha is not None
    assert picture.alpha[0, 3] == 0
    assert (picture.rgb[0, 3] == 1).all()
    np.testing.assert_allclose(picture.rgb[0, 1], [1, 0, 0])


UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize(
    ('encoder', 'options', 'tolerance'),
    [
        ('PNG', {}, 0),
        ('TIFF', {}, 0),
        ('TIFF', {'compression': 'tiff_lzw'}, 0),
        ('WEBP', {'lossless': True}, 0),
        ('JPEG', {'quality': 100, 'subsampling': 0}, 4),
    ],
)
def test_a_picture_is_turned_by_its_exif_orientation(
    tmp_path, orientation, encoder, options, tolerance
):
    path = tmp_path / 'turned'
    Image.fromarray(gradient()).save(path, encoder, exif=exif(orientation), **options)
    expected = UPRIGHT[orientation](gradient())
    actual = image_files.read_uint8(path)
    assert actual.shape == expected.shape
    assert np.abs(actual.astype(int) - expected).max() <= tolerance
    assert image_files.probe(path) == expected.shape[:2]


def test_exif_behind_the_pixels_of_a_png_is_found(tmp_path):
    data = png()
    late = chunk(b'eXIf', exif(6).tobytes().removeprefix(b'Exif\0\0'))
    path = tmp_path / 'late.png'
    path.write_bytes(data[:-12] + late + data[-12:])
    assert image_files.probe(path) == (WIDTH, HEIGHT)
    np.testing.assert_array_equal(image_files.read_uint8(path), UPRIGHT[6](gradient()))


@pytest.mark.parametrize('broken', [b'Exif\0\0', b'Exif\0\0MM\0*\xff\xff\xff\xff', b'garbage'])
def test_broken_exif_is_ignored(broken):
    data = encode(Image.fromarray(gradient()), 'JPEG', exif=broken)
    assert image_files.read(data).rgb.shape == (HEIGHT, WIDTH, 3)


def test_threads_that_read_at_once_leave_the_warning_filters_alone():
    split = png().index(b'IDAT') - 4
    noisy = png()[:split] + chunk(b'acTL', bytes(8)) + png()[split:]  # an animation of no frames
    with pytest.warns(UserWarning, match='Invalid APNG'):
        Image.open(io.BytesIO(noisy)).close()
    sources = [png(), noisy] * 20
    before = list(warnings.filters)
    results = []

    def work(source):
        results.append(image_files.read(source).rgb.shape)

    threads = [threading.Thread(target=work, args=(source,)) for source in sources]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [(HEIGHT, WIDTH, 3)] * 40
    assert list(warnings.filters) == before
