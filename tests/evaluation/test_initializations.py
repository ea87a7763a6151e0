"""The initializations that an evaluation compares."""

import numpy as np
import pytest
from adaptation_helpers import make_theta

from metastyle_jax.core import errors
from metastyle_jax.evaluation import initializations


def test_a_theta_with_learned_rates_is_also_measured_without_them():
    plain = make_theta(0)
    learned = plain._replace(rates={'out/bias': np.float32(0.1)}, settings={'inner': {'steps': 2}})
    found = initializations.with_adam_alone({'plain': plain, 'learned': learned})
    assert list(found) == ['plain', 'learned', 'learned-adam']
    assert found['learned-adam'].rates is None
    with pytest.raises(errors.UserError, match='no θ has learned rates'):
        initializations.with_adam_alone({'plain': plain})
    with pytest.raises(errors.UserError, match="'a-adam' is taken"):
        initializations.with_adam_alone({'a': learned, 'a-adam': plain})
