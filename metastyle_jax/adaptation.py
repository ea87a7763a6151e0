"""Adaptation of θ to one style, step by step.

Source: Zhang, Zhu and Zhu 2019, arXiv 1812.05233, section 3.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from metastyle_jax import data, images, losses, meta, transformer, vgg
from metastyle_jax.types import Array, Params, PyTree


class State(NamedTuple):
    """What a step of adaptation updates: adapted tensors by name, and Adam's state."""

    fast: dict[str, Array]
    opt_state: PyTree


class Weights(NamedTuple):
    """Numbers of a step that may change without compiling it anew."""

    rate: float
    content: float
    style: float


def start(theta: Params, params: str) -> tuple[State, dict[str, Array]]:
    """The state before the first step, and the tensors that stay, by name.

    Args:
        theta: the initialization; it is copied, since a step reuses the buffers of a state.
        params: 'all' or 'norm'.

    Raises:
        UserError: `params` is neither.
    """
    fast, slow = meta.partition(theta, transformer.adapted(params))
    fast = jax.tree.map(jnp.copy, fast)
    return State(fast, optax.adam(1.0).init(fast)), slow


def fit_style(picture: np.ndarray, size: int) -> np.ndarray:
    """Resizes a style image to the area of `size`², at its own proportions, for a known cost.

    Args:
        picture: `[H, W, 3]` float32 in 0..1.
        size: side of the square of that area.

    Returns:
        `[H', W', 3]` float32 in 0..1.
    """
    height, width = picture.shape[:2]
    scale = size / (height * width) ** 0.5
    sides = [max(images.MIN_SIDE, round(side * scale)) for side in (height, width)]
    return images.resize(picture, *sides)


@functools.partial(jax.jit, static_argnames='like', donate_argnames='state')
def adapt_step(
    state: State,
    slow: dict[str, Array],
    vgg_params: Params,
    contents: Array,
    grams: tuple[Array, ...],
    weights: Weights,
    *,
    like: Any,
) -> tuple[State, losses.Loss]:
    """One Adam step on one batch.

    Args:
        state: before the step; its buffers are reused.
        slow: the tensors that stay, by name.
        vgg_params: weights of the loss network.
        contents: `[N, H, W, 3] uint8`.
        grams: L arrays `[C, C]` of the style image.
        weights: of the losses, and Adam's rate.
        like: the structure of θ.

    Returns:
        The next state and the loss before the step.
    """
    contents = data.as_float(contents)
    skeleton = jax.tree.unflatten(like, range(like.num_leaves))

    def total(fast):
        params = meta.combine(skeleton, fast, slow)
        loss = content_and_style(params, vgg_params, contents, grams, weights)
        return loss.total, loss

    grads, loss = jax.grad(total, has_aux=True)(state.fast)
    updates, opt_state = optax.adam(weights.rate).update(grads, state.opt_state)
    return State(optax.apply_updates(state.fast, updates), opt_state), loss


def content_and_style(
    params: Params,
    vgg_params: Params,
    contents: Array,
    grams: tuple[Array, ...],
    weights: Weights,
) -> losses.Loss:
    """The perceptual loss of a network's outputs on some contents.

    Args:
        params: of the transformer.
        vgg_params: weights of the loss network.
        contents: `[N, H, W, 3]` in 0..1.
        grams: L arrays `[C, C]` of the style image.
        weights: of the losses.
    """
    return losses.perceptual_loss(
        lambda x: vgg.features(vgg_params, x),
        transformer.apply(params, contents),
        losses.Targets(vgg.content_features(vgg_params, contents), grams),
        content_weight=weights.content,
        style_weight=weights.style,
    )
