"""What an adaptation begins with."""

import numpy as np
import pytest
from adaptation_helpers import make_theta

from metastyle_jax.adaptation import adaptation_start, adaptation_step
from metastyle_jax.adaptation.config import AdaptConfig
from metastyle_jax.models import norm_predictor


def with_rates(steps=3):
    return make_theta(0)._replace(
        rates={'out/bias': np.float32(0.1)}, settings={'inner': {'steps': steps, 'unknown': 1}}
    )


def test_without_learned_rates_adam_takes_all_steps():
    assert adaptation_start.learned_rates(AdaptConfig(), make_theta(0)) is None
    config, _ = adaptation_start.resolve(AdaptConfig(), make_theta(0))
    assert config.inner_steps == 0


@pytest.mark.parametrize(
    ('settings', 'steps'),
    [({}, 3), ({'inner_steps': 7}, 7), ({'steps': 2}, 2), ({'steps': 2, 'begin': 'theta'}, 2)],
)
def test_steps_at_learned_rates_are_those_of_the_training_unless_a_number_is_given(settings, steps):
    config = AdaptConfig(**settings)
    found = adaptation_start.learned_rates(config, with_rates())
    assert found.loop == adaptation_step.LearnedLoop(steps=steps)
    assert adaptation_start.resolve(config, with_rates())[0].inner_steps == steps


@pytest.mark.parametrize(
    ('settings', 'predicts', 'steps'),
    [
        ({}, True, 10), ({}, False, 50), ({'begin': 'theta'}, True, 50), ({'steps': 7}, False, 7),
    ],
)  # fmt: skip
def test_fewer_steps_are_the_default_where_norms_are_predicted(settings, predicts, steps):
    theta = make_theta(0)
    if predicts:
        empty = norm_predictor.Predictor(np.zeros((1, 1)), np.zeros(1), {})
        theta = theta._replace(predictor=empty)
    assert adaptation_start.resolve(AdaptConfig(**settings), theta)[0].steps == steps


def test_there_are_no_steps_at_learned_rates_from_another_start_or_if_zero_is_given():
    assert adaptation_start.learned_rates(AdaptConfig(inner_steps=0), with_rates()) is None
    small = with_rates()._replace(settings={'inner': {'steps': 3}, 'data': {'size': 128}})
    assert adaptation_start.inner_steps(AdaptConfig(size=128), small) == 3
    assert adaptation_start.inner_steps(AdaptConfig(size=127), small) == 0
    predicting = with_rates()._replace(
        predictor=norm_predictor.Predictor(np.zeros((1, 1)), np.zeros(1), {})
    )
    config = AdaptConfig(begin='theta')
    assert adaptation_start.learned_rates(config, predicting) is None
    assert adaptation_start.inner_steps(config, predicting) == 0
