"""Weights of encoders and of AdaIN's decoder in files of other people."""

import pathlib

import baselines_helpers
import helpers
import jax
import numpy as np
import pytest

from metastyle_jax.baselines.features import encoder_decoder, encoder_weights
from metastyle_jax.core import errors

DATA = pathlib.Path(__file__).parents[2] / 'models'
# Numbers of the layers in the sequences of torchvision's VGG-19 and of pytorch-AdaIN.
VGG19 = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28)
NORMALIZED = (0, 2, 5, 9, 12, 16, 19, 22, 25, 29)
DECODER = (1, 5, 8, 11, 14, 18, 21, 25, 28)


def torch_arrays(layers, numbers, prefix=''):
    """Random arrays under PyTorch's names, and the parameters that they stand for."""
    params = encoder_decoder.init(jax.random.key(0), layers)
    arrays = {}
    for layer, number in zip(layers, numbers, strict=True):
        kernel, bias = params[layer.name]['kernel'], params[layer.name]['bias'] + number
        params[layer.name]['bias'] = bias
        arrays[f'{prefix}{number}.weight'] = np.asarray(kernel).transpose(3, 2, 0, 1)
        arrays[f'{prefix}{number}.bias'] = np.asarray(bias)
    return arrays, params


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name in found:
        for part in ('kernel', 'bias'):
            np.testing.assert_array_equal(found[name][part], expected[name][part])


@pytest.mark.parametrize('suffix', ['.npz', '.safetensors'])
@pytest.mark.parametrize(
    ('encoder', 'cut', 'numbers', 'prefix'),
    [('vgg19', 'relu5_1', VGG19, 'features.'), ('vgg19-normalized', 'relu4_1', NORMALIZED, '')],
)
def test_encoders_are_read_under_the_names_of_pytorch(
    tmp_path, suffix, encoder, cut, numbers, prefix
):
    layers = encoder_decoder.encoder_layers(encoder, cut, width=2)
    arrays, params = torch_arrays(layers, numbers, prefix)
    helpers.save_arrays(tmp_path / f'a{suffix}', arrays)
    found = encoder_weights.load_encoder(encoder, cut, tmp_path / f'a{suffix}', width=2)
    assert_equal(found, params)


def test_the_public_decoder_of_adain_is_read(tmp_path):
    layers = encoder_decoder.decoder_layers('vgg19', 'relu4_1', width=2)
    arrays, params = torch_arrays(layers, DECODER)
    helpers.save_arrays(tmp_path / 'a.npz', arrays)
    assert_equal(encoder_weights.load_adain_decoder(tmp_path / 'a.npz', width=2), params)


def test_the_names_of_this_package_and_state_dicts_of_pytorch_are_read(tmp_path):
    params = baselines_helpers.write_encoder(tmp_path / 'a.npz')
    assert_equal(
        encoder_weights.load_encoder('vgg16', 'relu5_1', tmp_path / 'a.npz', width=2), params
    )
    found = encoder_weights.load_encoder('vgg16', 'relu3_1', DATA / 'vgg_width2_zip.pth', width=2)
    expected = helpers.torch_arrays()['features.10.weight'].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(found['conv3_1']['kernel'], expected)


def test_vgg16_needs_no_file_and_the_others_name_theirs():
    found = encoder_weights.load_encoder('vgg16', 'relu5_1')
    assert found['conv5_1']['kernel'].shape == (3, 3, 512, 512)
    # The first numbers of torchvision's bias.
    np.testing.assert_allclose(found['conv1_1']['bias'][:2], [0.403388, 0.37779424], rtol=1e-6)
    for encoder, file in (('vgg19', 'vgg19-dcbb9e9d'), ('vgg19-normalized', 'vgg_normalised')):
        with pytest.raises(errors.UserError, match=f'vgg=FILE, the file {file}.pth'):
            encoder_weights.load_encoder(encoder, 'relu4_1')


def test_files_with_another_network_are_refused(tmp_path):
    baselines_helpers.write_encoder(tmp_path / 'a.npz', cut='relu3_1')
    with pytest.raises(errors.UserError, match=r'lacks the layer conv3_2: .* vgg16-397923af'):
        encoder_weights.load_encoder('vgg16', 'relu4_1', tmp_path / 'a.npz', width=2)
    with pytest.raises(errors.UserError, match=r'conv1_1/kernel .* shape \(3, 3, 3, 2\)'):
        encoder_weights.load_encoder('vgg16', 'relu3_1', tmp_path / 'a.npz')
    with pytest.raises(errors.UserError, match='vgg_normalised.pth'):
        encoder_weights.load_encoder('vgg19-normalized', 'relu1_1', tmp_path / 'a.npz', width=2)
    with pytest.raises(errors.UserError, match='no file .*give the file decoder.pth'):
        encoder_weights.load_adain_decoder(tmp_path / 'none.pth')


def test_values_that_are_not_finite_are_refused(tmp_path):
    params = baselines_helpers.write_encoder(tmp_path / 'a.npz', cut='relu1_1')
    params['conv1_1']['bias'] = params['conv1_1']['bias'] * np.nan
    helpers.save_arrays(tmp_path / 'b.npz', helpers.own_arrays(params))
    with pytest.raises(errors.UserError, match='not finite'):
        encoder_weights.load_encoder('vgg16', 'relu1_1', tmp_path / 'b.npz', width=2)
