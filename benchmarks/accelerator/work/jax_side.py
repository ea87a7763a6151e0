"""What the JAX process measures: one function for each kind of work.

Each function takes the settings of an item and its precision, and returns JSON types.
"""

import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import flops, inputs, ours, tasks
from benchmarks.accelerator.work import errors, programs, timing
from metastyle_jax.adaptation import adapt
from metastyle_jax.training import outer_step

Weights = tuple[inputs.Arrays, inputs.Arrays]
Result = dict[str, Any]
_LAYOUTS = {'NHWC': ('NHWC', 'HWIO', 'NHWC'), 'NCHW': ('NCHW', 'OIHW', 'NCHW')}


def describe() -> dict[str, Any]:
    """Returns the device."""
    device = jax.devices()[0]
    return {
        'backend': jax.default_backend(),
        'device': device.device_kind,
        'devices': jax.device_count(),
        'driver': str(getattr(device.client, 'platform_version', '')).split('\n')[0],
    }


def measure(
    work: str, settings: dict[str, Any], precision: str, weights: Weights, effort: timing.Effort
) -> Result:
    """Measures one item.

    Args:
        work: name of one of the functions below, without its underscore.
        settings: settings of the item.
        precision: precision of the item.
        weights: θ and the loss network by name.
        effort: how long to measure.
    """
    programs.set_precision(precision)
    try:
        return _WORKS[work](settings, precision, weights, effort)
    finally:
        jax.clear_caches()  # compiled programs hold memory of the device


def _rate(settings: dict, precision: str, weights: Weights, effort: timing.Effort) -> Result:
    """Operations per second of a matrix product, as a measure of the device."""
    del weights
    size = settings['size']
    dtype = 'bfloat16' if precision == 'bfloat16' else 'float32'
    factor = jax.random.normal(jax.random.key(0), (size, size), jnp.dtype(dtype))
    found = _timed(jax.jit(jnp.matmul), (factor, factor), effort)
    return found | {'rate': 2 * size**3 / found['seconds']['median']}


def _task(settings: dict, precision: str, weights: Weights, effort: timing.Effort) -> Result:
    """The functions that the commands call; other functions in bfloat16, which no command has."""
    task = tasks.from_dict(settings['task'])
    if precision == 'bfloat16' and task.work != 'stylize':
        return _program(settings, precision, weights, effort)
    runner = ours.build(task, settings['variant'], *weights)
    found = timing.first_and_rounds(runner.call, runner.wait, effort)
    return found | {'memory': runner.temporary(), 'needed': flops.needed(task)}


def _program(settings: dict, precision: str, weights: Weights, effort: timing.Effort) -> Result:
    """A gradient or stylization as a pure function, compiled with options of XLA."""
    task = tasks.from_dict(settings['task'])
    program = programs.build(task, *weights, precision, settings['variant'])
    begun = time.perf_counter()
    lowered = jax.jit(program.function).lower(*program.arguments)
    compiled = lowered.compile(compiler_options=settings.get('options') or None)
    took = time.perf_counter() - begun
    found = _timed(compiled, program.arguments, effort) | {'compile': took}
    analysis = compiled.memory_analysis()
    return found | {
        'memory': analysis and analysis.temp_size_in_bytes,
        'needed': flops.needed(task),
    }


def _placed(settings: dict, precision: str, weights: Weights, effort: timing.Effort) -> Result:
    """A whole training step, on the devices that divide the styles, placed in one of three ways."""
    del precision
    task, variant = tasks.from_dict(settings['task']), settings['variant']
    theta, loss_network = map(ours.from_names, weights)
    runner = ours.MetaStep(task, theta, loss_network, variant)
    if settings['placement'] != 'pmap':
        donate = 'donated' in settings['placement']
        runner._run = _by_named_sharding(task, variant, donate=donate)
    found = timing.first_and_rounds(runner.call, runner.wait, effort)
    return found | {'memory': runner.temporary(), 'needed': flops.needed(task)}


def _by_named_sharding(task: tasks.Task, variant: str, *, donate: bool) -> Callable[..., Any]:
    """Returns the training step by `jax.jit`, with shardings of its arguments, on one device."""
    mesh = jax.sharding.Mesh(jax.devices()[:1], ('devices',))
    everywhere, divided = (jax.NamedSharding(mesh, spec) for spec in (jax.P(), jax.P('devices')))
    step = jax.shard_map(
        functools.partial(outer_step.train_step, config=ours.meta_config(task, variant)),
        mesh=mesh,
        in_specs=(jax.P(), jax.P(), jax.P('devices')),
        out_specs=jax.P(),
        check_vma=False,  # JAX cannot prove that results are equal on all devices
    )
    return jax.jit(
        step,
        in_shardings=(everywhere, everywhere, divided),
        donate_argnums=(0,) if donate else (),
    )


def _accuracy(settings: dict, precision: str, weights: Weights, effort: timing.Effort) -> Result:
    """The relative error of a result, compared with the same computation in float64."""
    del effort
    task = tasks.from_dict(settings['task'])

    def answer(precision: str) -> inputs.Arrays:
        program = programs.build(task, *weights, precision, settings['variant'])
        found = jax.jit(program.function)(*program.arguments)
        found = {'images': found} if task.work == 'stylize' else found
        leaves = jax.tree.flatten_with_path(found)[0]
        return {jax.tree_util.keystr(path): np.asarray(x, np.float64) for path, x in leaves}

    found = answer(precision)
    with jax.enable_x64(True):
        exact = answer('float64')
    return errors.compare(found, exact)


def _convolution(settings: dict, precision: str, weights: Weights, effort: timing.Effort) -> Result:
    """One convolution, its image gradient and its kernel gradient, in one layout."""
    del weights
    dtype = 'bfloat16' if precision == 'bfloat16' else 'float32'
    names, layout = _LAYOUTS[settings['layout']], settings['layout']
    extents = {
        'N': settings['batch'], 'H': settings['side'], 'W': settings['side'],
        'C': settings['inputs'], 'I': settings['inputs'], 'O': settings['outputs'],
    }  # fmt: skip
    kernel_extents = extents | {'H': settings['kernel'], 'W': settings['kernel']}
    x = jnp.full([extents[axis] for axis in layout], 0.5, dtype)
    kernel = jnp.full([kernel_extents[axis] for axis in names[1]], 0.5, dtype)

    def both_gradients(x, kernel):
        y, pull_back = jax.vjp(
            lambda x, kernel: jax.lax.conv_general_dilated(
                x, kernel, (1, 1), 'SAME', dimension_numbers=names
            ),
            x,
            kernel,
        )
        return y, pull_back(y)

    found = _timed(jax.jit(both_gradients), (x, kernel), effort)
    pixels = settings['batch'] * settings['side'] ** 2
    once = flops.conv(settings['kernel'], settings['inputs'], settings['outputs'], pixels)
    return found | {'needed': 3 * once}


def _learned(settings: dict, precision: str, weights: Weights, effort: timing.Effort) -> Result:
    """`adapt` with learned steps on a new painting, after another one has compiled its programs."""
    del precision, weights
    paintings = inputs.images(2 + effort.rounds, settings['size'], seed=5)
    steps, size = settings['steps'], settings['size']
    seconds = []
    for painting in paintings:
        begun = time.perf_counter()
        adapt.adapt(painting, params='norm', size=size, steps=steps, inner_steps=steps)
        seconds.append(time.perf_counter() - begun)
    warm = sorted(seconds[1:])
    return {'seconds': timing.harness.summary(warm), 'compile': max(seconds[0] - warm[0], 0.0)}


def _timed(function: Callable[..., Any], arguments: tuple, effort: timing.Effort) -> Result:
    """Compiles and times a function of arrays on the device."""
    last: list[Any] = []

    def call() -> None:
        last[:] = [function(*arguments)]

    return timing.first_and_rounds(call, lambda: jax.block_until_ready(last), effort)


_WORKS = {
    'rate': _rate,
    'task': _task,
    'program': _program,
    'placed': _placed,
    'accuracy': _accuracy,
    'convolution': _convolution,
    'learned': _learned,
}
