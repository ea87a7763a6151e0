"""Settings of instant styles."""

import numpy as np
import pytest

from metastyle_jax.core.errors import UserError
from metastyle_jax.instant.config import InstantConfig


def test_steps_are_none_or_a_whole_number():
    for steps in (None, 0, 7, np.int64(3)):
        InstantConfig(steps=steps).validate()
    for steps in (-1, 0.5, '3', True):
        with pytest.raises(UserError, match=r'^steps='):
            InstantConfig(steps=steps).validate()
