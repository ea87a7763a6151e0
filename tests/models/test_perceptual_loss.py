"""The perceptual loss, for one style and for several in one batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metastyle_jax.core import trees
from metastyle_jax.models import gram, perceptual_loss, transformer, vgg


def uniform(seed, *shape):
    return np.random.default_rng(seed).uniform(size=shape)


def features(images):
    """Four layers of different widths and sizes, as a loss network has them."""
    kernels = [np.random.default_rng(i).normal(size=(3, 2 + i)) for i in range(4)]
    return [images[:, :: i + 1, :: i + 1] @ kernel for i, kernel in enumerate(kernels)]


@pytest.mark.usefixtures('x64')
def test_perceptual_loss_equals_its_definition():
    outputs, contents, style = (
        uniform(0, 2, 6, 8, 3),
        uniform(1, 2, 6, 8, 3),
        uniform(2, 1, 6, 4, 3),
    )
    grams = tuple(gram.gram(layer)[0] for layer in features(style))
    targets = perceptual_loss.Targets(features(contents)[1], grams)
    weights = perceptual_loss.LossWeights(content=2.0, style=30.0)
    found = perceptual_loss.of_features(features(outputs), targets, weights)
    content = 2 * np.mean((features(outputs)[1] - features(contents)[1]) ** 2)
    style_layers = []
    for out, ref in zip(features(outputs), features(style), strict=True):
        plain = lambda x: x.reshape(-1, x.shape[-1]).T @ x.reshape(-1, x.shape[-1]) / x.size
        style_layers.append(30 * np.mean([(plain(o) - plain(ref[0])) ** 2 for o in out]))
    np.testing.assert_allclose(found.content, content, rtol=1e-12)
    np.testing.assert_allclose(found.style_layers, style_layers, rtol=1e-12)
    np.testing.assert_allclose(found.style, sum(style_layers), rtol=1e-12)
    np.testing.assert_allclose(found.total, content + sum(style_layers), rtol=1e-12)


def test_an_image_has_zero_loss_against_itself():
    maps = features(uniform(0, 1, 8, 8, 3))
    targets = perceptual_loss.Targets(maps[1], tuple(gram.gram(layer)[0] for layer in maps))
    assert perceptual_loss.of_features(maps, targets, perceptual_loss.DEFAULT_WEIGHTS).total == 0


@pytest.mark.usefixtures('x64')
def test_losses_of_styles_in_one_batch_equal_those_of_each_style_alone(disagreement):
    network = vgg.random(jax.random.key(0), width=2)
    theta = transformer.init(jax.random.key(1), width=2, blocks=1)
    norms, rest = trees.partition(theta, transformer.adapted('norm'))
    several = {
        name: jnp.stack([leaf, 1.3 * leaf + 0.1, 0.7 * leaf]) for name, leaf in norms.items()
    }
    contents = uniform(0, 2, 16, 16, 3)
    grams = gram.of_images(network, uniform(1, 3, 16, 16, 3))
    per_image = {name: jnp.repeat(leaf, 2, axis=0) for name, leaf in several.items()}
    params = trees.combine(theta, per_image, rest)
    shared = perceptual_loss.compute_targets(network, contents, grams)
    together = perceptual_loss.of_styles(params, network, contents, shared)
    own = shared._replace(content=jnp.stack([shared.content] * 3))
    apart = perceptual_loss.of_styles(params, network, np.stack([contents] * 3), own)
    for i in range(3):
        one = trees.combine(theta, {name: leaf[i] for name, leaf in several.items()}, rest)
        targets = shared._replace(grams=tuple(layer[i] for layer in grams))
        alone = perceptual_loss.of_network(one, network, contents, targets)
        for batch in (together, apart):
            disagreement(jax.tree.map(lambda leaf, i=i: leaf[i], batch), alone, 1e-6)
