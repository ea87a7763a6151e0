"""The public functions take paintings as styles."""

import inspect

import instant_helpers
import numpy as np
import pytest
from PIL import Image
from stylization_helpers import make_style

import metastyle_jax
from metastyle_jax.core.errors import UserError
from metastyle_jax.instant import instant_style
from metastyle_jax.storage import style_files
from metastyle_jax.stylization import stylize as plain

NAMES = ('stylize', 'stylize_file', 'stylize_folder', 'stylize_video', 'draw_grid', 'animate')


@pytest.fixture
def theta():
    """Without learned rates, so that by default no step is taken."""
    return instant_helpers.make_theta(rates=False)


@pytest.fixture
def theta_file(tmp_path):
    return instant_helpers.write_theta(tmp_path / 'theta.safetensors', rates=False)


@pytest.fixture
def style(painting, theta):
    return metastyle_jax.instant_style(painting, theta)


def test_a_painting_is_a_style_in_every_function(painting, photo, theta, style, tmp_path):
    expected = plain.stylize(style, photo, theta=theta)
    options = {'theta': theta}
    for form in (painting, str(painting), painting.read_bytes()):
        np.testing.assert_array_equal(metastyle_jax.stylize(form, photo, **options), expected)
    named = metastyle_jax.stylize(image=photo, style=painting, **options)
    np.testing.assert_array_equal(named, expected)
    file = metastyle_jax.stylize_file(painting, photo, tmp_path / 'out.png', **options)
    folder = metastyle_jax.stylize_folder(painting, [photo], tmp_path / 'new', **options)
    for written in (file, *folder.written):
        with Image.open(written) as image:
            np.testing.assert_allclose(np.asarray(image) / 255, expected, atol=1 / 255)


def test_paintings_and_styles_are_blended(painting, photo, theta, style, tmp_path):
    other = make_style(1)
    style_files.save_style(tmp_path / 'other.safetensors', other)
    options = {'theta': theta, 'weights': [0.3, 0.7], 'strength': 0.5}
    expected = plain.stylize([style, other], photo, **options)
    blend = [painting, tmp_path / 'other.safetensors']
    found = metastyle_jax.stylize(blend, photo, **options)
    np.testing.assert_array_equal(found, expected)
    grid = metastyle_jax.draw_grid(blend, photo, 2, theta=theta)
    np.testing.assert_array_equal(grid[:, :24], plain.stylize(style, photo, theta=theta))
    tour = metastyle_jax.animate(blend, photo, tmp_path / 'tour.png', frames=2, theta=theta)
    with Image.open(tour) as image:
        assert image.n_frames == 2


def test_other_arguments_are_checked_before_a_style_is_made(painting, photo, tmp_path, monkeypatch):
    monkeypatch.setattr(instant_style, 'instant_style', None)
    (tmp_path / 'there.png').touch()
    with pytest.raises(UserError, match='there.png exists'):
        metastyle_jax.stylize_file(painting, photo, tmp_path / 'there.png')
    with pytest.raises(UserError, match='missing.jpg'):
        metastyle_jax.stylize(painting, tmp_path / 'missing.jpg')
    with pytest.raises(UserError, match='there.png exists'):
        metastyle_jax.animate([painting] * 2, photo, tmp_path / 'there.png', frames=2)
    with pytest.raises(TypeError, match='image'):
        metastyle_jax.stylize(painting)


@pytest.mark.parametrize('name', NAMES)
def test_the_functions_document_paintings(name):
    function = getattr(metastyle_jax, name)
    before, after = inspect.getdoc(function).split('A style may also be a painting')
    assert 'Args:' not in before
    assert 'Args:' in after
    assert next(iter(inspect.signature(function).parameters)) in ('style', 'styles')


def test_a_video_is_stylized_in_the_style_of_a_painting(painting, theta_file, tmp_path):
    pytest.importorskip('av')
    from clips import TIMES, make_clip

    clip, out = make_clip(tmp_path / 'clip.mp4', sound=False), tmp_path / 'out.mp4'
    frames = metastyle_jax.stylize_video(painting, clip, out, theta=theta_file)
    assert frames == len(TIMES)
