"""A studio with a small θ, and pictures, for the tests of the page."""

import instant_helpers
import numpy as np
import pytest
from PIL import Image

from metastyle_jax.models import vgg
from metastyle_jax.ui import sessions, studio
from metastyle_jax.ui.config import UiConfig


@pytest.fixture(autouse=True)
def _small_vgg(monkeypatch):
    monkeypatch.setattr(vgg, 'load', lambda path: instant_helpers.VGG)


@pytest.fixture(scope='session')
def theta_file(tmp_path_factory):
    return instant_helpers.write_theta(tmp_path_factory.mktemp('theta') / 'theta.safetensors')


@pytest.fixture
def config(tmp_path, theta_file):
    return UiConfig(
        theta=theta_file, keep_folder=tmp_path / 'kept', max_pixels=1, max_styles=3, open=False
    )


@pytest.fixture
def place(config):
    return studio.Studio(config)


@pytest.fixture
def session(tmp_path):
    folder = tmp_path / 'session'
    folder.mkdir()
    return sessions.Session(folder)


@pytest.fixture
def painting(tmp_path):
    return instant_helpers.write_painting(tmp_path / 'painting.png')


@pytest.fixture
def photo(tmp_path):
    pixels = np.random.default_rng(5).integers(0, 256, (20, 24, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / 'photo.jpg')
    return tmp_path / 'photo.jpg'
