"""Networks, Gram matrices and images for tests of adaptation, of baselines and of evaluation."""

import jax
import numpy as np
from PIL import Image

from metastyle_jax.data import sources
from metastyle_jax.models import gram, transformer, vgg
from metastyle_jax.storage import tensor_files, theta_files


def small_vgg(width=4):
    return vgg.random(jax.random.key(1), width=width)


def make_theta(seed):
    params = transformer.init(jax.random.key(seed), width=4, blocks=1)
    return theta_files.Theta(params, tensor_files.fingerprint(params), {})


def style_grams(network):
    style = np.random.default_rng(3).uniform(size=(1, 32, 32, 3)).astype(np.float32)
    return gram.of_image(network, style[0])


def random_images(seed, count=2):
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), np.uint8)


def open_pictures(folder, count, seed):
    """Makes a folder of pictures of random pixels, and opens it as a source."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    for i in range(count):
        pixels = rng.integers(0, 256, (40, 48, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f'{i}.png')
    return sources.open_source(f'folder:{folder}', kind='content')
