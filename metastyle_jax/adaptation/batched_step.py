"""Adaptation of θ to many styles at once: those of one network whose convolutions are shared.

With instance norms alone adapted, styles differ in scales and biases only. They are folded into
the batch, `[S·N, H, W, C]`, each image with a scale and a bias of its own, so that convolutions
stay whole: mapping over styles would make grouped ones. Adam is elementwise, and the gradient of
the sum of losses is, for each style, that of its own; so every style goes its way as if alone.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metastyle_jax.adaptation import adaptation_step
from metastyle_jax.core import trees
from metastyle_jax.core.devices import sharding
from metastyle_jax.core.types import Array, Params
from metastyle_jax.data import batching
from metastyle_jax.models import gram, perceptual_loss

_CANVAS = 64  # sides of the canvases of paintings are multiples of this: few sizes to compile


class Shared(NamedTuple):
    """What all styles see alike.

    Attributes:
        fixed: tensors that stay, and learned rates, see `adaptation_step.start`.
        vgg: weights of the loss network.
        contents: `[N, H, W, 3] uint8`.
        weights: of the losses, and Adam's rate.
    """

    fixed: adaptation_step.Fixed
    vgg: Params
    contents: Array
    weights: adaptation_step.Weights


def start(
    theta: Params,
    count: int,
    inner: adaptation_step.Learned | None = None,
    *,
    schedule: str = 'falling',
) -> tuple[adaptation_step.State, adaptation_step.Fixed, adaptation_step.Plan]:
    """What the first step needs: `adaptation_step.start` of 'norm', for S styles.

    Args:
        theta: the initialization.
        count: S.
        inner: see `adaptation_step.start`.
        schedule: of Adam.

    Returns:
        The state, tensors `[S, C]` and numbers of all styles `[]`; what stays; the plan.
    """
    state, fixed, plan = adaptation_step.start(theta, 'norm', inner, schedule=schedule)
    stack = lambda leaf: jnp.repeat(leaf[None], count, axis=0) if leaf.ndim else leaf
    return jax.tree.map(stack, state), fixed, plan


def step(
    shared: Shared,
    state: adaptation_step.State,
    grams: tuple[Array, ...],
    *,
    plan: adaptation_step.Plan,
) -> tuple[adaptation_step.State, perceptual_loss.Loss]:
    """One step of every style, on the same contents.

    Args:
        shared: see `Shared`.
        state: of `start`.
        grams: L arrays `[S, C, C]`, of the style images.
        plan: of `start`.

    Returns:
        The next state, and the losses before the step: `[S]`, those of layers `[S, L]`.
    """
    contents = batching.as_float(shared.contents)
    targets = perceptual_loss.compute_targets(shared.vgg, contents, grams)
    weights = perceptual_loss.LossWeights(shared.weights.content, shared.weights.style)
    skeleton = jax.tree.unflatten(plan.like, range(plan.like.num_leaves))

    def total(fast: dict[str, Array]) -> tuple[Array, perceptual_loss.Loss]:
        images = {name: jnp.repeat(leaf, len(contents), axis=0) for name, leaf in fast.items()}
        params = trees.combine(skeleton, images, shared.fixed.slow)
        loss = perceptual_loss.of_styles(params, shared.vgg, contents, targets, weights)
        return jnp.sum(loss.total), loss

    grads, loss = jax.grad(total, has_aux=True)(state.fast)
    after = adaptation_step.update(state, grads, shared.fixed, loss.total, shared.weights, plan)
    return after, loss


@functools.cache
def compiled_step(
    plan: adaptation_step.Plan, devices: int
) -> Callable[..., tuple[adaptation_step.State, perceptual_loss.Loss]]:
    """`step`, compiled, with the styles divided over devices; the buffers of a state are reused.

    Args:
        plan: of `start`.
        devices: how many; they divide the number of styles.
    """
    return sharding.divided(functools.partial(step, plan=plan), shared=1, devices=devices)


@jax.jit
def _grams(vgg_params: Params, canvas: Array, size: Array) -> tuple[Array, ...]:
    return gram.of_padded_images(vgg_params, canvas, size)


def style_grams(vgg_params: Params, picture: np.ndarray) -> tuple[np.ndarray, ...]:
    """Gram matrices of one painting of any size, with one program for all of about its size.

    Args:
        vgg_params: weights of the loss network.
        picture: `[H, W, 3]` float32 in 0..1.

    Returns:
        L arrays `[C, C]`.
    """
    height, width = picture.shape[:2]
    sides = (-(-side // _CANVAS) * _CANVAS for side in (height, width))
    canvas = np.zeros((1, *sides, 3), np.float32)
    canvas[0, :height, :width] = picture
    found = _grams(vgg_params, canvas, np.array([[height, width]], np.int32))
    return tuple(np.asarray(layer[0]) for layer in found)
