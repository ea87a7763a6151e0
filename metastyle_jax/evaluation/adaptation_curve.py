"""Measures adaptation curves: the losses of an initialization during its adaptation to a style."""

import functools
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from metastyle_jax.adaptation import adaptation_start, adaptation_step
from metastyle_jax.adaptation.config import AdaptConfig
from metastyle_jax.core import trees
from metastyle_jax.core.errors import UserError
from metastyle_jax.core.types import Array, Params
from metastyle_jax.data import batching, image_source
from metastyle_jax.models import perceptual_loss, transformer
from metastyle_jax.storage import theta_files


class Curve(NamedTuple):
    """Losses of one initialization on one style, one number for each measured step.

    Attributes:
        steps: the measured steps; the first is 0.
        seconds: seconds of adaptation until the step, without compilation and measurement.
        total: total loss on the held-out contents.
        content: content loss on the held-out contents.
        style: style loss on the held-out contents.
        style_layers: style losses of the four layers, whose sum is `style`.
    """

    steps: list[int]
    seconds: list[float]
    total: list[float]
    content: list[float]
    style: list[float]
    style_layers: list[list[float]]


class CurveOutputs(NamedTuple):
    """Outputs of an adaptation.

    Attributes:
        params: adapted parameters after the last step.
        by_step: step -> stylized held-out contents, `[M, H, W, 3]` float32 in 0..1.
    """

    params: Params
    by_step: dict[int, np.ndarray]


class ContentPool(NamedTuple):
    """Contents on the device, from which the batch of each step is drawn.

    Attributes:
        crops: `[P, H, W, 3]` uint8.
        rng: random key; the key and the number of a step determine the batch of the step.
    """

    crops: Array
    rng: Array


ContentBatchesOrPool: TypeAlias = Iterator[np.ndarray] | ContentPool

apply = jax.jit(transformer.apply)


@jax.jit
def loss_on_held_out(
    params: Params, vgg_params: Params, contents: Array, grams: tuple[Array, ...]
) -> perceptual_loss.Loss:
    """Computes the loss of a network on held-out contents `[M, H, W, 3]`, with default weights."""
    targets = perceptual_loss.compute_targets(vgg_params, contents, grams)
    return perceptual_loss.of_network(params, vgg_params, contents, targets)


def milestones(steps: int) -> list[int]:
    """Returns the measured steps: 0, 1, 2, 5, 10, 20, 50, … and the last step."""
    measured = {0, steps}
    for power in range(len(str(steps))):
        measured |= {factor * 10**power for factor in (1, 2, 5)}
    return sorted(step for step in measured if step <= steps)


def read_pool(
    contents: image_source.ImageSource, *, count: int, size: int, seed: int
) -> ContentPool:
    """Crops photographs as `batching.content_batches` does, and copies the crops to the device.

    Args:
        contents: photographs.
        count: P, the number of crops; if there are fewer photographs, some are cropped repeatedly.
        size: width and height of the crops.
        seed: seed of the crops and of the batches.

    Raises:
        image_source.DataError: too many images are damaged.
    """
    with batching.content_batches(contents, batch=1, size=size, seed=seed) as batches:
        crops = np.concatenate([next(batches) for _ in range(count)])
    return ContentPool(jnp.asarray(crops), jax.random.key(seed))


def adaptation_curve(
    theta: theta_files.Theta,
    grams: tuple[Array, ...],
    vgg_params: Params,
    batches: ContentBatchesOrPool,
    held_out: np.ndarray,
    *,
    config: AdaptConfig,
    keep: Sequence[int] = (),
    rolled: bool | None = None,
) -> tuple[Curve, CurveOutputs]:
    """Adapts an initialization to one style, and measures losses at some of the steps.

    Args:
        theta: the initialization.
        grams: L arrays `[C, C]`, Gram matrices of the style image.
        vgg_params: weights of the loss network.
        batches: content batches `[N, H, W, 3]` uint8, or a pool from which they are drawn.
        held_out: `[M, H, W, 3]` uint8, contents that the adaptation does not use.
        config: settings of the adaptation.
        keep: steps whose outputs are returned; their losses are measured too.
        rolled: whether all steps between two measured steps run in one compiled loop, which needs a
            pool. None means True with a pool on an accelerator, else False, because loops are slow
            on CPU.

    Returns:
        The curve and the outputs.

    Raises:
        UserError: the loss is not finite.
    """
    scalars = adaptation_start.step_scalars(config, theta)
    inner = adaptation_start.learned_rates(config, theta)
    start = adaptation_start.start_params(theta, grams, config.begin)
    state, fixed, plan = adaptation_step.start(
        start, config.params, inner, schedule=config.schedule
    )
    constants = _StepConstants(fixed, vgg_params, grams, scalars)
    if rolled is None:
        rolled = isinstance(batches, ContentPool) and jax.default_backend() != 'cpu'
    shape = (config.batch, *held_out.shape[1:])
    advance = (_rolled if rolled else _one_by_one)(
        state, batches, constants, plan=plan, shape=shape
    )
    contents = jnp.asarray(batching.as_float(held_out))
    curve, outputs, spent = Curve([], [], [], [], [], []), {}, 0.0
    steps = adaptation_start.step_count(config, theta)
    wanted = sorted({*milestones(steps), *(s for s in keep if s <= steps)})
    for step, following in itertools.zip_longest(wanted, wanted[1:]):
        params = trees.combine(theta.params, state.fast, fixed.slow)
        loss = jax.device_get(loss_on_held_out(params, vgg_params, contents, grams))
        values = (step, spent, *map(float, loss[:3]), loss.style_layers.tolist())
        for name, value in zip(Curve._fields, values, strict=True):
            getattr(curve, name).append(value)
        if not np.isfinite(loss.total):
            raise UserError(f'the loss is {loss.total} at step {step}: lower rate={scalars.rate}')
        if step in keep:
            outputs[step] = np.asarray(apply(params, contents))
        if following is not None:
            begun = time.perf_counter()
            state = jax.block_until_ready(advance(state, following - step))
            spent += time.perf_counter() - begun
    return curve, CurveOutputs(params, outputs)


class _StepConstants(NamedTuple):
    """Arguments that are the same in all steps."""

    fixed: adaptation_step.FixedTensors
    vgg_params: Params
    grams: tuple[Array, ...]
    scalars: adaptation_step.StepScalars

    def with_contents(self, contents: Any) -> tuple[Any, ...]:
        """Returns the arguments of `adaptation_step.adapt_step` after the state."""
        return self.fixed, self.vgg_params, contents, self.grams, self.scalars


# A function that takes a number of steps.
_Advance: TypeAlias = Callable[
    [adaptation_step.AdaptationState, int], adaptation_step.AdaptationState
]


def _one_by_one(
    state: adaptation_step.AdaptationState,
    batches: ContentBatchesOrPool,
    constants: _StepConstants,
    *,
    plan: adaptation_step.StepPlan,
    shape: tuple[int, ...],
) -> _Advance:
    """Returns a function `(state, count)` that takes `count` steps, each with one compiled call."""
    batch = jax.ShapeDtypeStruct(shape, np.uint8)
    compiled = adaptation_step.adapt_step.lower(
        state, *constants.with_contents(batch), plan=plan
    ).compile()
    if isinstance(batches, ContentPool):
        _draw(batches, state.step, batch=shape[0])  # compiles it, before seconds are counted

    def advance(
        state: adaptation_step.AdaptationState, count: int
    ) -> adaptation_step.AdaptationState:
        for _ in range(count):
            if isinstance(batches, ContentPool):
                batch = _draw(batches, state.step, batch=shape[0])
            else:
                batch = jnp.asarray(next(batches))
            state, _ = compiled(state, *constants.with_contents(batch))
        return state

    return advance


def _rolled(
    state: adaptation_step.AdaptationState,
    batches: ContentBatchesOrPool,
    constants: _StepConstants,
    *,
    plan: adaptation_step.StepPlan,
    shape: tuple[int, ...],
) -> _Advance:
    """Returns a function `(state, count)` that takes `count` steps in one compiled loop."""
    if not isinstance(batches, ContentPool):
        raise ValueError('steps in one program need a pool of contents on the device')
    compiled = _steps.lower(state, batches, constants, 0, plan=plan, batch=shape[0]).compile()
    return lambda state, count: compiled(state, batches, constants, count)


@functools.partial(jax.jit, static_argnames='batch')
def _draw(pool: ContentPool, step: Array, *, batch: int) -> Array:
    """Draws the content batch of one step, `[N, H, W, 3]` uint8."""
    rng = jax.random.fold_in(pool.rng, step)
    return pool.crops[jax.random.randint(rng, (batch,), 0, len(pool.crops))]


@functools.partial(jax.jit, static_argnames=('plan', 'batch'), donate_argnames='state')
def _steps(
    state: adaptation_step.AdaptationState,
    pool: ContentPool,
    constants: _StepConstants,
    count: Array | int,
    *,
    plan: adaptation_step.StepPlan,
    batch: int,
) -> adaptation_step.AdaptationState:
    """Takes `count` steps on batches that are drawn from a pool."""

    def body(_: Array, state: adaptation_step.AdaptationState) -> adaptation_step.AdaptationState:
        contents = _draw(pool, state.step, batch=batch)
        return adaptation_step.adapt_step(state, *constants.with_contents(contents), plan=plan)[0]

    return jax.lax.fori_loop(0, count, body, state)
