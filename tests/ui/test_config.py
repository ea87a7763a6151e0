"""Settings of the page."""

import pytest

from metastyle_jax.core.errors import UserError
from metastyle_jax.ui.config import PaintOptions, RenderOptions, UiConfig


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (UiConfig(port=65536), 'port=65536'),
        (UiConfig(max_upload=0), 'max_upload=0'),
        (UiConfig(max_pixels=201), 'max_pixels=201'),
        (UiConfig(linger=-1.0), 'linger=-1.0'),
        (PaintOptions(steps=-1), 'steps=-1'),
        (PaintOptions(style_size=2000), 'style_size=2000'),
        (RenderOptions(strength=1.5), 'strength=1.5'),
        (RenderOptions(max_size=10), 'max_size=10'),
    ],
)
def test_values_out_of_range_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        settings.validate()


def test_only_this_computer_is_served_by_default():
    config = UiConfig()
    config.validate()
    assert config.host == '127.0.0.1'
    assert PaintOptions().validate() is RenderOptions().validate() is None
