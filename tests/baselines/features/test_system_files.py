"""Files of trained systems."""

import json

import baselines_helpers
import jax
import numpy as np
import pytest

from metastyle_jax.baselines.features import system_files
from metastyle_jax.core import errors
from metastyle_jax.models import transformer
from metastyle_jax.storage import theta_files

SMALL = {'encoder': 'vgg16', 'width': 2}
OPTIONS = {
    'adain': SMALL,
    'wct': SMALL,
    'avatar-net': SMALL,
    'style-swap': SMALL,
    'meta-networks': {'hidden': 2, 'width': 3, 'blocks': 1, 'vgg_width': 2},
}


def test_options_of_every_trained_system_are_known_here():
    assert OPTIONS.keys() == {*system_files.NAMES}


@pytest.mark.parametrize('name', OPTIONS)
def test_a_saved_system_is_loaded_with_its_encoder(tmp_path, name):
    _, params = baselines_helpers.write_system(tmp_path, name, OPTIONS[name])
    found = system_files.load(
        name, tmp_path / f'{name}.safetensors', vgg=tmp_path / 'vgg.npz', encoder='vgg16'
    )
    assert found.system.name == name
    assert found.options == OPTIONS[name]
    jax.tree.map(np.testing.assert_array_equal, found.params, params)


def test_float16_halves_the_file(tmp_path):
    _, params = baselines_helpers.write_system(tmp_path, 'adain')
    options = {'encoder': 'vgg16', 'width': 2}
    system_files.save(tmp_path / 'half.safetensors', 'adain', params, options=options)
    found = system_files.load('adain', tmp_path / 'half.safetensors', vgg=tmp_path / 'vgg.npz')
    for leaf, expected in zip(
        jax.tree.leaves(found.params['decoder']), jax.tree.leaves(params['decoder']), strict=True
    ):
        assert leaf.dtype == np.float32
        np.testing.assert_allclose(leaf, expected, rtol=1e-3, atol=1e-6)
    params['decoder']['conv1_1']['bias'] += 1e6
    with pytest.raises(errors.UserError, match='not finite'):
        system_files.save(tmp_path / 'c.safetensors', 'adain', params, options=options)
    assert not (tmp_path / 'c.safetensors').exists()


@pytest.mark.parametrize('name', system_files.NAMES)
def test_without_weights_the_message_says_how_to_get_them(name, monkeypatch, tmp_path):
    monkeypatch.setattr(system_files, 'SHIPPED', tmp_path)
    with pytest.raises(errors.UserError, match=rf'configs/baselines.py:{name} .*weights=runs/'):
        system_files.load(name)
    with pytest.raises(errors.UserError, match='no such file or folder'):
        system_files.load(name, tmp_path / 'none.safetensors')


def test_weights_of_another_system_or_encoder_are_refused(tmp_path):
    baselines_helpers.write_system(tmp_path, 'adain')
    file, vgg = tmp_path / 'adain.safetensors', tmp_path / 'vgg.npz'
    with pytest.raises(errors.UserError, match='those of adain, not of wct'):
        system_files.load('wct', file, vgg=vgg)
    with pytest.raises(errors.UserError, match="encoder='vgg19': it must be 'vgg16'"):
        system_files.load('adain', file, vgg=vgg, encoder='vgg19')
    with pytest.raises(errors.UserError, match='system='):
        system_files.load('adaIN', file)
    with pytest.raises(errors.UserError, match='for adain only'):
        system_files.load('wct', tmp_path / 'decoder.pth')
    with pytest.raises(errors.UserError, match='no training run'):
        system_files.load('adain', tmp_path)


@pytest.mark.parametrize('options', [{'depth': 3}, {'width': 'two'}, {'encoder': 'vgg16'}])
def test_options_that_do_not_fit_are_refused(tmp_path, options):
    _, params = baselines_helpers.write_system(tmp_path, 'adain')
    file = tmp_path / 'other.safetensors'
    system_files.save(file, 'adain', params, options=options)
    with pytest.raises(errors.UserError):
        system_files.load('adain', file, vgg=tmp_path / 'vgg.npz')


def test_a_run_that_trained_something_else_is_refused(tmp_path, monkeypatch):
    (tmp_path / 'config.json').write_text(json.dumps({}))
    monkeypatch.setattr(system_files.theta_files, 'read_run', lambda *_, **__: ({}, {}, None))
    with pytest.raises(errors.UserError, match='this run trained metastyle, not adain'):
        system_files.load('adain', tmp_path)


def test_the_public_decoder_needs_its_encoder(tmp_path, monkeypatch):
    monkeypatch.setattr(system_files.encoder_weights, 'load_adain_decoder', lambda path: {})
    with pytest.raises(errors.UserError, match='vgg=FILE, the file vgg_normalised.pth'):
        system_files.load('adain', tmp_path / 'decoder.pth')
    with pytest.raises(errors.UserError, match="encoder='vgg16': .* mirrors VGG-19"):
        system_files.load('adain', tmp_path / 'decoder.pth', encoder='vgg16')


def test_systems_that_descend_the_loss_are_loaded_too(tmp_path):
    params = transformer.init(jax.random.key(0), width=2, blocks=1)
    theta_files.save_theta(tmp_path / 'theta.safetensors', params, settings={})
    small = {'steps': 1, 'batch': 1, 'size': 16, 'style_size': 16, 'margin': False}
    found = system_files.load('metastyle', tmp_path / 'theta.safetensors', **small)
    jax.tree.map(np.testing.assert_array_equal, found.params['theta'], params)
    assert found.system.count == sum(leaf.size for leaf in jax.tree.leaves(params))
    assert found.options['steps'] == 1
    found = system_files.load('johnson', width=2, blocks=1, **small)
    assert jax.tree.map(np.shape, found.params['theta']) == jax.tree.map(np.shape, params)
    found = system_files.load('gatys', iterations=1)
    assert found.params.keys() >= {'conv1_1', 'conv4_3'}
