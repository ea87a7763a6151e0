"""The style with which an adaptation starts."""

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
