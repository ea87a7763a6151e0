"""Names of leaves, and which of them the inner loop adapts."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from meta_helpers import Module, every_mode, square

from metastyle_jax import meta
from metastyle_jax.core.errors import UserError
from metastyle_jax.meta.steps import selection

THETA = {'a': [1.0, 2.0], 'c': 3.0}


class Network(nnx.Module):
    def __init__(self):
        self.dense = nnx.Linear(2, 2, rngs=nnx.Rngs(0))
        self.norm = nnx.BatchNorm(2, rngs=nnx.Rngs(0))
        self.drop = nnx.Dropout(0.5, rngs=nnx.Rngs(0))


@pytest.mark.parametrize(
    ('adapted', 'expected'),
    [
        (lambda name: name.startswith('a/'), ['a/0', 'a/1']),
        ({'a': [False, True], 'c': True}, ['a/1', 'c']),
        ({'a': True, 'c': False}, ['a/0', 'a/1']),
        ({'a': np.bool_(False), 'c': jnp.bool_(True)}, ['c']),
        (True, ['a/0', 'a/1', 'c']),
        (..., ['a/0', 'a/1', 'c']),
        (list, ['a/0', 'a/1']),
        (lambda path, value: path[-1] == 1 or value == 3, ['a/1', 'c']),
    ],
)
def test_tensors_are_chosen_by_names_masks_types_and_paths(adapted, expected):
    parts = selection.divide(THETA, adapted)
    assert list(parts.fast) == expected
    assert parts.combine(parts.fast, parts.slow) == THETA


@pytest.mark.parametrize(
    ('adapted', 'expected'),
    [
        (nnx.Param, ['dense/bias', 'dense/kernel', 'norm/bias', 'norm/scale']),
        (nnx.PathContains('kernel'), ['dense/kernel']),
        (nnx.All(nnx.Param, nnx.Not(nnx.PathContains('dense'))), ['norm/bias', 'norm/scale']),
        (nnx.filterlib.to_predicate((nnx.BatchStat,)), ['norm/mean', 'norm/var']),
        (nnx.BatchNorm, ['norm/bias', 'norm/mean', 'norm/scale', 'norm/var']),
    ],
)
def test_filters_of_flax_choose_variables_of_modules(adapted, expected):
    assert list(selection.divide(Network(), adapted).fast) == expected


def test_filters_of_equinox_choose_by_the_leaf():
    is_large = lambda leaf: leaf > 1.5
    is_large.__module__ = 'equinox._filters'
    assert list(selection.divide(THETA, is_large).fast) == ['a/1', 'c']


def test_keys_that_hold_a_slash_do_not_collide():
    tree = {'a/b': 1.0, 'a': {'b': 2.0}, 'c/d': 3.0}
    names = selection.names(tree)
    assert names == ["['a']['b']", "['a/b']", 'c/d']
    result = meta.inner_loop(
        meta.Meta(tree), jnp.zeros((1,)), loss=lambda p, b: 0.5 * p['a']['b'] ** 2,
        optimizer=optax.sgd(1.0), adapted=lambda name: name == names[0],
    )  # fmt: skip
    assert result.params == {'a/b': 1.0, 'a': {'b': 0.0}, 'c/d': 3.0}


def test_masks_and_filters_that_do_not_fit_are_refused():
    with pytest.raises(UserError, match='booleans of adapted do not fit theta'):
        selection.divide(THETA, {'a': True})
    with pytest.raises(UserError, match='none of a/0, a/1, c is chosen'):
        selection.divide(THETA, False)
    with pytest.raises(UserError, match='a pytree of booleans like theta, or a filter'):
        selection.divide(THETA, 'a')


@pytest.mark.usefixtures('x64')
@every_mode
def test_a_module_as_theta_keeps_its_settings(mode, disagreement):
    theta, batch = Module(jnp.array([0.5, -1.0])), jnp.array([1.0, 2.0])
    anchor = lambda module, batch, meta: (
        jnp.sum((module(batch) - 1) ** 2) + square(module.fields[0], meta.theta.fields[0])
    )
    outer = lambda module, batch: jnp.sum(module(batch) ** 2)

    def by_hand(kernel):
        inner = lambda k: anchor(Module(k), batch, meta.Meta(Module(kernel)))
        moved = kernel
        for _ in range(2):
            moved = moved - 0.1 * jax.grad(inner)(moved)
        return outer(Module(moved), batch)

    options = {'inner_loss': anchor, 'outer_loss': outer, 'steps': 2, 'mode': mode}
    result = meta.meta_gradient(
        meta.Meta(theta), batch, batch, optimizer=optax.sgd(0.1), carry=None, state=0, **options
    )
    assert result.gradient.theta.fields[1:] == (None, None, None)
    assert result.carry.params.fields[1:] == theta.fields[1:]
    disagreement(result.gradient.theta.fields[0], jax.grad(by_hand)(theta.fields[0]), 1e-12)
    learned = meta.Meta(theta.fields[0], hyper=theta)  # a learned loss may be a module, too
    taught = lambda w, b, meta: jnp.sum(meta.hyper(w) ** 2)
    found = meta.meta_gradient(learned, batch, batch, **{
        **options, 'inner_loss': taught, 'outer_loss': square, 'optimizer': optax.sgd(0.1)
    }).gradient.hyper  # fmt: skip
    assert found.fields[1:] == (None, None, None)

    def taught_by_hand(kernel):
        w = learned.theta
        for _ in range(2):
            w = w - 0.1 * jax.grad(taught)(w, batch, learned._replace(hyper=Module(kernel)))
        return square(w, batch)

    disagreement(found.fields[0], jax.grad(taught_by_hand)(theta.fields[0]), 1e-12)


def test_a_module_of_flax_as_theta_has_the_gradient_of_its_pure_parameters():
    network, x = nnx.Linear(2, 2, rngs=nnx.Rngs(0)), jnp.ones((3, 2))
    options = {'optimizer': optax.sgd(0.1), 'steps': 2}
    result = meta.meta_gradient(
        meta.Meta(network), x, x, inner_loss=lambda m, b: jnp.mean((m(b) - b) ** 2),
        adapted=nnx.PathContains('kernel'), **options,
    )  # fmt: skip
    graph, params = nnx.split(network)
    pure = meta.meta_gradient(
        meta.Meta(nnx.to_pure_dict(params)), x, x,
        inner_loss=lambda p, b: jnp.mean((b @ p['kernel'] + p['bias'][None] - b) ** 2),
        adapted=lambda name: name == 'kernel', **options,
    )  # fmt: skip
    del graph
    for name in ('kernel', 'bias'):
        np.testing.assert_allclose(
            getattr(result.gradient.theta, name)[...], pure.gradient.theta[name], rtol=1e-5
        )


@pytest.mark.usefixtures('x64')
@every_mode
def test_batch_statistics_of_flax_are_a_state(mode, disagreement):
    network = nnx.BatchNorm(2, rngs=nnx.Rngs(0), param_dtype=jnp.float64)
    graph, params, statistics = nnx.split(network, nnx.Param, ...)
    statistics = jax.tree.map(lambda x: x.astype(float), statistics)
    batches = jnp.asarray(np.random.default_rng(0).normal(size=(4, 5, 2)))

    def loss(params, batch, state):
        module = nnx.merge(graph, params, state, copy=True)
        value = jnp.mean((module(batch) - batch**2) ** 2)
        return value + square(module.mean[...], 1.0), nnx.state(module, nnx.Not(nnx.Param))

    def by_hand(params):
        state = statistics
        for batch in batches[:3]:
            (_, state), grads = jax.value_and_grad(loss, has_aux=True)(params, batch, state)
            params = jax.tree.map(lambda w, g: w - 0.1 * g, params, grads)
        return loss(params, batches[3], state)[0]

    result = meta.meta_gradient(
        meta.Meta(params), batches[:3], batches[3], inner_loss=loss, state=statistics, mode=mode,
        optimizer=optax.sgd(0.1),
    )  # fmt: skip
    disagreement(result.gradient.theta, jax.grad(by_hand)(params), 1e-12)
