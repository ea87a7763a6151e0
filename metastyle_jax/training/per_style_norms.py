"""Trains on all styles at once, with different instance norms for each style.

For style k, the network has the convolutions of θ, and the instance norms of θ plus an offset of
style k. Offsets and θ are trained together. So the convolutions are trained together with norms
that fit each style, without an inner loop. The instance norms of θ stay the mean over all styles:

    minimize over w, n_1 … n_K   mean_k E_c[ℓ(I_c, I_k, M(I_c; w, n_k))],    θ = (w, mean_k n_k).

Here w are the convolutions, n_k the instance norms of style k, and M is the transformer.

Source: conditional instance normalization, Dumoulin, Shlens and Kudlur 2017, arXiv 1610.07629. To
use the mean as an initialization is an addition of this project.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from metastyle_jax import meta
from metastyle_jax.core import trees
from metastyle_jax.core.types import Array, Params
from metastyle_jax.models import perceptual_loss, transformer
from metastyle_jax.training import objective
from metastyle_jax.training.configuration.schema import TrainConfig

# Decay rates of Adam's two moments. The second is lower than usual, because each style is drawn
# only some tens of times in a run.
_DECAYS = 0.9, 0.99
_EPSILON = 1e-8


class StyleNormTable(NamedTuple):
    """Instance norms of K styles, and the state of their optimizer.

    The keys of all dicts are names of scales and biases of instance norms. The norms of a style are
    those of θ, plus the style's offset, minus `center`. Checkpoints use the names of these
    attributes.

    Attributes:
        offsets: name -> `[K, C]`, offsets of the styles.
        center: name -> `[C]`, mean of the offsets over the styles.
        first: name -> `[K, C]`, first moments of the gradients.
        second: name -> `[K, C]`, second moments of the gradients.
        visits: `[K]` int32, how often each style was drawn.
    """

    offsets: dict[str, Array]
    center: dict[str, Array]
    first: dict[str, Array]
    second: dict[str, Array]
    visits: Array


class StyleGradients(NamedTuple):
    """Losses of the S styles of a step, and their gradients.

    Attributes:
        theta: gradient of the mean loss with respect to θ.
        by_style: name -> `[S, C]`, gradient of each style's loss with respect to its offset.
        loss: loss of each style, arrays `[S, ...]`.
    """

    theta: Params
    by_style: dict[str, Array]
    loss: perceptual_loss.Loss


def create_table(theta: Params, styles: int) -> StyleNormTable:
    """Creates the table before the first step, in which all offsets are zero.

    Args:
        theta: parameters of the transformer.
        styles: number of styles, K.
    """
    norms, _ = trees.partition(theta, transformer.adapted('norm'))
    center = jax.tree.map(jnp.zeros_like, norms)
    zeros = {name: jnp.zeros((styles, *leaf.shape)) for name, leaf in norms.items()}
    return StyleNormTable(zeros, center, zeros, zeros, jnp.zeros((styles,), jnp.int32))


def offsets_of(table: StyleNormTable, index: Array) -> dict[str, Array]:
    """Returns the offsets of some styles from the instance norms of θ.

    Args:
        table: table of all styles.
        index: `[S]`, indices of the styles.

    Returns:
        Name -> `[S, C]`.
    """
    return {name: leaf[index] - table.center[name][None] for name, leaf in table.offsets.items()}


def gradients(
    theta: Params,
    offsets: dict[str, Array],
    vgg_params: Params,
    contents: Array,
    grams: tuple[Array, ...],
    *,
    config: TrainConfig,
) -> StyleGradients:
    """Computes the losses of S styles and their gradients in one pass.

    All images go through the network in one batch, each with the instance norms of its style, so
    the convolutions are not repeated for each style.

    Args:
        theta: parameters of the transformer.
        offsets: name -> `[S, C]`, offsets of the styles from the instance norms of θ.
        vgg_params: weights of the loss network.
        contents: `[S, N, H, W, 3]` in 0..1.
        grams: L arrays `[S, C, C]`, Gram matrices of the styles.
        config: the configuration. With `outer.log_loss`, the gradients are those of log losses.
    """
    count, each = contents.shape[:2]
    flat = contents.reshape(count * each, *contents.shape[2:])
    features, grams = perceptual_loss.compute_targets(vgg_params, flat, grams)
    features = features.reshape(count, each, *features.shape[1:])
    targets = perceptual_loss.Targets(features, grams)
    weights = objective.loss_weights(config)

    def mean_loss(theta: Params, offsets: dict[str, Array]) -> tuple[Array, perceptual_loss.Loss]:
        norms, others = trees.partition(theta, transformer.adapted('norm'))
        by_image = {
            name: jnp.repeat(norms[name][None] + offsets[name], each, axis=0) for name in norms
        }
        params = trees.combine(theta, by_image, others)
        loss = perceptual_loss.of_styles(params, vgg_params, contents, targets, weights)
        value = jnp.log(loss.total) if config.outer.log_loss else loss.total
        return jnp.mean(value), loss

    gradient = jax.grad(mean_loss, argnums=(0, 1), has_aux=True)
    (theta_gradient, by_style), loss = gradient(theta, offsets)
    # The mean over styles divides each style's gradient by their number; undo that.
    by_style = jax.tree.map(lambda leaf: count * leaf, by_style)
    return StyleGradients(theta_gradient, by_style, loss)


def as_meta_gradient(gradients: StyleGradients) -> meta.MetaGradient:
    """Converts the gradients to a result as from `meta.mean_over_tasks` without inner steps."""
    norm = optax.tree.norm(gradients.theta)
    loss = jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), gradients.loss)
    no_second_order = jnp.zeros_like(norm)
    return meta.MetaGradient(
        meta.Meta(gradients.theta), loss.total, jnp.zeros((0,)), norm, no_second_order, loss
    )


def update(
    theta: Params, table: StyleNormTable, index: Array, gradients: dict[str, Array], *, rate: Any
) -> tuple[Params, StyleNormTable]:
    """Updates the offsets of S styles by Adam, and moves the instance norms of θ to the new mean.

    Args:
        theta: parameters of the transformer, already updated in this step.
        table: table of all styles.
        index: `[S]`, indices of the styles; a style may occur twice.
        gradients: name -> `[S, C]`, gradient of each style's loss with respect to its offset.
        rate: learning rate of Adam, a number or scalar array.

    Returns:
        θ, whose instance norms are the mean over all styles, and the new table.
    """
    visits = table.visits[index] + 1
    bias_corrections = [1 - decay ** visits[:, None].astype(jnp.float32) for decay in _DECAYS]
    offsets, center, first, second = {}, {}, {}, {}
    for name, gradient in gradients.items():
        # Changes are added to the rows of a table, not set: then a style that occurs twice takes
        # both steps, and the result is the same on all devices.
        change = (1 - _DECAYS[0]) * (gradient - table.first[name][index])
        mean = table.first[name][index] + change
        first[name] = table.first[name].at[index].add(change)
        change = (1 - _DECAYS[1]) * (jnp.square(gradient) - table.second[name][index])
        square = table.second[name][index] + change
        second[name] = table.second[name].at[index].add(change)
        scale = jnp.sqrt(square / bias_corrections[1]) + _EPSILON
        move = -rate * (mean / bias_corrections[0]) / scale
        offsets[name] = table.offsets[name].at[index].add(move)
        center[name] = table.center[name] + move.sum(0) / len(offsets[name])
    norms, others = trees.partition(theta, transformer.adapted('norm'))
    moved = {name: leaf + center[name] - table.center[name] for name, leaf in norms.items()}
    next_table = StyleNormTable(offsets, center, first, second, table.visits.at[index].add(1))
    return trees.combine(theta, moved, others), next_table
