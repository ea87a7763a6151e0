"""The batched step: one step of the adaptations to S styles in one batch.

Only instance norms are adapted, so the styles share all convolutions. The images of all styles form
one batch `[S·N, H, W, C]`, in which each image has its own scales and biases. `jax.vmap` over
styles would make grouped convolutions, which are slow on CPU.

The step minimizes the sum of the losses of the styles. The norms of a style occur only in the loss
of this style, so their gradient is the same as in a separate adaptation, and Adam works
elementwise. So each style gets the result of a separate adaptation, except for rounding.
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

# Style images lie on canvases whose sides are multiples of this, in pixels, so that there are few
# sizes; each size is compiled once.
_CANVAS = 64


class SharedInputs(NamedTuple):
    """Inputs of a batched step that are the same for all styles.

    Attributes:
        fixed: tensors that are not adapted, and learned rates, see `adaptation_step.start`.
        vgg: weights of the loss network.
        contents: `[N, H, W, 3] uint8`.
        scalars: learning rate and weights of the losses.
    """

    fixed: adaptation_step.FixedTensors
    vgg: Params
    contents: Array
    scalars: adaptation_step.StepScalars


def start(
    theta: Params,
    count: int,
    inner: adaptation_step.LearnedRates | None = None,
    *,
    schedule: str = 'falling',
) -> tuple[adaptation_step.AdaptationState, adaptation_step.FixedTensors, adaptation_step.StepPlan]:
    """Makes the arguments of the first batched step, see `adaptation_step.start`.

    Args:
        theta: the initialization.
        count: S, the number of styles.
        inner: learned inner loop of the first steps; None if Adam takes all steps.
        schedule: schedule of Adam, see `warmup_and_decay.adam`.

    Returns:
        The state, whose tensors are stacked to `[S, C]`; the fixed tensors; the plan.
    """
    state, fixed, plan = adaptation_step.start(theta, 'norm', inner, schedule=schedule)
    stack = lambda leaf: jnp.repeat(leaf[None], count, axis=0) if leaf.ndim else leaf
    return jax.tree.map(stack, state), fixed, plan


def step(
    shared: SharedInputs,
    state: adaptation_step.AdaptationState,
    grams: tuple[Array, ...],
    *,
    plan: adaptation_step.StepPlan,
) -> tuple[adaptation_step.AdaptationState, perceptual_loss.Loss]:
    """Takes one step for each of S styles, on the same content batch.

    Args:
        shared: see `SharedInputs`.
        state: state before the step, see `start`.
        grams: L arrays `[S, C, C]`, Gram matrices of the style images.
        plan: plan, see `start`.

    Returns:
        The state after the step, and the losses before the step, arrays `[S]` and `[S, L]`.
    """
    contents = batching.as_float(shared.contents)
    targets = perceptual_loss.compute_targets(shared.vgg, contents, grams)
    weights = perceptual_loss.LossWeights(shared.scalars.content, shared.scalars.style)
    skeleton = jax.tree.unflatten(plan.like, range(plan.like.num_leaves))

    def total(fast: dict[str, Array]) -> tuple[Array, perceptual_loss.Loss]:
        images = {name: jnp.repeat(leaf, len(contents), axis=0) for name, leaf in fast.items()}
        params = trees.combine(skeleton, images, shared.fixed.slow)
        loss = perceptual_loss.of_styles(params, shared.vgg, contents, targets, weights)
        return jnp.sum(loss.total), loss

    grads, loss = jax.grad(total, has_aux=True)(state.fast)
    after = adaptation_step.update(state, grads, shared.fixed, loss.total, shared.scalars, plan)
    return after, loss


@functools.cache
def compiled_step(
    plan: adaptation_step.StepPlan, devices: int
) -> Callable[..., tuple[adaptation_step.AdaptationState, perceptual_loss.Loss]]:
    """Compiles `step` with the styles divided among devices.

    Args:
        plan: plan, see `start`.
        devices: number of devices; it must divide the number of styles.

    Returns:
        The function `(shared, state, grams)`; it overwrites the memory of `state`.
    """
    return sharding.divided(functools.partial(step, plan=plan), shared=1, devices=devices)


@jax.jit
def _grams(vgg_params: Params, canvas: Array, size: Array) -> tuple[Array, ...]:
    return gram.of_padded_images(vgg_params, canvas, size)


def style_grams(vgg_params: Params, picture: np.ndarray) -> tuple[np.ndarray, ...]:
    """Computes the Gram matrices of a style image of any size.

    Style images of similar sizes share one compiled program, see `gram.of_padded_images`.

    Args:
        vgg_params: weights of the loss network.
        picture: `[H, W, 3]` float32 in 0..1, the style image.

    Returns:
        L arrays `[C, C]`.
    """
    height, width = picture.shape[:2]
    sides = (-(-side // _CANVAS) * _CANVAS for side in (height, width))
    canvas = np.zeros((1, *sides, 3), np.float32)
    canvas[0, :height, :width] = picture
    grams = _grams(vgg_params, canvas, np.array([[height, width]], np.int32))
    return tuple(np.asarray(layer[0]) for layer in grams)
