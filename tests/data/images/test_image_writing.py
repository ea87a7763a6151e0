"""Written pictures read back, and what cannot be written is refused before anything changes."""

import os
import sys

import numpy as np
import pytest
from pictures import HEIGHT, WIDTH, gradient

from metastyle_jax.data.images import image_files, image_writing


@pytest.mark.parametrize(
    ('suffix', 'tolerance'), [('.png', 0.5), ('.jpg', 12), ('.JPEG', 12), ('.webp', 30)]
)
def test_a_written_picture_reads_back(tmp_path, suffix, tolerance):
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


def test_alpha_is_kept_by_png_and_webp_and_composited_for_jpeg(tmp_path):
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
def test_arrays_that_are_no_picture_are_refused(tmp_path, rgb, alpha, words):
    with pytest.raises(image_files.ImageError, match=words):
        image_writing.write(tmp_path / 'a.png', rgb, alpha=alpha)


def test_a_picture_too_large_for_its_format_is_refused(tmp_path):
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
def test_an_output_that_cannot_be_written_is_refused(tmp_path, output, monkeypatch):
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


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
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
def test_a_written_file_has_the_usual_permissions(tmp_path):
    (tmp_path / 'usual').touch()
    image_writing.write(tmp_path / 'a.png', RGB)
    assert (tmp_path / 'a.png').stat().st_mode == (tmp_path / 'usual').stat().st_mode
