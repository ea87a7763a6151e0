"""Fixtures of the tests of stylization."""

import numpy as np
import pytest
from library_helpers import make_library
from PIL import Image
from stylization_helpers import THETA, make_style

from metastyle_jax.storage import style_files, style_library, tensor_files, theta_files


@pytest.fixture(scope='module')
def theta():
    return theta_files.Theta(THETA, tensor_files.fingerprint(THETA), {})


@pytest.fixture(scope='module')
def pixels():
    return np.random.default_rng(0).uniform(size=(20, 24, 3)).astype(np.float32)


@pytest.fixture
def files(tmp_path):
    paths = []
    for seed in range(1, 5):
        paths.append(tmp_path / f'{seed}.safetensors')
        style_files.save_style(paths[-1], make_style(seed))
    return paths


@pytest.fixture
def photo(tmp_path, pixels):
    path = tmp_path / 'photo.png'
    Image.fromarray(np.round(pixels * 255).astype(np.uint8)).save(path)
    return path


@pytest.fixture
def theta_file(tmp_path):
    path = tmp_path / 'theta.safetensors'
    theta_files.save_theta(path, THETA, settings={})
    return path


@pytest.fixture
def library_file(tmp_path):
    path = tmp_path / 'library.safetensors'
    style_library.save(path, make_library(['a.jpg', 'deep/b.jpg', 'c.jpg']))
    return path
