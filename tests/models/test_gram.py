"""Gram matrices of features and of images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metastyle_jax.models import gram, vgg


def uniform(seed, *shape):
    return np.random.default_rng(seed).uniform(size=shape)


@pytest.mark.usefixtures('x64')
def test_gram_equals_its_definition():
    x = uniform(0, 2, 3, 4, 5)
    found = gram.gram(x)
    for n in range(2):
        flat = x[n].reshape(12, 5)
        np.testing.assert_allclose(found[n], flat.T @ flat / (5 * 3 * 4), rtol=1e-12)


def test_gram_matrices_of_images_are_those_of_each_image_alone():
    network, images = (
        vgg.random(jax.random.key(0), width=2),
        uniform(0, 3, 16, 24, 3).astype(np.float32),
    )
    together = gram.of_images(network, images)
    for i, image in enumerate(images):
        for several, alone in zip(together, gram.of_image(network, image), strict=True):
            np.testing.assert_allclose(several[i], alone, rtol=1e-5)


@pytest.mark.parametrize('size', [(16, 16), (9, 16), (8, 11)])
def test_the_rest_of_a_canvas_does_not_change_gram_matrices(size):
    network, image = vgg.random(jax.random.key(0), width=2), uniform(0, *size, 3)
    canvas = jnp.ones((1, 16, 16, 3)).at[0, : size[0], : size[1]].set(image)
    on_canvas = gram.of_padded_images(network, canvas, jnp.array([size]))
    for padded, alone in zip(on_canvas, gram.of_image(network, jnp.asarray(image)), strict=True):
        np.testing.assert_allclose(padded[0], alone, rtol=1e-4)


def test_gram_matrices_of_padded_images_are_those_of_the_images(disagreement):
    network = vgg.random(jax.random.key(1), width=2)
    rng = np.random.default_rng(0)
    sizes = np.array([[19, 40], [40, 27]])
    canvas = np.zeros((2, 40, 40, 3), np.float32)
    pictures = [rng.uniform(size=(*size, 3)).astype(np.float32) for size in sizes]
    for whole, picture in zip(canvas, pictures, strict=True):
        whole[: picture.shape[0], : picture.shape[1]] = picture
    found = jax.jit(gram.of_padded_images)(network, canvas, sizes)
    for i, picture in enumerate(pictures):
        expected = jax.jit(gram.of_image)(network, picture)
        disagreement([layer[i] for layer in found], expected, 1e-6)
