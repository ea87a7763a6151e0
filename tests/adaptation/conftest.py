"""Networks, paintings and files for the tests of adaptation."""

import adaptation_helpers
import numpy as np
import pytest
from PIL import Image
from stylization_helpers import THETA

from metastyle_jax.models import vgg
from metastyle_jax.storage import tensor_files, theta_files


@pytest.fixture(scope='session')
def network():
    return adaptation_helpers.small_vgg()


@pytest.fixture(scope='module')
def theta():
    return theta_files.Theta(THETA, tensor_files.fingerprint(THETA), {})


@pytest.fixture(scope='module')
def small_vgg():
    """A VGG of width 2: what is tested is the same for any, and compiling it is the cost."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vgg, 'load', lambda path: adaptation_helpers.small_vgg(width=2))
        yield


@pytest.fixture
def theta_file(tmp_path):
    path = tmp_path / 'theta.safetensors'
    theta_files.save_theta(path, THETA, settings={})
    return path


@pytest.fixture(scope='session')
def paintings(tmp_path_factory):
    """Five pictures of several sizes, two of them nested, and one that is none."""
    folder, rng = tmp_path_factory.mktemp('paintings'), np.random.default_rng(0)
    (folder / 'deep').mkdir()
    for name in ('b.png', 'deep/a.webp', 'c.jpg', 'deep/b.png', 'd.bmp'):
        height, width = rng.integers(20, 60, 2)
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    (folder / 'broken.png').write_bytes(b'no picture')
    return folder
