"""A trial: one initialization is adapted to one style, and losses are taken on the way."""

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
    """One initialization on one style.

    Attributes:
        steps: at which the losses were taken, 0 first.
        seconds: of adaptation until then, without compilation and without taking the losses.
        total: on the held-out contents; so are `content` and `style`.
        content: see `total`.
        style: see `total`.
        style_layers: at each step, of the four layers that `style` is the sum of.
    """

    steps: list[int]
    seconds: list[float]
    total: list[float]
    content: list[float]
    style: list[float]
    style_layers: list[list[float]]


class Outputs(NamedTuple):
    """What a network makes of the held-out contents, by step: `[M, H, W, 3]` in 0..1."""

    params: Params
    by_step: dict[int, np.ndarray]


class Pool(NamedTuple):
    """Contents on the device, and how batches are drawn from them.

    Attributes:
        crops: `[P, H, W, 3] uint8`.
        rng: key; the batch of a step depends on it and on the number of the step.
    """

    crops: Array
    rng: Array


Batches: TypeAlias = Iterator[np.ndarray] | Pool

apply = jax.jit(transformer.apply)


@jax.jit
def loss_on_held_out(
    params: Params, vgg_params: Params, contents: Array, grams: tuple[Array, ...]
) -> perceptual_loss.Loss:
    """Perceptual loss of a network on held-out contents `[M, H, W, 3]`, at the default weights."""
    targets = perceptual_loss.compute_targets(vgg_params, contents, grams)
    return perceptual_loss.of_network(params, vgg_params, contents, targets)


def milestones(steps: int) -> list[int]:
    """0, 1, 2, 5, 10, 20, 50, … up to the number of steps, which is always the last."""
    found = {0, steps}
    for power in range(len(str(steps))):
        found |= {factor * 10**power for factor in (1, 2, 5)}
    return sorted(step for step in found if step <= steps)


def read_pool(contents: image_source.ImageSource, *, count: int, size: int, seed: int) -> Pool:
    """Crops contents as `batching.content_batches` does, and puts them on the device.

    Args:
        contents: photographs.
        count: P, how many crops; several of one photograph where there are fewer of these.
        size: H and W.
        seed: of the crops, and of the batches that are drawn from them.

    Raises:
        image_source.DataError: too many images are damaged.
    """
    with batching.content_batches(contents, batch=1, size=size, seed=seed) as batches:
        crops = np.concatenate([next(batches) for _ in range(count)])
    return Pool(jnp.asarray(crops), jax.random.key(seed))


def adaptation_curve(
    theta: theta_files.Theta,
    grams: tuple[Array, ...],
    vgg_params: Params,
    batches: Batches,
    held_out: np.ndarray,
    *,
    config: AdaptConfig,
    keep: Sequence[int] = (),
    rolled: bool | None = None,
) -> tuple[Curve, Outputs]:
    """Adapts an initialization to one style and takes losses on the way.

    Args:
        theta: the initialization.
        grams: of the style image.
        vgg_params: weights of the loss network.
        batches: of `[N, H, W, 3] uint8`, or a pool to draw them from.
        held_out: `[M, H, W, 3] uint8`, contents that no batch holds.
        config: settings of the adaptation.
        keep: steps at which to keep outputs; they are in the curve too.
        rolled: whether all steps between two milestones are one program, which takes a pool;
            None: with a pool, unless this is a CPU, whose loops are slow.

    Returns:
        The curve, and outputs with the adapted parameters.

    Raises:
        UserError: the loss is not finite.
    """
    weights = adaptation_start.step_weights(config, theta)
    inner = adaptation_start.learned_inner_loop(theta, steps=config.inner_steps)
    start = adaptation_start.start_params(theta, grams, config.begin)
    state, fixed, plan = adaptation_step.start(
        start, config.params, inner, schedule=config.schedule
    )
    rest = _Rest(fixed, vgg_params, grams, weights)
    if rolled is None:
        rolled = isinstance(batches, Pool) and jax.default_backend() != 'cpu'
    shape = (config.batch, *held_out.shape[1:])
    advance = (_rolled if rolled else _one_by_one)(state, batches, rest, plan=plan, shape=shape)
    contents = jnp.asarray(batching.as_float(held_out))
    curve, outputs, spent = Curve([], [], [], [], [], []), {}, 0.0
    wanted = sorted({*milestones(config.steps), *(s for s in keep if s <= config.steps)})
    for step, following in itertools.zip_longest(wanted, wanted[1:]):
        params = trees.combine(theta.params, state.fast, fixed.slow)
        loss = jax.device_get(loss_on_held_out(params, vgg_params, contents, grams))
        values = (step, spent, *map(float, loss[:3]), loss.style_layers.tolist())
        for name, value in zip(Curve._fields, values, strict=True):
            getattr(curve, name).append(value)
        if not np.isfinite(loss.total):
            raise UserError(f'the loss is {loss.total} at step {step}: lower rate={weights.rate}')
        if step in keep:
            outputs[step] = np.asarray(apply(params, contents))
        if following is not None:
            begun = time.perf_counter()
            state = jax.block_until_ready(advance(state, following - step))
            spent += time.perf_counter() - begun
    return curve, Outputs(params, outputs)


class _Rest(NamedTuple):
    """What is the same in all steps."""

    fixed: adaptation_step.Fixed
    vgg_params: Params
    grams: tuple[Array, ...]
    weights: adaptation_step.Weights

    def around(self, contents: Any) -> tuple[Any, ...]:
        """Arguments of `adaptation_step.adapt_step` after the state."""
        return self.fixed, self.vgg_params, contents, self.grams, self.weights


_Advance: TypeAlias = Callable[
    [adaptation_step.State, int], adaptation_step.State
]  # by so many steps


def _one_by_one(
    state: adaptation_step.State,
    batches: Batches,
    rest: _Rest,
    *,
    plan: adaptation_step.Plan,
    shape: tuple[int, ...],
) -> _Advance:
    """Step after step, each compiled program called anew; compiled on return."""
    batch = jax.ShapeDtypeStruct(shape, np.uint8)
    compiled = adaptation_step.adapt_step.lower(state, *rest.around(batch), plan=plan).compile()
    if isinstance(batches, Pool):
        _draw(batches, state.step, batch=shape[0])

    def advance(state: adaptation_step.State, count: int) -> adaptation_step.State:
        for _ in range(count):
            if isinstance(batches, Pool):
                batch = _draw(batches, state.step, batch=shape[0])
            else:
                batch = jnp.asarray(next(batches))
            state, _ = compiled(state, *rest.around(batch))
        return state

    return advance


def _rolled(
    state: adaptation_step.State,
    batches: Batches,
    rest: _Rest,
    *,
    plan: adaptation_step.Plan,
    shape: tuple[int, ...],
) -> _Advance:
    """All steps in one program, so that a fast device never waits; compiled on return."""
    if not isinstance(batches, Pool):
        raise ValueError('steps in one program need a pool of contents on the device')
    compiled = _steps.lower(state, batches, rest, 0, plan=plan, batch=shape[0]).compile()
    return lambda state, count: compiled(state, batches, rest, count)


@functools.partial(jax.jit, static_argnames='batch')
def _draw(pool: Pool, step: Array, *, batch: int) -> Array:
    """The contents of one step, `[N, H, W, 3] uint8`."""
    rng = jax.random.fold_in(pool.rng, step)
    return pool.crops[jax.random.randint(rng, (batch,), 0, len(pool.crops))]


@functools.partial(jax.jit, static_argnames=('plan', 'batch'), donate_argnames='state')
def _steps(
    state: adaptation_step.State,
    pool: Pool,
    rest: _Rest,
    count: Array | int,
    *,
    plan: adaptation_step.Plan,
    batch: int,
) -> adaptation_step.State:
    """So many steps, on batches that are drawn from a pool."""

    def body(_: Array, state: adaptation_step.State) -> adaptation_step.State:
        contents = _draw(pool, state.step, batch=batch)
        return adaptation_step.adapt_step(state, *rest.around(contents), plan=plan)[0]

    return jax.lax.fori_loop(0, count, body, state)
