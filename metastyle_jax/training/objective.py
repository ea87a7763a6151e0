"""What meta-training minimizes: the perceptual loss on a task, as the inner loop takes it.

A task is one style with contents for one or all inner steps.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp

from metastyle_jax.core.types import Array, Params
from metastyle_jax.data import batching
from metastyle_jax.models import gram, perceptual_loss, transformer
from metastyle_jax.training import gram_cache, optimizers
from metastyle_jax.training.configuration.schema import TrainConfig


class Task(NamedTuple):
    """A batch of one style: contents `[N, H, W, 3]` and what their losses compare with."""

    contents: Array
    targets: perceptual_loss.Targets


def tasks(vgg_params: Params, contents: Array, targets: tuple[Array, ...]) -> Task:
    """Targets of one style for any number of batches; nothing here is differentiated.

    Args:
        vgg_params: weights of the loss network.
        contents: `[T, N, H, W, 3]` in 0..1.
        targets: L arrays `[C, C]`, Gram matrices of the style.

    Returns:
        A `Task` whose leaves have a leading axis of T.
    """
    steps, count = contents.shape[:2]
    flat = contents.reshape(steps * count, *contents.shape[2:])
    features, grams = perceptual_loss.compute_targets(vgg_params, flat, targets)
    return Task(
        contents,
        perceptual_loss.Targets(
            features.reshape(steps, count, *features.shape[1:]),
            tuple(jnp.broadcast_to(layer[None], (steps, *layer.shape)) for layer in grams),
        ),
    )


def style_grams(
    vgg_params: Params, batch: batching.MetaBatch | gram_cache.Batch
) -> tuple[Array, ...]:
    """Gram matrices of the styles of a batch, computed unless the batch holds them.

    Args:
        vgg_params: weights of the loss network.
        batch: of S styles.

    Returns:
        L arrays `[S, C, C]`.
    """
    if isinstance(batch, gram_cache.Batch):
        return tuple(map(jnp.asarray, batch.grams))
    return gram.of_images(vgg_params, batching.as_float(batch.style))


def loss(vgg_params: Params, config: TrainConfig) -> Callable[[Params, Task], perceptual_loss.Loss]:
    """The perceptual loss of a transformer's outputs.

    Args:
        vgg_params: weights of the loss network.
        config: for the weights of the losses, see `training.configuration`.

    Returns:
        `(params, task) -> perceptual_loss.Loss`.
    """
    weights = perceptual_loss.LossWeights(config.loss.content_weight, config.loss.style_weight)

    def evaluate(params: Params, task: Task) -> perceptual_loss.Loss:
        return perceptual_loss.of_network(params, vgg_params, task.contents, task.targets, weights)

    return evaluate


def inner_loss(
    evaluate: Callable[[Params, Task], perceptual_loss.Loss], config: TrainConfig
) -> Callable[[Params, Task], Array]:
    """What the inner loop minimizes: the total loss, or its logarithm.

    Args:
        evaluate: of `loss`.
        config: see `training.configuration`.

    Returns:
        `(params, task) -> scalar`.
    """

    def value(params: Params, task: Task) -> Array:
        total = evaluate(params, task).total
        return jnp.log(total) if config.inner.log_loss else total

    return value


def inner_options(config: TrainConfig, step: Array) -> dict[str, Any]:
    """Keyword arguments of `meta.inner_loop` for a configuration at an outer step."""
    return {
        'optimizer': optimizers.inner_optimizer(config, step),
        'adapted': transformer.adapted(config.inner.params),
        'order': config.inner.order,
        'mode': config.inner.mode,
        'remat': config.inner.remat,
        'unroll': config.inner.unroll or None,
    }
