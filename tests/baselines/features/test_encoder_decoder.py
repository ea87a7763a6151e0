"""Encoders that are cut at a layer, and the decoders that mirror them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metastyle_jax.baselines.features import encoder_decoder
from metastyle_jax.core import errors
from metastyle_jax.models import vgg

CUTS = ('relu1_1', 'relu2_1', 'relu3_1', 'relu4_1', 'relu5_1')


def pictures(height, width, seed=0):
    return np.random.default_rng(seed).uniform(size=(1, height, width, 3)).astype(np.float32)


def make(encoder, cut, width=2):
    layers = encoder_decoder.encoder_layers(encoder, cut, width=width)
    mirrored = encoder_decoder.decoder_layers(encoder, cut, width=width)
    init = encoder_decoder.init
    return init(jax.random.key(0), layers), mirrored, init(jax.random.key(1), mirrored)


def test_parameters_are_counted_to_the_digit():
    count, layers = encoder_decoder.parameter_count, encoder_decoder.encoder_layers
    assert count(layers('vgg19', 'relu4_1')) == 3_505_728
    assert count(layers('vgg19-normalized', 'relu4_1')) == 3_505_728 + 12
    assert count(layers('vgg19', 'relu3_1')) == 555_328
    assert count(encoder_decoder.decoder_layers('vgg19', 'relu4_1')) == 3_505_219
    assert count(encoder_decoder.decoder_layers('vgg19-normalized', 'relu4_1')) == 3_505_219
    assert count(encoder_decoder.decoder_layers('vgg16', 'relu3_1')) == 555_075


def test_random_parameters_are_as_many_as_counted():
    layers = encoder_decoder.encoder_layers('vgg19-normalized', 'relu3_2', width=2)
    params = encoder_decoder.init(jax.random.key(0), layers)
    sizes = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert sizes == encoder_decoder.parameter_count(layers)


def test_the_decoder_of_adain_is_the_one_of_its_paper():
    layers = encoder_decoder.decoder_layers('vgg19', 'relu4_1')
    assert [(layer.inputs, layer.outputs, layer.resamples) for layer in layers] == [
        (512, 256, False), (256, 256, True), (256, 256, False), (256, 256, False),
        (256, 128, False), (128, 128, True), (128, 64, False), (64, 64, True), (64, 3, False),
    ]  # fmt: skip


def test_unknown_encoders_and_layers_are_refused():
    with pytest.raises(errors.UserError, match='encoder='):
        encoder_decoder.encoder_layers('vgg11', 'relu4_1')
    for cut in ('relu4_5', 'conv4_1', 'relu6_1', ''):
        with pytest.raises(errors.UserError, match='cut='):
            encoder_decoder.encoder_layers('vgg19', cut)
    params, _, _ = make('vgg16', 'relu2_1')
    with pytest.raises(errors.UserError, match='relu3_1'):
        encoder_decoder.encode(params, pictures(16, 16), ('relu1_1', 'relu3_1'))


@pytest.mark.parametrize('images', [np.zeros((16, 16, 3)), np.zeros((1, 15, 16, 3))])
def test_images_of_another_shape_are_refused(images):
    params, _, _ = make('vgg16', 'relu1_1')
    with pytest.raises(errors.UserError, match='images'):
        encoder_decoder.encode(params, images, ('relu1_1',))
    with pytest.raises(errors.UserError, match='uint8'):
        encoder_decoder.encode(params, np.zeros((1, 16, 16, 3), np.uint8), ('relu1_1',))


@pytest.mark.parametrize('size', [(16, 16), (17, 31), (33, 16), (40, 64)])
@pytest.mark.parametrize('encoder', ['vgg19', 'vgg16'])
def test_every_size_is_encoded_and_decoded_to_the_same_size(encoder, size):
    for cut in CUTS:
        params, mirrored, decoder = make(encoder, cut)
        (features,) = encoder_decoder.encode(params, pictures(*size), (cut,))
        scale = 2 ** (CUTS.index(cut))
        assert features.shape[1:3] == (-(-size[0] // scale), -(-size[1] // scale))
        decoded = encoder_decoder.decode(decoder, mirrored, features, size)
        assert decoded.shape == (1, *size, 3)
        assert np.isfinite(decoded).all()


def test_away_from_the_border_features_are_those_of_the_loss_network():
    params = vgg.random(jax.random.key(0), width=2)
    images = pictures(48, 48)
    expected = vgg.features(params, images).relu3_3
    (found,) = encoder_decoder.encode(params, images, ('relu3_3',))
    np.testing.assert_allclose(found[:, 5:-5, 5:-5], expected[:, 5:-5, 5:-5], rtol=1e-5, atol=1e-6)
    assert np.max(np.abs(found - expected)) > 1e-3  # the padding differs


def test_padding_and_upsampling_keep_a_constant_picture_constant():
    params, mirrored, decoder = make('vgg19', 'relu3_1')
    images = jnp.full((1, 19, 22, 3), 0.3)
    (features,) = encoder_decoder.encode(params, images, ('relu3_1',))
    decoded = encoder_decoder.decode(decoder, mirrored, features, (19, 22))
    for x in (features, decoded):
        np.testing.assert_allclose(x, jnp.broadcast_to(x[:, :1, :1], x.shape), atol=1e-6)


def test_a_function_before_a_convolution_gets_its_input():
    params, mirrored, decoder = make('vgg16', 'relu3_1')
    (features,) = encoder_decoder.encode(params, pictures(18, 16), ('relu3_1',))
    plain = encoder_decoder.decode(decoder, mirrored, features, (18, 16))
    seen = {}

    def keep(name):
        def same(x):
            seen[name] = x.shape
            return x

        return same

    before = {name: keep(name) for name in ('conv3_1', 'conv2_2', 'conv1_1')}
    same = encoder_decoder.decode(decoder, mirrored, features, (18, 16), before=before)
    np.testing.assert_allclose(same, plain, atol=1e-6)
    assert seen == {
        'conv3_1': (1, 5, 4, 8),
        'conv2_2': (1, 9, 8, 4),
        'conv1_1': (1, 18, 16, 2),
    }


def test_float64_is_kept(x64):
    params, mirrored, decoder = make('vgg19-normalized', 'relu2_1')
    images = pictures(16, 16).astype(np.float64)
    (features,) = encoder_decoder.encode(params, images, ('relu2_1',))
    decoded = encoder_decoder.decode(decoder, mirrored, features, (16, 16))
    assert features.dtype == decoded.dtype == np.float64


def test_the_decoder_normalizes_before_each_relu_but_does_not_change_the_picture():
    _, mirrored, params = make('vgg16', 'relu3_1')
    features = jnp.ones((1, 4, 4, 8))
    seen = []

    def normalize(x):
        seen.append(x.shape[-1])
        return jnp.full_like(x, -1)  # the ReLU makes it zero

    found = encoder_decoder.decode(params, mirrored, features, (16, 16), normalize=normalize)
    assert seen == [layer.outputs for layer in mirrored[:-1]]
    bias = jnp.broadcast_to(params['conv1_1']['bias'], found.shape)
    np.testing.assert_allclose(found, bias, rtol=1e-6)


def test_a_fresh_decoder_makes_almost_grey_pictures():
    layers = encoder_decoder.decoder_layers('vgg16', 'relu3_1', width=16)
    params = encoder_decoder.init_decoder(jax.random.key(0), layers)
    features = 4 * np.abs(np.random.default_rng(0).normal(size=(1, 8, 8, 64))).astype(np.float32)
    pictures = np.asarray(encoder_decoder.decode(params, layers, features, (32, 32)))
    assert np.abs(pictures - 0.5).max() < 0.5
    assert pictures.std() > 1e-3
