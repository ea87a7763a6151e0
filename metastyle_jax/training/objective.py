"""The objective of meta-training: the perceptual loss of a transformer on tasks.

A task is one style with content images, for one inner step or for the outer loss.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp

from metastyle_jax.core.types import Array, Params
from metastyle_jax.data import batching
from metastyle_jax.models import gram, perceptual_loss, transformer
from metastyle_jax.training import gram_cache, optimizers
from metastyle_jax.training.configuration.schema import TrainConfig


class StyleTask(NamedTuple):
    """Content images of one style.

    Attributes:
        contents: `[N, H, W, 3]` in 0..1.
        targets: targets of the perceptual loss for these contents and the style.
    """

    contents: Array
    targets: perceptual_loss.Targets


def make_tasks(vgg_params: Params, contents: Array, grams: tuple[Array, ...]) -> StyleTask:
    """Builds the tasks of one style; they are constants for all derivatives.

    Args:
        vgg_params: weights of the loss network.
        contents: `[T, N, H, W, 3]` in 0..1, a content batch for each task.
        grams: L arrays `[C, C]`, Gram matrices of the style; empty for `with_grams`.

    Returns:
        T tasks in one `StyleTask`, whose arrays have a leading axis of size T.
    """
    steps, count = contents.shape[:2]
    # One pass through the loss network for all contents is faster than T passes.
    flat = contents.reshape(steps * count, *contents.shape[2:])
    features, grams = perceptual_loss.compute_targets(vgg_params, flat, grams)
    return StyleTask(
        contents,
        perceptual_loss.Targets(
            features.reshape(steps, count, *features.shape[1:]),
            tuple(jnp.broadcast_to(layer[None], (steps, *layer.shape)) for layer in grams),
        ),
    )


def style_grams(
    vgg_params: Params, batch: batching.MetaBatch | gram_cache.GramBatch
) -> tuple[Array, ...]:
    """Returns the Gram matrices of the styles of a batch; computes them if the batch has none.

    Args:
        vgg_params: weights of the loss network.
        batch: a batch of S styles.

    Returns:
        L arrays `[S, C, C]`.
    """
    if isinstance(batch, gram_cache.GramBatch):
        return tuple(map(jnp.asarray, batch.grams))
    return gram.of_images(vgg_params, batching.as_float(batch.style))


def loss_weights(config: TrainConfig) -> perceptual_loss.LossWeights:
    """Returns the weights of the content loss and the style loss."""
    return perceptual_loss.LossWeights(config.loss.content_weight, config.loss.style_weight)


def loss(
    vgg_params: Params, config: TrainConfig
) -> Callable[[Params, StyleTask], perceptual_loss.Loss]:
    """Returns the perceptual loss as a function of the transformer's parameters and a task.

    Args:
        vgg_params: weights of the loss network.
        config: the configuration.

    Returns:
        `(params, task) -> perceptual_loss.Loss`.
    """
    weights = loss_weights(config)

    def evaluate(params: Params, task: StyleTask) -> perceptual_loss.Loss:
        return perceptual_loss.of_network(params, vgg_params, task.contents, task.targets, weights)

    return evaluate


def with_grams(
    evaluate: Callable[[Params, StyleTask], perceptual_loss.Loss], grams: tuple[Array, ...]
) -> Callable[[Params, StyleTask], perceptual_loss.Loss]:
    """Returns a loss for tasks without Gram matrices, which all have the same style.

    `make_tasks` copies the Gram matrices for each task. Without them, a loop over T tasks needs
    less memory: T · 1.4 MB for VGG-16.

    Args:
        evaluate: the function that `loss` returned.
        grams: L arrays `[C, C]`, Gram matrices of the style.
    """

    def evaluate_in_style(params: Params, task: StyleTask) -> perceptual_loss.Loss:
        return evaluate(params, task._replace(targets=task.targets._replace(grams=grams)))

    return evaluate_in_style


def inner_loss(
    evaluate: Callable[[Params, StyleTask], perceptual_loss.Loss], config: TrainConfig
) -> Callable[[Params, StyleTask], Array]:
    """Returns the function that the inner loop minimizes: the total loss or its logarithm.

    Args:
        evaluate: the function that `loss` returned.
        config: the configuration.

    Returns:
        `(params, task) -> scalar`.
    """

    def value(params: Params, task: StyleTask) -> Array:
        total = evaluate(params, task).total
        return jnp.log(total) if config.inner.log_loss else total

    return value


def inner_options(config: TrainConfig, step: Array) -> dict[str, Any]:
    """Returns the keyword arguments of `meta.inner_loop` at an outer step.

    Args:
        config: the configuration.
        step: scalar, number of finished outer steps.
    """
    return {
        'optimizer': optimizers.inner_optimizer(config, step),
        'adapted': transformer.adapted(config.inner.params),
        'order': config.inner.order,
        'mode': config.inner.mode,
        'remat': config.inner.remat,
        'unroll': config.inner.unroll or None,
    }


def outer_options(config: TrainConfig) -> dict[str, Any]:
    """Returns the keyword arguments of `meta.meta_gradient` that concern the outer loss.

    Args:
        config: the configuration.
    """
    if not config.outer.each_step or not config.inner.steps:
        return {}
    return {'outer_weights': jnp.full((config.inner.steps,), 1 / config.inner.steps)}
