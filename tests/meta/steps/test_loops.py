"""What the loop stores, and how far it is unrolled."""

import jax
import jax.numpy as jnp
import optax
import pytest
from meta_helpers import square

from metastyle_jax import meta
from metastyle_jax.meta.steps import loops


def compiled_memory(**options):
    """Temporary bytes of a compiled meta-gradient with 64 steps of Adam on 1,000 parameters."""
    run = lambda theta: (
        meta.meta_gradient(
            meta.Meta(theta), jnp.ones(1000), jnp.ones(1000), unroll=1, steps=64,
            inner_loss=lambda w, b: square(jnp.sin(w), b), optimizer=optax.adam(0.1, eps_root=1e-8),
            **options,
        ).gradient.theta
    )  # fmt: skip
    return jax.jit(run).lower(jnp.zeros(1000)).compile().memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize('mode', meta.MODES)
def test_segments_need_less_memory_than_steps_and_steps_less_than_nothing(mode):
    plain, steps, segments = (
        compiled_memory(mode=mode, remat=remat) for remat in (False, True, 'sqrt')
    )
    assert segments < 0.5 * steps
    assert steps <= plain


def test_a_policy_of_a_layer_passes_through_mixed_mode():
    layer = jax.checkpoint(jnp.sin, policy=jax.checkpoint_policies.nothing_saveable)
    run = lambda layer: meta.meta_gradient(
        meta.Meta(jnp.ones(2)), jnp.zeros(2), jnp.zeros(2), steps=2, mode='mixed',
        inner_loss=lambda w, b: square(layer(w), b), optimizer=optax.sgd(0.1),
    ).gradient.theta  # fmt: skip
    assert jnp.allclose(run(layer), run(jnp.sin), rtol=1e-6)


def dense(width):
    return jax.make_jaxpr(lambda w, x: jnp.sum(jnp.tanh(x @ w)))(
        jnp.zeros((width, width)), jnp.zeros((4, width))
    )


def test_only_convolutions_and_very_small_steps_are_unrolled():
    image, kernel = jnp.zeros((1, 8, 8, 64)), jnp.zeros((3, 3, 64, 64))
    convolution = jax.make_jaxpr(
        lambda k: jnp.sum(jax.lax.conv_general_dilated(
            image, k, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
        ))
    )(kernel)  # fmt: skip
    inside = jax.make_jaxpr(
        jax.jit(lambda k: jax.core.eval_jaxpr(convolution.jaxpr, convolution.consts, k))
    )(kernel)
    assert loops.unroll_of(convolution, 20, kernel) == loops.unroll_of(inside, 20, kernel) == 8
    assert loops.unroll_of(dense(256), 20, jnp.zeros((256, 256))) == 1
    assert loops.unroll_of(dense(256), 1, jnp.zeros((256, 256))) == 2  # no loop remains
    assert loops.unroll_of(dense(8), 20, jnp.zeros((8, 8))) == 8


def test_a_loss_is_bound_by_activations_if_they_outweigh_its_parameters():
    assert not loops.is_bound_by_activations(dense(256), jnp.zeros((256, 256)))
    assert loops.is_bound_by_activations(dense(4), jnp.zeros((4, 4)))
