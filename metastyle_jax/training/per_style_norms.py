"""Training on all styles at once, each with instance norms of its own.

The network that a style sees has the convolutions of θ, and norms that are those of θ and an offset
of its own. Offsets and θ learn together, so that convolutions are trained at the norms to which
adaptation would bring them, without an inner loop. θ's norms are kept at the mean over the styles:

    minimize over w, n_1 … n_K   mean_k E_c[ℓ(I_c, I_k, M(I_c; w, n_k))],    θ = (w, mean_k n_k).

Source: conditional instance normalization, Dumoulin, Shlens and Kudlur 2017, arXiv 1610.07629; the
mean as an initialization is this project's.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from metastyle_jax import meta
from metastyle_jax.core import trees
from metastyle_jax.core.types import Array, Params
from metastyle_jax.models import perceptual_loss, transformer

_DECAYS = 0.9, 0.99  # of both moments: a style comes by only some tens of times


class Table(NamedTuple):
    """What is kept for each of K styles; dicts are by name of the norms' tensors.

    Attributes:
        offsets: `[K, C]`; a style's norms are those of θ plus its offset less `center`.
        center: `[C]`, mean of the offsets.
        first: `[K, C]`, first moments of their gradients.
        second: `[K, C]`, second moments.
        visits: `[K]` int32, how often a style has had its turn.
    """

    offsets: dict[str, Array]
    center: dict[str, Array]
    first: dict[str, Array]
    second: dict[str, Array]
    visits: Array


class Found(NamedTuple):
    """Gradients and losses of the styles of a step.

    Attributes:
        gradient: of the mean over the S styles, in θ.
        own: by name, `[S, C]`, of each style's loss in its offset.
        loss: leaves `[S, ...]`.
    """

    gradient: Params
    own: dict[str, Array]
    loss: perceptual_loss.Loss


def create(theta: Params, styles: int) -> Table:
    """The table before the first step: no offsets.

    Args:
        theta: of the transformer.
        styles: K.
    """
    norms, _ = trees.partition(theta, transformer.adapted('norm'))
    center = jax.tree.map(jnp.zeros_like, norms)
    zeros = {name: jnp.zeros((styles, *leaf.shape)) for name, leaf in norms.items()}
    return Table(zeros, center, zeros, zeros, jnp.zeros((styles,), jnp.int32))


def of_styles(table: Table, index: Array) -> dict[str, Array]:
    """What is added to θ's norms for some styles: by name, `[S, C]`.

    Args:
        table: of all styles.
        index: `[S]`, which they are.
    """
    return {name: leaf[index] - table.center[name][None] for name, leaf in table.offsets.items()}


def gradients(
    theta: Params,
    own: dict[str, Array],
    vgg_params: Params,
    contents: Array,
    grams: tuple[Array, ...],
    *,
    log_loss: bool,
    content_weight: float,
    style_weight: float,
) -> Found:
    """Losses of S styles in one pass, each image with the norms of its style, and gradients.

    Args:
        theta: of the transformer.
        own: by name `[S, C]`, what is added to θ's norms for each style.
        vgg_params: weights of the loss network.
        contents: `[S, N, H, W, 3]` in 0..1.
        grams: L arrays `[S, C, C]`, Gram matrices of the styles.
        log_loss: whether it is the logarithm of each style's loss that is differentiated.
        content_weight: of the losses.
        style_weight: of the losses.
    """
    count, each = contents.shape[:2]
    flat = contents.reshape(count * each, *contents.shape[2:])
    features, grams = perceptual_loss.compute_targets(vgg_params, flat, grams)
    features = features.reshape(count, each, *features.shape[1:])
    targets = perceptual_loss.Targets(features, grams)
    weights = perceptual_loss.LossWeights(content_weight, style_weight)

    def objective(theta: Params, own: dict[str, Array]) -> tuple[Array, perceptual_loss.Loss]:
        norms, rest = trees.partition(theta, transformer.adapted('norm'))
        images = {name: jnp.repeat(norms[name][None] + own[name], each, axis=0) for name in norms}
        params = trees.combine(theta, images, rest)
        loss = perceptual_loss.of_styles(params, vgg_params, contents, targets, weights)
        value = jnp.log(loss.total) if log_loss else loss.total
        return jnp.mean(value), loss

    (gradient, of_own), loss = jax.grad(objective, argnums=(0, 1), has_aux=True)(theta, own)
    return Found(gradient, jax.tree.map(lambda leaf: count * leaf, of_own), loss)


def as_meta(found: Found) -> meta.MetaGradient:
    """What `meta.mean_over_tasks` would give: no inner step, and no second order."""
    norm = optax.tree.norm(found.gradient)
    loss = jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), found.loss)
    zero = jnp.zeros_like(norm)
    return meta.MetaGradient(
        meta.Meta(found.gradient), loss.total, jnp.zeros((0,)), norm, zero, loss
    )


def update(
    theta: Params, table: Table, index: Array, gradients: dict[str, Array], *, rate: Any
) -> tuple[Params, Table]:
    """One step of Adam on the offsets of the styles of a step, and the mean moves with them.

    Args:
        theta: after its own step.
        table: of all styles.
        index: `[S]`, which they are.
        gradients: by name `[S, C]`, of each style's own loss.
        rate: of Adam.

    Returns:
        θ, whose norms stay the mean over the styles, and the table.
    """
    visits = table.visits[index] + 1
    b1, b2 = _DECAYS
    trust = [1 - b ** visits[:, None].astype(jnp.float32) for b in _DECAYS]

    def adam(name: str) -> tuple[Array, Array, Array, Array]:
        gradient, center = gradients[name], table.center[name]
        moments = table.first[name], table.second[name]
        steps = (
            (1 - b1) * (gradient - moments[0][index]),
            (1 - b2) * (jnp.square(gradient) - moments[1][index]),
        )
        mean, square = (old[index] + step for old, step in zip(moments, steps, strict=True))
        move = -rate * (mean / trust[0]) / (jnp.sqrt(square / trust[1]) + 1e-8)
        # Added, not set: where a style comes twice in one step, the outcome is still one.
        offsets = table.offsets[name].at[index].add(move)
        first, second = (old.at[index].add(step) for old, step in zip(moments, steps, strict=True))
        return offsets, center + move.sum(0) / len(offsets), first, second

    found = {name: adam(name) for name in gradients}
    offsets, center, first, second = (
        {name: leaves[i] for name, leaves in found.items()} for i in range(4)
    )
    norms, rest = trees.partition(theta, transformer.adapted('norm'))
    shifted = {name: leaf + center[name] - table.center[name] for name, leaf in norms.items()}
    after = Table(offsets, center, first, second, table.visits.at[index].add(1))
    return trees.combine(theta, shifted, rest), after
