"""The mean of meta-gradients over tasks."""

import jax
import jax.numpy as jnp
import pytest
from jax.flatten_util import ravel_pytree
from meta_helpers import network_batches, network_loss, small_params, square

from metastyle_jax import meta


@pytest.mark.usefixtures('x64')
def test_mean_over_tasks_equals_the_mean_of_single_tasks(disagreement):
    theta = meta.Meta(small_params())
    tasks = [network_batches(2)] + [jax.tree.map(lambda x: -0.5 * x, network_batches(2))]
    gradient = lambda inner, outer: meta.meta_gradient(theta, inner, outer, inner_loss=network_loss)
    inner, outer = jax.tree.map(lambda *x: jnp.stack(x), *tasks)
    expected = jax.tree.map(lambda *x: sum(x) / 2, *[gradient(*task) for task in tasks])
    for unroll in (None, 1):
        result = meta.mean_over_tasks(gradient, inner, outer, unroll=unroll)
        disagreement(result, ravel_pytree(expected)[0], 1e-12)


def test_integers_and_booleans_of_aux_are_averaged_as_floats():
    gradient = lambda inner, outer: meta.meta_gradient(
        meta.Meta(jnp.ones(2)), inner, outer, inner_loss=square, has_aux=True,
        outer_loss=lambda w, b: (
            square(w, b), {'hit': b[0] > 0, 'count': jnp.int32(3), 'n': 2, 'yes': True}
        ),
    )  # fmt: skip
    outer = jnp.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
    result = meta.mean_over_tasks(gradient, jnp.ones((4, 1, 2)), outer)
    assert result.aux == {'hit': 0.75, 'count': 3.0, 'n': 2.0, 'yes': 1.0}


def test_tasks_are_unrolled_only_for_convolutions():
    def unrolled(loss):
        gradient = lambda inner, outer: meta.meta_gradient(
            meta.Meta(jnp.ones((3, 2, 2))), inner, outer, inner_loss=loss, unroll=1
        )
        run = lambda *batches: meta.mean_over_tasks(gradient, *batches).gradient.theta
        jaxpr = jax.make_jaxpr(run)(jnp.ones((3, 2, 1, 4, 2)), jnp.ones((3, 1, 4, 2)))
        (loop,) = (e for e in jaxpr.jaxpr.eqns if e.primitive.name == 'scan')
        return loop.params['unroll']

    convolve = lambda w, b: jax.lax.conv_general_dilated(
        b, w, (1,), 'SAME', dimension_numbers=('NHC', 'HIO', 'NHC')
    )
    assert unrolled(lambda w, b: jnp.sum(convolve(w, b) ** 2)) == 3
    assert unrolled(lambda w, b: jnp.sum(w**2) * jnp.sum(b)) == 1
