"""Computes the starting values of learned inner rates from the sizes of the inner gradients.

Gradients of different elements differ by orders of magnitude. If all rates start at the same value,
many elements hardly change in a few steps, and the meta-gradient of their rates is too small to
learn from. Here each rate starts inversely proportional to the size of its gradient:

    r = rate / (rms + 0.1 · median(rms))

where rms is the root mean square of the gradient of the inner loss, over some styles and contents,
and the median is over all elements.
"""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metastyle_jax.core import trees
from metastyle_jax.core.types import Array, Params
from metastyle_jax.data import batching
from metastyle_jax.models import transformer
from metastyle_jax.training import objective, training_state
from metastyle_jax.training.configuration.schema import TrainConfig

_DAMPING = 0.1  # of the median, so that elements with tiny gradients get no huge rates


def scaled_log_rates(
    state: training_state.TrainingState,
    vgg_params: Params,
    batches: Iterator[batching.MetaBatch],
    *,
    config: TrainConfig,
) -> dict[str, Array]:
    """Computes the logarithms of these rates from gradients at the starts of inner loops.

    Args:
        state: training state before the first step; its `log_rates` give names and shapes.
        vgg_params: weights of the loss network.
        batches: batches, of which the first `inner.scale_batches` are used.
        config: the configuration.

    Returns:
        Name of an adapted tensor -> logarithms of its rates, at most log `inner.max_rate`. If all
        elements of a tensor share a rate, rms is taken over all of them.
    """
    assert state.log_rates is not None
    mean_squares = jax.jit(lambda *args: _mean_squares(*args, config=config))
    count = config.inner.scale_batches
    totals = [mean_squares(state, vgg_params, next(batches)) for _ in range(count)]
    squares: dict[str, Any] = jax.tree.map(lambda *leaves: np.mean(leaves, axis=0), *totals)
    everything = np.concatenate([np.ravel(square) for square in squares.values()])
    damping = _DAMPING * np.median(np.sqrt(everything))
    found = {}
    for name, rates in state.log_rates.items():
        square = squares[name]
        if config.inner.rates_per in ('tensor', 'step'):  # the elements of a tensor share a rate
            square = np.mean(square)
        fitting = config.inner.rate / np.maximum(np.sqrt(square) + damping, 1e-30)
        log_rates = np.log(np.minimum(fitting, config.inner.max_rate))
        found[name] = jnp.broadcast_to(jnp.asarray(log_rates, rates.dtype), rates.shape)
    return found


def _mean_squares(
    state: training_state.TrainingState,
    vgg_params: Params,
    batch: batching.MetaBatch,
    *,
    config: TrainConfig,
) -> dict[str, Array]:
    """Averages the squared inner gradients over the styles and contents of a batch, by name."""
    loss = objective.inner_loss(objective.loss(vgg_params, config), config)
    grams = objective.style_grams(vgg_params, batch)

    def of_style(contents: Array, grams: tuple[Array, ...]) -> dict[str, Array]:
        start = training_state.style_start(state, grams).theta
        fast, slow = trees.partition(start, transformer.adapted(config.inner.params))
        tasks = objective.make_tasks(vgg_params, contents, grams)
        squares = [
            jax.tree.map(
                jnp.square,
                jax.grad(lambda fast, task: loss(trees.combine(start, fast, slow), task))(
                    fast, jax.tree.map(lambda leaf, step=step: leaf[step], tasks)
                ),
            )
            for step in range(config.inner.steps)
        ]
        return jax.tree.map(lambda *leaves: sum(leaves) / len(leaves), *squares)

    styles = [
        of_style(contents, tuple(layer[i] for layer in grams))
        for i, contents in enumerate(batching.as_float(jnp.asarray(batch.inner)))
    ]
    return jax.tree.map(lambda *leaves: sum(leaves) / len(leaves), *styles)
