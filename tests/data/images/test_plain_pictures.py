"""Pictures without anything to see are told from those with a faint shape."""

import io

import numpy as np
import pytest
from PIL import Image

from metastyle_jax.data import file_sources
from metastyle_jax.data.images import image_files, plain_pictures

HEIGHT, WIDTH = 240, 320


def wall(*, noise=0.0, shade=0.0, spot=0.0):
    """A white wall: noise (levels of deviation), shading from corner to corner, a spot."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    grey = 220 + shade * (x / WIDTH + y / HEIGHT - 1) / 2
    grey[100:130, 100:130] -= spot
    noisy = grey + np.random.default_rng(0).normal(0, noise, grey.shape)
    return np.repeat(np.clip(noisy / 255, 0, 1).astype(np.float32)[..., None], 3, -1)


@pytest.mark.parametrize(
    ('picture', 'expected'),
    [
        (wall(), plain_pictures.ONE_COLOUR),
        (wall(noise=1), plain_pictures.NOISE_ALONE),
        (wall(noise=5), plain_pictures.NOISE_ALONE),
        (wall(noise=3, shade=12), ''),
        (wall(noise=1, spot=15), ''),
        (wall(shade=60), ''),
    ],
)
def test_a_photograph_is_plain_if_not_even_shading_is_in_it(picture, expected):
    assert plain_pictures.of_photograph(picture) == expected


def test_a_plain_jpeg_is_plain_and_a_photograph_is_not():
    buffer = io.BytesIO()
    Image.new('RGB', (WIDTH, HEIGHT), (200, 30, 60)).save(buffer, 'JPEG')
    rgb = image_files.read(buffer.getvalue()).rgb
    assert plain_pictures.of_photograph(rgb) == plain_pictures.ONE_COLOUR
    for path in file_sources.sample_files('content').values():
        rgb = image_files.read(path).rgb
        assert plain_pictures.of_photograph(rgb) == plain_pictures.of_painting(rgb) == ''


@pytest.mark.parametrize('shape', [(16, 16), (16, 400), (17, 23)])
def test_small_pictures_are_judged_too(shape):
    rgb = np.full((*shape, 3), 0.5, np.float32)
    assert plain_pictures.of_photograph(rgb) == plain_pictures.ONE_COLOUR
    rgb[: shape[0] // 2] = 0.1
    assert plain_pictures.of_photograph(rgb) == ''


@pytest.mark.parametrize(
    ('picture', 'is_plain'),
    [(wall(), True), (wall(noise=1), True), (wall(noise=5), False), (wall(shade=60), False)],
)
def test_a_painting_is_plain_without_a_texture(picture, is_plain):
    assert bool(plain_pictures.of_painting(picture)) == is_plain
