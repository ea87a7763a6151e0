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
