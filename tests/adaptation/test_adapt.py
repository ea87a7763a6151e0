"""The style with which an adaptation starts, and the adaptation step by step."""

import instant_helpers
import numpy as np
import pytest
from stylization_helpers import THETA

from metastyle_jax.adaptation import adapt
from metastyle_jax.adaptation.config import AdaptConfig
from metastyle_jax.core.errors import UserError
from metastyle_jax.models import transformer, vgg
from metastyle_jax.storage import tensor_files


@pytest.mark.parametrize('params', ['all', 'norm'])
def test_the_start_without_a_predictor_is_theta(tmp_path, theta, monkeypatch, params):
    monkeypatch.setattr(vgg, 'load', lambda path: instant_helpers.VGG)
    painting = instant_helpers.write_painting(tmp_path / 'painting.png')
    style = adapt.predict(painting, theta, config=AdaptConfig(params=params, style_size=24))
    flat = tensor_files.flatten(THETA)
    assert {*style.params} == {*filter(transformer.adapted(params), flat)}
    for name, array in style.params.items():
        np.testing.assert_array_equal(array, flat[name])
    assert (style.settings['steps'], style.losses['total']) == (0, [])
    assert style.adapted == params


def test_a_picture_that_cannot_be_read_is_refused(tmp_path, theta):
    with pytest.raises(UserError, match='missing.jpg'):
        adapt.predict(tmp_path / 'missing.jpg', theta)


def test_steps_are_those_of_adapt_and_may_end_early(tmp_path, theta, small_vgg):
    painting = instant_helpers.write_painting(tmp_path / 'painting.png')
    settings = {'params': 'norm', 'size': 16, 'style_size': 16, 'rate': 1e-3}
    made = []
    for progress in adapt.adapt_steps(painting, theta, steps=2, **settings):
        made.append((progress.step, progress.steps, progress.loss, progress.style()))
    whole = adapt.adapt(painting, theta, steps=2, **settings)
    assert [one[:2] for one in made] == [(0, 2), (1, 2), (2, 2)]
    assert made[0][2] is None
    assert round(float(made[1][2].total), 5) == whole.losses['total'][0]
    for name, array in whole.params.items():
        np.testing.assert_array_equal(made[2][3].params[name], array)
    first = made[1][3].params  # the second step did not change it
    assert any(not np.array_equal(first[name], array) for name, array in whole.params.items())
    assert made[2][3].settings == whole.settings
    assert made[1][3].settings == {**whole.settings, 'steps': 1}
    assert len(made[1][3].losses['total']) == 1
    start = adapt.predict(painting, theta, config=adapt.AdaptConfig(**settings))
    for name, array in start.params.items():
        np.testing.assert_array_equal(made[0][3].params[name], array)


def test_steps_refuse_before_the_first_one(tmp_path, theta):
    with pytest.raises(UserError, match='missing.jpg'):
        next(adapt.adapt_steps(tmp_path / 'missing.jpg', theta))
