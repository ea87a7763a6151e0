"""Johnson's training of one network for one style."""

import jax
import pytest

from metastyle_jax.baselines import johnson
from metastyle_jax.core import errors


def test_johnson_starts_from_a_random_network_of_the_standard_size_and_adapts_all_of_it():
    params = johnson.initial(3).params
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 1_679_235
    other = johnson.initial(4)
    assert other.fingerprint != johnson.initial(3).fingerprint
    with pytest.raises(errors.UserError, match='leave params out'):
        johnson.train('painting.jpg', params='norm')
