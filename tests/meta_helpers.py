"""Losses, parameters and reference results for the tests of `meta`."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metastyle_jax import meta

every_mode = pytest.mark.parametrize('mode', meta.MODES)


RATE = 0.07


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def small_params():
    return {
        'layer': {'conv': {'kernel': normal(0, 3, 4)}, 'norm': {'scale': 1 + normal(1, 4)}},
        'out': {'conv': {'kernel': normal(2, 4, 2)}, 'norm': {'bias': normal(3, 2)}},
    }


def network_loss(params, batch):
    """A smooth two-layer network in which every parameter matters."""
    x, y = batch
    h = jnp.tanh(x @ params['layer']['conv']['kernel']) * params['layer']['norm']['scale'][None]
    out = jnp.tanh(h @ params['out']['conv']['kernel']) + params['out']['norm']['bias'][None]
    return jnp.mean(jnp.square(out - y))


def network_batches(steps):
    inner = (normal(8, steps, 6, 3), normal(9, steps, 6, 2))
    return inner, (normal(10, 6, 3), normal(11, 6, 2))


def looped_sgd(theta, inner, y):
    """SGD as a plain Python loop; returns the last parameters and the sum of the inner losses."""
    losses_before = []
    for t in range(len(y)):
        batch = (inner[0][t], y[t])
        value, grads = jax.value_and_grad(network_loss)(theta, batch)
        losses_before.append(value)
        theta = jax.tree.map(lambda w, g: w - RATE * g, theta, grads)
    return theta, sum(losses_before)


def square(w, b):
    return 0.5 * jnp.sum(jnp.square(w - b))


def by_hand(theta, inner, outer, *, loss, optimizer, outer_loss=None):
    """The meta-gradient in θ, as `jax.grad` of a plain Python loop."""

    def objective(w):
        state = optimizer.init(w)
        for i in range(len(inner)):
            updates, state = optimizer.update(jax.grad(loss)(w, inner[i]), state, w)
            w = optax.apply_updates(w, updates)
        return (outer_loss or loss)(w, outer)

    return jax.grad(objective)(theta)


@jax.tree_util.register_pytree_with_keys_class
class Module:
    """A module as those of Equinox: its activation and its integers are leaves of the pytree."""

    def __init__(self, kernel, activation=jnp.tanh, width=3, rate=0.5):
        self.fields = (kernel, activation, width, rate)

    def __call__(self, x):
        kernel, activation, width, rate = self.fields
        return activation(kernel * x) * width * rate

    def tree_flatten_with_keys(self):
        names = ('kernel', 'activation', 'width', 'rate')
        key = jax.tree_util.GetAttrKey
        return [(key(n), x) for n, x in zip(names, self.fields, strict=True)], None

    @classmethod
    def tree_unflatten(cls, _, fields):
        return cls(*fields)


# A problem with every part that an inner loop may have. -------------------------------------------


def full_problem(steps):
    """Meta-parameters, inner batches and an outer batch for `full_loss` and `full_optimizer`."""
    theta = {'w': jnp.asarray(normal(0, 2, 2)), 'b': jnp.asarray(normal(1, 2))}
    rates = {'w': jnp.asarray(0.5 + 0.1 * normal(2, steps, 1, 2)), 'b': jnp.asarray(0.9)}
    hyper = {'rate': jnp.asarray(0.2), 'anchor': jnp.asarray(0.3), 'scale': jnp.asarray(1.1)}
    return meta.Meta(theta, rates, hyper), jnp.asarray(normal(3, steps, 2)), jnp.asarray([0.3, -1])


def full_loss(params, batch, meta, state, step):
    """Uses θ, `hyper`, a running mean and the number of the step, and returns auxiliary data."""
    hidden = jnp.tanh(params['w'] @ batch * meta.hyper['scale'] + params['b'] + 0.1 * state['mean'])
    distance = sum(jnp.sum(jnp.square(params[n] - meta.theta[n])) for n in params)
    value = jnp.sum(jnp.square(hidden - 0.5)) + meta.hyper['anchor'] * distance * (1.0 + step)
    after = {'mean': 0.8 * state['mean'] + 0.2 * hidden, 'seen': state['seen'] + 1}
    return value, after, {'hidden': hidden}


def full_optimizer(meta):
    return optax.sgd(meta.hyper['rate'], momentum=0.9)


# The options of `meta_gradient` for the full problem, except for the outer loss and the state.
FULL_OPTIONS = {'inner_loss': full_loss, 'inner_has_aux': True, 'optimizer': full_optimizer}


def full_outer(params, batch, meta, state):
    value = jnp.sum(jnp.square(params['w'] @ batch + params['b'] - state['mean']))
    return value + 0.1 * jnp.sum(jnp.square(meta.theta['b'] - params['b']))


def full_start():
    return {'mean': jnp.zeros(2), 'seen': jnp.zeros((), jnp.int32)}


def full_by_hand(problem, inner, outer, *, weights=None, order='exact', start=None):
    """The outer loss of the full problem, as a plain Python loop."""
    params, state, losses = dict(problem.theta), full_start(), []
    trace = jax.tree.map(jnp.zeros_like, params)
    if start is not None:
        params, trace, state, first = start
    values, auxiliary = [], []
    for t in range(len(inner)):
        step = t + (0 if start is None else first)
        loss = lambda p: (lambda r: (r[0], r[1:]))(full_loss(p, inner[t], problem, state, step))  # noqa: B023
        (value, (state, aux)), grads = jax.value_and_grad(loss, has_aux=True)(params)
        if order == 'first':
            grads = jax.lax.stop_gradient(grads)
        trace = {n: grads[n] + 0.9 * trace[n] for n in params}
        rate = {'w': problem.rates['w'][t] * jnp.ones((2, 2)), 'b': problem.rates['b']}
        params = {n: params[n] - rate[n] * problem.hyper['rate'] * trace[n] for n in params}
        losses.append(value)
        auxiliary.append(aux['hidden'])
        values.append(full_outer(params, outer, problem, state))
    result = (
        values[-1] if weights is None else sum(w * v for w, v in zip(weights, values, strict=True))
    )
    return result, (jnp.stack(losses), jnp.stack(auxiliary), (params, trace, state))
