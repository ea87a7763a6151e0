"""Adam of an adaptation: its momentum and its rate."""

import jax.numpy as jnp
import pytest

from metastyle_jax.adaptation import warmup_and_decay
from metastyle_jax.core import errors


def test_momentum_grows_and_the_rate_rises_and_then_falls():
    found = [float(warmup_and_decay.momentum(jnp.asarray(step))) for step in (0, 2, 26, 1000)]
    assert found == pytest.approx([0.25, 0.5, 0.9, 0.9])
    found = [float(warmup_and_decay.warm_and_fall(jnp.asarray(step))) for step in (0, 2, 50)]
    assert found == pytest.approx([1 / 3, 1 / 1.04, 0.5])
    gradient = {'x': jnp.ones(())}
    optimizer = warmup_and_decay.adam(0.1, 'falling')
    state, moved = optimizer.init(gradient), []
    for _ in range(3):  # of a constant gradient Adam makes steps of its rate
        update, state = optimizer.update(gradient, state)
        moved.append(float(update['x']))
    expected = [
        -0.1 * float(warmup_and_decay.warm_and_fall(jnp.asarray(step))) for step in range(3)
    ]
    assert moved == pytest.approx(expected, rel=0.2)
    with pytest.raises(errors.UserError, match="'rising'"):
        warmup_and_decay.adam(0.1, 'rising')
