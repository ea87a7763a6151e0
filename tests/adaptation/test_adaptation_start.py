"""What an adaptation begins with."""

import numpy as np
from adaptation_helpers import make_theta

from metastyle_jax.adaptation import adaptation_start, adaptation_step


def test_the_learned_inner_loop_of_a_theta_can_be_left_out_or_made_longer():
    plain = make_theta(0)
    assert adaptation_start.learned_inner_loop(plain) is None
    rates = {'out/bias': np.float32(0.1)}
    with_rates = plain._replace(rates=rates, settings={'inner': {'steps': 3, 'unknown': 1}})
    assert adaptation_start.learned_inner_loop(with_rates).loop == adaptation_step.LearnedLoop(
        steps=3
    )
    assert adaptation_start.learned_inner_loop(with_rates, steps=0) is None
    assert adaptation_start.learned_inner_loop(with_rates, steps=7).loop.steps == 7
