"""The outer loss after each step, and several outer losses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from meta_helpers import FULL_OPTIONS, full_by_hand, full_outer, full_problem, full_start

from metastyle_jax import meta

pytestmark = pytest.mark.usefixtures('x64')

WEIGHTS = [0.2, 0.5, 0.3]


@pytest.mark.parametrize(
    ('order', 'options'),
    [('exact', {}), ('exact', {'mode': 'mixed', 'remat': 'sqrt'}), ('first', {})],
)
def test_outer_losses_after_each_step_equal_those_of_a_python_loop(order, options, disagreement):
    problem, inner, outer = full_problem(3)
    expected, gradient = jax.jit(
        jax.value_and_grad(lambda p: full_by_hand(p, inner, outer, weights=WEIGHTS, order=order)[0])
    )(problem)
    run = lambda weights: jax.jit(
        lambda *task: meta.meta_gradient(
            *task,
            outer_weights=weights,
            outer_loss=full_outer,
            order=order,
            state=full_start(),
            **FULL_OPTIONS,
            **options,
        )
    )(problem, inner, outer)
    result = run(jnp.array(WEIGHTS))
    disagreement(result.gradient, gradient, 1e-12)
    disagreement(result.outer_loss, expected, 1e-12)
    np.testing.assert_allclose(result.outer_losses @ jnp.array(WEIGHTS), expected, rtol=1e-12)


@pytest.mark.parametrize('mode', meta.MODES)
def test_the_jacobian_has_the_gradient_of_each_outer_loss(mode, disagreement):
    problem, inner, outer = full_problem(3)
    several = lambda params, batch, meta, state: jnp.stack(
        [full_outer(params, batch, meta, state), jnp.sum(params['w'] ** 3)]
    )
    result = jax.jit(
        lambda *task: meta.meta_jacobian(
            *task, outer_loss=several, mode=mode, state=full_start(), **FULL_OPTIONS
        )
    )(problem, inner, outer)
    for k in range(2):
        one = lambda params, batch, meta, state, k=k: several(params, batch, meta, state)[k]
        alone = meta.meta_gradient(
            problem, inner, outer, outer_loss=one, mode=mode, state=full_start(), **FULL_OPTIONS
        )
        row = jax.tree.map(lambda leaf, k=k: leaf[k], result.gradient)
        disagreement(row, alone.gradient, 1e-12)
        np.testing.assert_allclose(result.outer_loss[k], alone.outer_loss, rtol=1e-12)
        np.testing.assert_allclose(result.second_order_norm[k], alone.second_order_norm, rtol=1e-9)
