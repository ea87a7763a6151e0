"""Which styles are paintings, and that their styles are made late."""

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from stylization_helpers import make_style

from metastyle_jax.instant import instant_style, paintings
from metastyle_jax.storage import style_files


@pytest.fixture
def folder(tmp_path, monkeypatch, painting):
    monkeypatch.chdir(tmp_path)
    style_files.save_style('style.safetensors', make_style(1))
    (tmp_path / 'text.jpg').write_text('no picture')
    (tmp_path / 'named').write_bytes(painting.read_bytes())
    (tmp_path / 'picture.safetensors').write_bytes(painting.read_bytes())


@pytest.mark.usefixtures('folder')
def test_pictures_are_told_from_styles_by_content_and_suffix(painting):
    for word in ('painting.png', 'named', 'text.jpg', 'missing.webp', 'picture.safetensors'):
        assert paintings.is_painting(word), word
    for word in ('style.safetensors', 'missing', 'l.safetensors:monet.jpg', '.', 'missing.txt'):
        assert not paintings.is_painting(word), word
    pixels = np.zeros((16, 16, 3), np.uint8)
    for image in (painting, painting.read_bytes(), Image.fromarray(pixels), jnp.asarray(pixels)):
        assert paintings.is_painting(image)
    assert not paintings.is_painting(make_style(1))


def test_a_home_folder_is_expanded(painting, monkeypatch):
    monkeypatch.setenv('HOME', str(painting.parent))
    assert paintings.is_painting('~/painting.png')


def test_paintings_in_a_blend_become_functions_that_are_called_once(monkeypatch):
    made = []
    monkeypatch.setattr(
        instant_style, 'instant_style', lambda painting, theta, **_: made.append((painting, theta))
    )
    style = make_style(1)
    first, second, third = paintings.with_paintings(
        ['a.png', style, ('b.png', 'style.safetensors')], theta='t'
    )
    assert second is style
    assert third[1] == 'style.safetensors'
    assert made == []
    for _ in range(2):
        first()
    third[0]()
    assert made == [('a.png', 't'), ('b.png', 't')]
