import io
import os
import random
import struct
import sys
import threading
import tracemalloc
import warnings
import zlib
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageCms

from metastyle_jax.core import errors
from metastyle_jax.data import file_sources
from metastyle_jax.data.images import image_files, image_inputs, image_writing, resizing

HEIGHT, WIDTH = 32, 48


def gradient(height=HEIGHT, width=WIDTH):
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 255 // width, y * 255 // height, (x + y) % 256], -1).astype(np.uint8)


def encode(image, encoder, **options):
    buffer = io.BytesIO()
    image.save(buffer, encoder, **options)
    return buffer.getvalue()


def png(**options):
    return encode(Image.fromarray(gradient()), 'PNG', **options)


def chunk(kind, body):
    return struct.pack('>I', len(body)) + kind + body + struct.pack('>I', zlib.crc32(kind + body))


def png_header(width, height):
    header = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(b'\0' * 1000)
    return (
        b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IDAT', body) + chunk(b'IEND', b'')
    )


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def unlike_srgb():
    """A profile whose red and green primaries have changed places."""
    data = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
    data = data.replace(b'rXYZ', b'tmp_').replace(b'gXYZ', b'rXYZ').replace(b'tmp_', b'gXYZ')
    return data.replace('sRGB'.encode('utf-16-be'), 'swap'.encode('utf-16-be'))


# Reading: modes.


@pytest.mark.parametrize('encoder', ['PNG', 'TIFF', 'BMP', 'PPM'])
def test_lossless_rgb_is_read_exactly(encoder):
    picture = image_files.read(encode(Image.fromarray(gradient()), encoder))
    assert picture.rgb.dtype == np.float32
    assert picture.alpha is None
    np.testing.assert_allclose(picture.rgb, gradient() / 255, atol=1e-6)


@pytest.mark.parametrize('encoder', ['JPEG', 'WEBP', 'GIF', 'JPEG2000'])
def test_other_formats_are_read_about_right(encoder):
    picture = image_files.read(encode(Image.fromarray(gradient()), encoder))
    assert picture.rgb.shape == (HEIGHT, WIDTH, 3)
    assert np.abs(picture.rgb - gradient() / 255).mean() < 0.05


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


def test_cmyk_jpeg_with_inverted_inks():
    image = Image.new('CMYK', (WIDTH, HEIGHT), (0, 255, 255, 0))
    picture = image_files.read(encode(image, 'JPEG', quality=100))
    np.testing.assert_allclose(picture.rgb[5, 5], [1, 0, 0], atol=0.03)


def test_lab_and_ycbcr_tiff():
    lab = Image.new('LAB', (WIDTH, HEIGHT), (255, 128, 128))
    np.testing.assert_allclose(image_files.read(encode(lab, 'TIFF')).rgb, 1, atol=0.02)
    ycbcr = Image.new('RGB', (WIDTH, HEIGHT), (200, 30, 60)).convert('YCbCr')
    rgb = image_files.read(encode(ycbcr, 'TIFF', compression='tiff_lzw')).rgb
    np.testing.assert_allclose(rgb[3, 3] * 255, [200, 30, 60], atol=3)


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


@pytest.mark.parametrize(
    ('encoder', 'transparency'), [('PNG', 3), ('PNG', bytes([0, 255, 128, 0])), ('GIF', 3)]
)
def test_palette_transparency(encoder, transparency):
    index = np.arange(HEIGHT * WIDTH, dtype=np.uint8).reshape(HEIGHT, WIDTH) % 4
    image = Image.new('P', (WIDTH, HEIGHT))
    image.putdata(index.ravel().tolist())
    image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
    picture = image_files.read(encode(image, encoder, transparency=transparency))
    assert picture.alpha is not None
    assert picture.alpha[0, 3] == 0
    assert (picture.rgb[0, 3] == 1).all()
    np.testing.assert_allclose(picture.rgb[0, 1], [1, 0, 0])


def test_opaque_alpha_channel_counts_as_none():
    image = Image.fromarray(gradient()).convert('RGBA')
    assert image_files.read(encode(image, 'PNG')).alpha is None


@pytest.mark.parametrize('encoder', ['GIF', 'WEBP', 'PNG', 'TIFF'])
def test_first_frame_of_an_animation(encoder):
    frames = [Image.new('RGB', (WIDTH, HEIGHT), colour) for colour in ('red', 'lime', 'blue')]
    data = encode(frames[0], encoder, save_all=True, append_images=frames[1:])
    np.testing.assert_allclose(image_files.read(data).rgb[9, 9], [1, 0, 0], atol=0.03)


def test_colour_profile_is_converted_to_srgb():
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
def test_broken_colour_profile_is_ignored(profile):
    np.testing.assert_array_equal(image_files.read_uint8(png(icc_profile=profile)), gradient())


def test_srgb_profile_changes_nothing():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
    np.testing.assert_array_equal(image_files.read_uint8(png(icc_profile=profile)), gradient())


# Reading: orientation, sizes, paths.

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
def test_exif_orientation(tmp_path, orientation, encoder, options, tolerance):
    path = tmp_path / 'turned'
    Image.fromarray(gradient()).save(path, encoder, exif=exif(orientation), **options)
    expected = UPRIGHT[orientation](gradient())
    actual = image_files.read_uint8(path)
    assert actual.shape == expected.shape
    assert np.abs(actual.astype(int) - expected).max() <= tolerance
    assert image_files.probe(path) == expected.shape[:2]


def test_exif_behind_the_pixels_of_a_png(tmp_path):
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


@pytest.mark.parametrize(('min_side', 'short'), [(None, 400), (401, 400), (300, 400), (100, 100)])
def test_draft_keeps_the_short_side(min_side, short):
    data = encode(Image.fromarray(gradient(600, 400)), 'JPEG', exif=exif(6))
    decoded = image_files.read_uint8(data, min_side=min_side)
    assert decoded.shape[0] == short
    assert decoded.shape[1] == short * 3 // 2


def test_str_path_and_bytes_agree(tmp_path):
    path = tmp_path / 'a.png'
    path.write_bytes(png())
    for source in (str(path), path, path.read_bytes()):
        np.testing.assert_array_equal(image_files.read_uint8(source), gradient())


def test_many_threads_read_and_leave_the_warning_filters_alone():
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


# Reading: errors.


def test_image_error_is_a_user_error():
    assert issubclass(image_files.ImageError, errors.UserError)


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
def test_bad_file_is_named_with_the_reason(tmp_path, reader, content, words):
    path = tmp_path / 'bad file.png'
    path.write_bytes(content)
    with pytest.raises(image_files.ImageError, match=words) as error:
        reader(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize('reader', [image_files.read, image_files.read_uint8, image_files.probe])
def test_missing_file_folder_and_impossible_name(tmp_path, reader):
    with pytest.raises(image_files.ImageError, match='no such file'):
        reader(tmp_path / 'absent.png')
    with pytest.raises(image_files.ImageError, match='is a folder'):
        reader(tmp_path)
    for name in ('a\0b.png', 'x' * 5000 + '.png'):
        with pytest.raises(image_files.ImageError, match='cannot be opened'):
            reader(name)


@pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='no named pipes here')
def test_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / 'pipe.png')
    with pytest.raises(image_files.ImageError, match='regular file'):
        image_files.read(tmp_path / 'pipe.png')


def test_unreadable_file(tmp_path, monkeypatch):
    path = tmp_path / 'secret.png'
    path.write_bytes(png())

    def deny(self, *args):
        raise PermissionError(13, 'Permission denied', str(self))

    monkeypatch.setattr(Path, 'open', deny)  # the mode bits would not stop root
    with pytest.raises(image_files.ImageError, match=r'secret\.png: may not be read'):
        image_files.read(path)


@pytest.mark.parametrize('encoder', ['JPEG', 'PNG', 'BMP', 'TIFF', 'WEBP', 'PPM', 'JPEG2000'])
def test_truncated_file(encoder):
    data = encode(Image.fromarray(gradient(64, 64)), encoder)
    with pytest.raises(image_files.ImageError, match='cut short|is damaged'):
        image_files.read(data[: len(data) * 2 // 3], name='half')


def test_bytes_are_called_by_their_name():
    with pytest.raises(image_files.ImageError, match='^third record: has no bytes'):
        image_files.read(b'', name='third record')
    with pytest.raises(image_files.ImageError, match='^picture: '):
        image_files.read(b'nothing of the kind')


def test_huge_header_is_refused_with_little_memory():
    data = png_header(60_000, 60_000)
    tracemalloc.start()
    try:
        with pytest.raises(image_files.ImageError, match='downscale'):
            image_files.read(data)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize('limit', [1000, None])
def test_pillows_own_limit_does_not_get_in_the_way(monkeypatch, limit):
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', limit)
    assert image_files.read(png()).rgb.shape == (HEIGHT, WIDTH, 3)


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


# Writing.


@pytest.mark.parametrize(
    ('suffix', 'tolerance'), [('.png', 0.5), ('.jpg', 12), ('.JPEG', 12), ('.webp', 30)]
)
def test_written_picture_reads_back(tmp_path, suffix, tolerance):
    rgb = (gradient() / 255).astype(np.float32)
    path = tmp_path / f'out{suffix}'
    image_writing.write(path, rgb)
    assert np.abs(image_files.read(path).rgb - rgb).max() * 255 <= tolerance
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_values_are_clipped_and_rounded_to_nearest(tmp_path):
    rgb = np.zeros((16, 16, 3), np.float32)
    rgb[0, 0] = [-3, 7, 100.4 / 255]
    rgb[0, 1] = 100.6 / 255
    image_writing.write(tmp_path / 'a.png', rgb)
    assert image_files.read_uint8(tmp_path / 'a.png')[0, :2].tolist() == [[0, 255, 100], [101] * 3]


def test_alpha_is_kept_or_composited(tmp_path):
    rgb = np.zeros((HEIGHT, WIDTH, 3), np.float32)
    alpha = (gradient()[..., 0] / 255).astype(np.float32)
    for suffix in ('.png', '.webp'):
        image_writing.write(tmp_path / f'a{suffix}', rgb, alpha=alpha)
        np.testing.assert_allclose(
            image_files.read(tmp_path / f'a{suffix}').alpha, alpha, atol=1e-3
        )
    image_writing.write(tmp_path / 'a.jpg', rgb, alpha=alpha)
    picture = image_files.read(tmp_path / 'a.jpg')
    assert picture.alpha is None
    np.testing.assert_allclose(picture.rgb[..., 1], 1 - alpha, atol=0.05)


@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_non_finite_values_are_refused(tmp_path, value):
    rgb = np.zeros((HEIGHT, WIDTH, 3), np.float32)
    rgb[1, 2, 0] = value
    with pytest.raises(image_files.ImageError, match=r'a\.png: rgb holds 1 NaN or infinite'):
        image_writing.write(tmp_path / 'a.png', rgb)
    with pytest.raises(image_files.ImageError, match='alpha holds'):
        image_writing.write(tmp_path / 'a.png', np.zeros_like(rgb), alpha=rgb[..., 0])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ('rgb', 'alpha', 'words'),
    [
        (np.zeros((20, 20)), None, 'shape'),
        (np.zeros((20, 20, 4)), None, 'shape'),
        (np.zeros((20, 0, 3)), None, 'shape'),
        (np.zeros((20, 20, 3), np.uint8), None, 'uint8'),
        (np.zeros((20, 20, 3)), np.zeros((20, 21)), 'alpha has the shape'),
    ],
)
def test_wrong_arrays_are_refused(tmp_path, rgb, alpha, words):
    with pytest.raises(image_files.ImageError, match=words):
        image_writing.write(tmp_path / 'a.png', rgb, alpha=alpha)


def test_picture_too_large_for_its_format(tmp_path):
    with pytest.raises(image_files.ImageError, match=r'a\.webp: 16390 x 2 pixels.*try \.png'):
        image_writing.write(tmp_path / 'a.webp', np.zeros((2, 16_390, 3), np.float32))
    with pytest.raises(image_files.ImageError, match=r'a\.jpg: 2 x 65600 pixels'):
        image_writing.write(tmp_path / 'a.jpg', np.zeros((65_600, 2, 3), np.float32))
    assert not list(tmp_path.iterdir())


RGB = np.full((64, 64, 3), 0.5, np.float32)
OUTPUTS = [
    lambda path, **options: image_writing.write(path, RGB, **options),
    image_writing.check_output,
]


@pytest.mark.parametrize('output', OUTPUTS, ids=['write', 'check_output'])
def test_bad_output_is_refused(tmp_path, output, monkeypatch):
    (tmp_path / 'old.png').write_bytes(b'precious')
    (tmp_path / 'folder.png').mkdir()
    for name in ('a.gif', 'a', 'a.png.txt'):
        with pytest.raises(image_files.ImageError, match=r'\.png, \.jpg, \.jpeg, \.webp'):
            output(tmp_path / name)
    with pytest.raises(
        image_files.ImageError, match=r'old\.png exists already: pass overwrite=True'
    ):
        output(tmp_path / 'old.png')
    with pytest.raises(image_files.ImageError, match='Cannot write .*folder\\.png: Is a directory'):
        output(tmp_path / 'folder.png', overwrite=True)
    for parent, reason in (('absent', 'No such file'), ('old.png', 'Not a directory')):
        with pytest.raises(image_files.ImageError, match=f'{parent}/new.png: {reason}'):
            output(tmp_path / parent / 'new.png')
    monkeypatch.setattr(os, 'access', lambda *_: False)  # the mode bits would not stop root
    with pytest.raises(image_files.ImageError, match='Permission denied'):
        output(tmp_path / 'new.png')
    assert sorted(os.listdir(tmp_path)) == ['folder.png', 'old.png']
    assert (tmp_path / 'old.png').read_bytes() == b'precious'


def test_check_output_creates_nothing_and_overwrite_replaces(tmp_path):
    path = tmp_path / 'a.png'
    image_writing.check_output(path)
    assert not list(tmp_path.iterdir())
    path.write_bytes(b'old')
    image_writing.check_output(path, overwrite=True)
    assert path.read_bytes() == b'old'
    image_writing.write(path, RGB, overwrite=True)
    assert image_files.probe(path) == (64, 64)


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    resource = pytest.importorskip('resource')
    path = tmp_path / 'a.png'
    path.write_bytes(b'precious')
    noise = np.random.default_rng(0).random((64, 64, 3), np.float32)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))  # the file takes about 12,000
    try:
        with pytest.raises(image_files.ImageError, match=r'Cannot write .*a\.png: File too large'):
            image_writing.write(path, noise, overwrite=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert os.listdir(tmp_path) == ['a.png']
    assert path.read_bytes() == b'precious'


@pytest.mark.skipif(sys.platform == 'win32', reason='umask is of POSIX')
def test_written_file_has_the_usual_permissions(tmp_path):
    (tmp_path / 'usual').touch()
    image_writing.write(tmp_path / 'a.png', RGB)
    assert (tmp_path / 'a.png').stat().st_mode == (tmp_path / 'usual').stat().st_mode


# Resizing.


@pytest.mark.parametrize('dtype', [np.float32, np.uint8])
@pytest.mark.parametrize('shape', [(HEIGHT, WIDTH, 3), (HEIGHT, WIDTH)])
def test_resize_keeps_dtype_range_and_constants(dtype, shape):
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


def test_float_and_byte_resizing_agree():
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


# Folders.


def test_list_images_is_recursive_sorted_and_skips_hidden(tmp_path):
    names = ['b.PNG', 'a.jpg', 'sub/z.webp', 'sub/deep/c.Tif', 'sub-x/d.bmp']
    others = ['.hidden.png', '.git/e.png', 'sub/.cache/f.png', 'notes.txt', 'sub/._a.jpg']
    for name in names + others:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    listed = [path.relative_to(tmp_path).as_posix() for path in file_sources.list_images(tmp_path)]
    assert listed == sorted(names)
    assert file_sources.list_images(str(tmp_path)) == file_sources.list_images(tmp_path)


def test_list_images_follows_links_once(tmp_path):
    (tmp_path / 'top').mkdir()
    (tmp_path / 'elsewhere').mkdir()
    (tmp_path / 'elsewhere' / 'a.png').touch()
    (tmp_path / 'top' / 'link').symlink_to(tmp_path / 'elsewhere')
    (tmp_path / 'elsewhere' / 'back').symlink_to(tmp_path / 'top')
    assert file_sources.list_images(tmp_path / 'top') == [tmp_path / 'top' / 'link' / 'a.png']


def test_list_images_errors_name_the_folder_and_the_suffixes(tmp_path):
    (tmp_path / 'file').touch()
    (tmp_path / 'empty').mkdir()
    for name, words in [
        ('absent', 'no such folder'),
        ('file', 'is not a folder'),
        ('empty', 'holds no pictures'),
    ]:
        with pytest.raises(image_files.ImageError, match=words) as error:
            file_sources.list_images(tmp_path / name)
        assert str(tmp_path / name) in str(error.value)
        assert '.jpeg' in str(error.value)


def test_a_picture_is_taken_in_any_form(tmp_path):
    file, array = tmp_path / 'a.png', gradient()
    file.write_bytes(png())
    expected = image_files.read(file).rgb
    forms = (
        file, str(file), png(), array, array.astype(np.float32) / 255, jnp.asarray(array),
        jnp.asarray(array, jnp.float32) / 255, Image.fromarray(array), Image.open(file),
    )  # fmt: skip
    for form in forms:
        found = image_inputs.as_rgb(form, name='picture')
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize('turn', range(1, 9))
@pytest.mark.parametrize('encoder', ['JPEG', 'PNG', 'TIFF'])
def test_an_open_picture_is_taken_as_its_file(tmp_path, turn, encoder):
    file = tmp_path / 'a'
    Image.fromarray(gradient()).save(file, encoder, exif=exif(turn))
    expected = image_files.read(file).rgb
    with Image.open(file) as opened:
        np.testing.assert_array_equal(image_inputs.as_rgb(opened, name='picture'), expected)
        opened.load()  # which turns a TIFF
        np.testing.assert_array_equal(image_inputs.as_rgb(opened, name='picture'), expected)


@pytest.mark.parametrize('mode', ['1', 'L', 'LA', 'P', 'RGB', 'RGBA', 'CMYK', 'YCbCr', 'I', 'F'])
def test_open_pictures_of_every_mode_are_taken(mode):
    image = Image.fromarray(gradient()).convert(mode)
    found = image_inputs.as_rgb(image, name='picture')
    assert found.shape == (HEIGHT, WIDTH, 3)
    assert 0 <= found.min() < found.max() <= 1


def test_what_is_see_through_is_taken_on_white():
    clear = Image.fromarray(np.zeros((HEIGHT, WIDTH, 4), np.uint8), 'RGBA')
    assert image_inputs.as_rgb(clear, name='picture').min() == 1


@pytest.mark.parametrize(
    ('picture', 'words'),
    [
        (Image.new('RGB', (10, 40)), 'painting: is 10 x 40'),
        (np.zeros((40, 40), np.float32), r'The painting has the shape \(40, 40\)'),
        (
            np.zeros((40, 40, 3), np.int32),
            'The painting has the type int32: it must be floating point in 0..1, or',
        ),
        (np.full((40, 40, 3), 2.0), 'The painting has values outside 0..1'),
        (b'no picture', 'painting: is a text'),
        (5, 'The painting has the shape'),
    ],
)
def test_what_is_no_picture_is_not_taken(picture, words):
    with pytest.raises(image_files.ImageError, match=words):
        image_inputs.as_rgb(picture, name='painting')


def test_a_picture_is_given_as_it_was_taken():
    array = gradient().astype(np.float32) / 255
    assert image_inputs.like_input(array, array) is array
    given = image_inputs.like_input(array, Image.new('L', (2, 2)))
    np.testing.assert_array_equal(np.asarray(given), gradient())


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
