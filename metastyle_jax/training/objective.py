"""What meta-training minimizes: the perceptual loss on a task, as the inner loop takes it.

A task is one style with contents for one or all inner steps.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp

from metastyle_jax.core.types import Array, Params
from metastyle_jax.data import batching
from metastyle_jax.models import perceptual_loss, transformer, vgg
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
    flat = vgg.content_features(vgg_params, contents.reshape(steps * count, *contents.shape[2:]))
    return Task(
        contents,
        perceptual_loss.Targets(
            flat.reshape(steps, count, *flat.shape[1:]),
            tuple(jnp.broadcast_to(gram[None], (steps, *gram.shape)) for gram in targets),
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
    return gram_cache.of_styles(vgg_params, batching.as_float(batch.style))


def loss(vgg_params: Params, config: TrainConfig) -> Callable[[Params, Task], perceptual_loss.Loss]:
    """The perceptual loss of a transformer's outputs.

    Args:
        vgg_params: weights of the loss network.
        config: for the weights of the losses, see `training.configuration`.

    Returns:
        `(params, task) -> perceptual_loss.Loss`.
    """

    def evaluate(params: Params, task: Task) -> perceptual_loss.Loss:
        return perceptual_loss.perceptual_loss(
            lambda images: vgg.features(vgg_params, images),
            transformer.apply(params, task.contents),
            task.targets,
            content_weight=config.loss.content_weight,
            style_weight=config.loss.style_weight,
        )

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
