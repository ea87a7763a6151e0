"""Entries that contradict each other are refused."""

import pytest
from training_helpers import make_config

from metastyle_jax.core import errors


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'inner_optimizer': 'adam', 'inner_eps_root': 0.0}, 'config.inner.eps_root=0'),
        ({'inner_scale_batches': 3}, 'config.inner.scale_batches=3 is for learned rates'),
        ({'inner_learn_rates': True, 'inner_rate': 0.5}, 'config.inner.max_rate'),
        ({'inner_learn_rates': True, 'inner_steps': 0}, 'config.inner.steps=0 makes no inner'),
        ({'outer_norms_rate': 0.01}, 'config.outer.norms_rate=0.01'),
        (
            {'outer_norms_rate': 0.01, 'inner_steps': 0, 'inner_learn_rates': True},
            'config.inner.learn_rates=True',
        ),
        ({'outer_predictor_rate': 0.01, 'inner_steps': 0}, 'config.model.predictor=True'),
        ({'inner_order': 'reptile', 'inner_learn_rates': True}, 'cannot learn rates'),
        ({'outer_freeze_theta': True}, 'config.outer.predictor_rate says that anything else'),
        ({'inner_order': 'reptile', 'outer_each_step': True}, 'minimizes no outer loss'),
        ({'inner_order': 'reptile', 'outer_start_weight': 0.5}, 'config.outer.start_weight=0.0'),
        ({'inner_steps': 0, 'outer_start_weight': 0.5}, 'config.inner.steps=0 makes no inner'),
        ({'inner_order': 'reptile', 'inner_steps': 0}, "config.inner.order='reptile'"),
        ({'data_keep_grams': 1.0}, "set config.data.style_fit='squash'"),
    ],
)
def test_contradicting_entries_are_refused(changes, message):
    with pytest.raises(errors.UserError) as raised:
        make_config(**changes)
    assert message in str(raised.value)
