"""Feature matching without training."""

import numpy as np
import pytest

from metastyle_jax.baselines import feature_matching
from metastyle_jax.core import errors


def test_feature_matching_keeps_the_content_and_takes_the_colour_of_the_painting():
    engine = feature_matching.load()
    ramp = np.linspace(0, 255, 64, dtype=np.uint8)
    content = np.broadcast_to(ramp[None, :, None], (1, 64, 64, 3))  # dark to bright
    painting = np.zeros((40, 50, 3), np.float32)
    painting[..., 0] = 1
    (red,) = feature_matching.stylize(engine, content, painting, size=32)
    assert red.shape == (32, 32, 3)
    assert 0 <= red.min() <= red.max() <= 1
    assert red[..., 0].mean() > red[..., 1:].mean() + 0.1
    (own,) = feature_matching.stylize(engine, content, content[0] / np.float32(255), size=32)
    assert own[:, -8:].mean() > own[:, :8].mean() + 0.1


def test_a_missing_package_is_named_with_the_extra_that_installs_it(monkeypatch):
    monkeypatch.setattr(feature_matching.importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(errors.UserError, match=r"pip install 'metastyle_jax\[evaluate\]'"):
        feature_matching.load()
