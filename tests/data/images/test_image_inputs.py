"""Pictures as callers hand them over: files, bytes, arrays and open pictures."""

import jax.numpy as jnp
import numpy as np
import pytest
from pictures import HEIGHT, WIDTH, exif, gradient, png
from PIL import Image

from metastyle_jax.data.images import image_files, image_inputs


def test_a_picture_is_the_same_in_every_form(tmp_path):
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


def test_transparent_pixels_are_composited_on_white():
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
def test_what_is_no_picture_is_refused(picture, words):
    with pytest.raises(image_files.ImageError, match=words):
        image_inputs.as_rgb(picture, name='painting')


def test_a_result_has_the_form_of_its_input():
    array = gradient().astype(np.float32) / 255
    assert image_inputs.like_input(array, array) is array
    given = image_inputs.like_input(array, Image.new('L', (2, 2)))
    np.testing.assert_array_equal(np.asarray(given), gradient())
