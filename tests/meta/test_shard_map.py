"""Meta-gradients inside `jax.shard_map`: one task on each device, or one task on all."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P
from meta_helpers import by_hand, every_mode

from metastyle_jax import meta


@pytest.mark.usefixtures('x64')
@every_mode
@pytest.mark.parametrize('optimizer', [optax.sgd(0.5), optax.adam(0.1, eps_root=1e-8)])
def test_tasks_on_different_devices_do_not_mix(mode, optimizer):
    mesh = jax.make_mesh((4,), ('tasks',), axis_types=(AxisType.Auto,))
    rng = np.random.default_rng(0)
    theta, inner, outer = rng.normal(size=3), rng.normal(size=(4, 2, 3)), rng.normal(size=(4, 3))
    loss = lambda w, b: jnp.sum(jnp.square(jnp.sin(w) - b))
    tasks = zip(inner, outer, strict=True)
    alone = [by_hand(theta, *task, loss=loss, optimizer=optimizer) for task in tasks]

    def one(theta, inner, outer):
        result = meta.meta_gradient(
            meta.Meta(theta), inner[0], outer[0], inner_loss=loss, optimizer=optimizer, mode=mode
        )
        return result.gradient.theta[None], jax.lax.pmean(result.gradient.theta, 'tasks')

    tasks = P('tasks')
    spread = jax.shard_map(one, mesh=mesh, in_specs=(P(), tasks, tasks), out_specs=(tasks, P()))
    each, mean = jax.jit(spread)(theta, inner, outer)
    np.testing.assert_allclose(each, alone, rtol=1e-10)
    np.testing.assert_allclose(mean, np.mean(alone, axis=0), rtol=1e-10)

    def outside(theta):
        def one(theta, inner, outer):
            result = meta.inner_loop(
                meta.Meta(theta), inner[0], loss=loss, optimizer=optimizer, mode=mode
            )
            return jax.lax.pmean(loss(result.params, outer[0]), 'tasks')

        spread = jax.shard_map(one, mesh=mesh, in_specs=(P(), tasks, tasks), out_specs=P())
        return spread(theta, inner, outer)

    np.testing.assert_allclose(jax.jit(jax.grad(outside))(theta), mean, rtol=1e-10)

    def several(theta, inner, outer):
        gradient = lambda inner, outer: meta.meta_gradient(
            meta.Meta(theta), inner, outer, inner_loss=loss, optimizer=optimizer, mode=mode
        )
        return jax.lax.pmean(meta.mean_over_tasks(gradient, inner, outer).gradient.theta, 'tasks')

    two = jax.make_mesh((2,), ('tasks',), axis_types=(AxisType.Auto,))
    spread = jax.shard_map(several, mesh=two, in_specs=(P(), tasks, tasks), out_specs=P())
    np.testing.assert_allclose(jax.jit(spread)(theta, inner, outer), mean, rtol=1e-10)


@pytest.mark.usefixtures('x64')
@every_mode
@pytest.mark.parametrize('differing', ['rates', 'part of theta', 'closure', 'optimizer', 'all'])
def test_devices_do_not_mix_whichever_input_differs_between_them(mode, differing):
    mesh = jax.make_mesh((2,), ('d',), axis_types=(AxisType.Auto,))
    rng = np.random.default_rng(0)
    one, two = rng.normal(size=2), rng.normal(size=(2, 2))
    inner, outer, number = rng.normal(size=(3, 2)), rng.normal(size=2), np.array([0.1, 0.3])

    def gradient(one, two, inner, outer, number):
        optimizer = optax.chain(
            optax.trace(0.5), optax.scale(-number if differing in ('optimizer', 'all') else -0.1)
        )
        rates = {'one': number, 'two': number} if differing in ('rates', 'all') else None
        weight = number if differing in ('closure', 'all') else 1.0
        loss = lambda p, b: weight * jnp.sum(jnp.square(jnp.sin(p['one']) + p['two'] - b))
        arguments = meta.Meta({'one': one, 'two': two}, rates), inner
        options = {'optimizer': optimizer, 'mode': mode}
        result = meta.meta_gradient(*arguments, outer, inner_loss=loss, **options)
        last = meta.inner_loop(*arguments, loss=loss, **options).params
        return result.gradient.theta, last

    theirs = differing in ('part of theta', 'all')
    two = two if theirs else two[0]
    alone = [gradient(one, two[i] if theirs else two, inner, outer, number[i]) for i in range(2)]

    def each(one, two, inner, outer, number):
        result = gradient(one, two[0] if theirs else two, inner, outer, number[0])
        return jax.tree.map(lambda x: x[None], result)

    specs = (P(), P('d') if theirs else P(), P(), P(), P('d'))
    spread = jax.shard_map(each, mesh=mesh, in_specs=specs, out_specs=P('d'))
    result = jax.jit(spread)(one, two, inner, outer, number)
    for i in range(2):
        jax.tree.map(
            lambda x, y, i=i: np.testing.assert_allclose(x[i], y, rtol=1e-10), result, alone[i]
        )


@pytest.mark.usefixtures('x64')
@every_mode
def test_one_task_may_be_divided_over_devices(mode):
    mesh = jax.make_mesh((4,), ('data',), axis_types=(AxisType.Auto,))
    rng = np.random.default_rng(0)
    theta, inner, outer = rng.normal(size=3), rng.normal(size=(2, 4, 3)), rng.normal(size=(4, 3))
    loss = lambda w, b: jnp.mean(jnp.sum(jnp.square(jnp.sin(w)[None] - b), axis=1))
    shared = lambda w, b: jax.lax.pmean(loss(w, b), 'data')
    expected = by_hand(theta, inner, outer, loss=loss, optimizer=optax.sgd(0.5))
    spread = jax.shard_map(
        lambda *task: meta.meta_gradient(
            meta.Meta(task[0]), *task[1:], inner_loss=shared, optimizer=optax.sgd(0.5), mode=mode
        ).gradient.theta,
        mesh=mesh, in_specs=(P(), P(None, 'data'), P('data')), out_specs=P(),
    )  # fmt: skip
    np.testing.assert_allclose(jax.jit(spread)(theta, inner, outer), expected, rtol=1e-10)
