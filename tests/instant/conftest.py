"""A cache of its own for each test, a small loss network, a θ, a painting and a photograph."""

import instant_helpers
import numpy as np
import pytest
from PIL import Image

from metastyle_jax.instant import style_cache
from metastyle_jax.models import vgg


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    # Otherwise a command would tell JAX to keep its programs there, for all later tests too.
    monkeypatch.setenv('JAX_COMPILATION_CACHE_DIR', str(tmp_path / 'xla'))
    style_cache.warn_once.cache_clear()
    return style_cache.StyleCache()


@pytest.fixture(autouse=True)
def _small_vgg(monkeypatch):
    monkeypatch.setattr(vgg, 'load', lambda path: instant_helpers.VGG)


@pytest.fixture
def theta():
    return instant_helpers.make_theta()


@pytest.fixture
def theta_file(tmp_path):
    return instant_helpers.write_theta(tmp_path / 'theta.safetensors')


@pytest.fixture
def painting(tmp_path):
    return instant_helpers.write_painting(tmp_path / 'painting.png')


@pytest.fixture
def photo(tmp_path):
    pixels = np.random.default_rng(5).integers(0, 256, (20, 24, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / 'photo.png')
    return tmp_path / 'photo.png'
