"""The one interface of the poster's systems."""

from unittest import mock

import jax
import numpy as np
import pytest

from metastyle_jax.baselines import metastyle, systems
from metastyle_jax.core import errors
from metastyle_jax.storage import theta_files

# Small forms of the systems.
SMALL = {
    'gatys': {'width': 2, 'iterations': 1},
    'johnson': {'width': 2, 'blocks': 1, 'steps': 1, 'batch': 1, 'size': 32, 'style_size': 32},
    'metastyle': {'width': 2, 'blocks': 1, 'steps': 1, 'batch': 1, 'size': 32, 'style_size': 32},
    'adain': {'width': 2},
    'wct': {'width': 2, 'encoder': 'vgg16'},
    'meta-networks': {'hidden': 2, 'width': 2, 'blocks': 1, 'vgg_width': 2},
    'avatar-net': {'width': 2},
    'style-swap': {'width': 2},
}
COUNTS = {
    'gatys': None,
    'johnson': 1_679_235,
    'wct': 34_239_311,
    'adain': 7_010_947,
    'meta-networks': 219_316_259,
    'avatar-net': 147_217_067,
    'style-swap': 1_110_403,
    'metastyle': 1_679_235,
}


def test_an_unknown_system_is_refused():
    with pytest.raises(errors.UserError, match='adain'):
        systems.get('adaIN')


@pytest.mark.parametrize('name', COUNTS)
def test_the_parameters_are_counted_as_on_the_poster(name):
    assert systems.get(name).count == COUNTS[name]


@pytest.mark.parametrize('name', SMALL)
def test_every_system_stylizes_a_batch_with_a_style_of_another_size(name):
    system = systems.compiled(systems.get(name, **SMALL[name]))
    assert system.name == name
    rng = np.random.default_rng(0)
    contents = rng.uniform(size=(2, 24, 33, 3)).astype(np.float32)
    painting = rng.uniform(size=(19, 26, 3)).astype(np.float32)
    params = system.init(jax.random.key(0))
    pictures = systems.stylize(system, params, painting, contents)
    assert pictures.shape == contents.shape
    assert pictures.dtype == np.float32
    assert np.isfinite(pictures).all()
    assert 0 <= np.min(pictures) <= np.max(pictures) <= 1


def test_metastyle_adapts_with_all_that_theta_has_learned(monkeypatch):
    theta = theta_files.load_theta()
    starts = []

    def adapt(style, start, *, config):
        starts.append(start)
        return mock.Mock(params={})

    monkeypatch.setattr(metastyle.adapt, 'adapt', adapt)
    system = systems.get('metastyle')
    system.encode_style(metastyle.from_theta(theta), np.zeros((16, 16, 3), np.float32))
    (start,) = starts
    assert start.fingerprint == theta.fingerprint
    assert start.predictor is theta.predictor
    assert start.rates is theta.rates
    assert theta.rates


def test_without_strength_a_system_without_decoder_returns_the_content():
    system = systems.get('metastyle', **SMALL['metastyle'])
    params = system.init(jax.random.key(0))
    contents = np.random.default_rng(0).uniform(size=(1, 16, 16, 3)).astype(np.float32)
    pictures = system.apply(params, params['theta'], contents, 0.0)
    np.testing.assert_array_equal(pictures, contents)


@pytest.mark.parametrize('alpha', [-0.1, 1.1, float('nan'), 'half'])
def test_a_strength_outside_of_its_range_is_refused(alpha):
    system = systems.get('metastyle', **SMALL['metastyle'])
    with pytest.raises(errors.UserError, match='alpha='):
        systems.stylize(system, {}, np.zeros((16, 16, 3)), np.zeros((1, 16, 16, 3)), alpha=alpha)
