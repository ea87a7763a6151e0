"""Cost of a compiled training step: compilations, operations and memory."""

import functools

import jax
import pytest
from training_helpers import make_batch, make_config

from metastyle_jax.core.devices import sharding
from metastyle_jax.models import vgg
from metastyle_jax.training import outer_step, training_state

SIZE = 32
# (T, inner parameters, inner steps in each iteration of the loop) -> GFLOP and MiB of temporary
# memory of one outer step, counted by XLA for jax 0.10.2 on CPU. XLA counts a loop's body once.
RECORDED = {
    (1, 'all', 2): (0.2613, 3.277),
    (1, 'norm', 2): (0.2126, 2.755),
    (3, 'all', 3): (0.6220, 7.302),
    (3, 'all', 1): (0.3172, 3.206),
}


@functools.cache
def compiled(steps, which, unroll, **options):
    """The compiled outer step for one style, the function, and its arguments."""
    config = make_config(
        model_width=8, inner_steps=steps, inner_params=which, inner_unroll=unroll,
        outer_styles=1, inner_remat=options.get('remat'), inner_mode=options.get('mode', 'mixed'),
    )  # fmt: skip
    network = sharding.replicate(vgg.random(jax.random.key(1), width=8), 1)
    state = sharding.replicate(training_state.create_state(config, jax.random.key(0)), 1)
    batch = make_batch(1, steps, SIZE)
    run = sharding.spread(
        functools.partial(outer_step.train_step, config=config), shared=2, devices=1
    )
    return run.lower(state, network, batch).compile(), run, (state, network, batch)


def cost(steps, which, unroll, **options):
    """GFLOP and MiB of temporary memory."""
    program, _, _ = compiled(steps, which, unroll, **options)
    flops = program.cost_analysis()['flops'] / 1e9
    return flops, program.memory_analysis().temp_size_in_bytes / 2**20


@pytest.mark.parametrize('which', RECORDED, ids=str)
def test_operations_and_memory_equal_the_recorded_ones(which):
    if not jax.__version__.startswith('0.10.'):
        pytest.skip('recorded for jax 0.10')
    assert cost(*which) == pytest.approx(RECORDED[which], rel=0.05)


def test_a_step_is_compiled_only_once():
    _, run, (state, network, batch) = compiled(1, 'all', 2)
    seen = []
    listen = lambda event, seconds, **_: seen.append(event) if 'compile' in event else None
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        for _ in range(3):
            state, _ = run(state, network, batch)
            jax.block_until_ready(state)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert sum(event.endswith('backend_compile_duration') for event in seen) <= 1
    assert int(state.step) == 3


def test_in_a_rolled_loop_memory_grows_little_with_inner_steps():
    one, many = (cost(steps, 'all', 1)[1] for steps in (1, 3))
    state = sum(leaf.nbytes for leaf in jax.tree.leaves(compiled(1, 'all', 1)[2][0].params))
    # Each additional step keeps its parameters w_t and its batch.
    assert many - one <= 2 * (2 * state / 2**20 + 0.1)


def test_sharing_the_forward_pass_saves_operations():
    recomputed = cost(3, 'all', 3, remat=True)[0]
    # From jax 0.12 on, XLA itself removes operations that unrolled steps repeat.
    share = 0.91 if jax.__version_info__ < (0, 12) else 1 + 1e-9
    assert cost(3, 'all', 3)[0] <= share * recomputed
    reverse = cost(3, 'all', 3, mode='reverse')[0]
    assert cost(3, 'all', 3)[0] == pytest.approx(reverse, rel=0.05)


def test_mixed_mode_equals_reverse_mode(disagreement):
    _, run, args = compiled(1, 'all', 2)
    _, reverse, _ = compiled(1, 'all', 2, mode='reverse')
    (found, _), (expected, _) = run(*args), reverse(*args)
    disagreement(found.opt_state[1][0].mu, expected.opt_state[1][0].mu, 1e-4)
