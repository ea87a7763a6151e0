"""The list of measurements, in the order in which an accelerator's time is best spent.

An `Item` is one number or a few that belong together. This module imports neither JAX nor PyTorch.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from benchmarks import tasks

SIDES = ('jax', 'torch', 'command')
PRECISIONS = ('highest', 'tf32', 'bfloat16')
# Variants of PyTorch that are measured beside `eager`. 'graphs' replays a CUDA graph.
PEERS = ('channels_last', 'compile', 'graphs')
STEPS = (1, 2, 4, 8)
TRAINING = (2, 3, 4, 5)  # parts of the list that train; `training.runs` has their commands

# Options of XLA for one program each; 'default' is measured beside them.
COMPILER_OPTIONS: dict[str, dict[str, Any]] = {
    'default': {},
    'autotuning off': {'xla_gpu_autotune_level': 0},
    'deterministic operations': {'xla_gpu_exclude_nondeterministic_ops': True},
    'latency hiding scheduler': {'xla_gpu_enable_latency_hiding_scheduler': True},
    'Triton products off': {'xla_gpu_enable_triton_gemm': False},
    'command buffers off': {'xla_gpu_enable_command_buffer': ''},
}
# Ways to run a whole training step, state included.
PLACEMENTS = ('pmap', 'NamedSharding', 'NamedSharding, donated')


class Sizes(NamedTuple):
    """Sizes of all measurements.

    Attributes:
        stylize: heights and widths of stylized images.
        batches: numbers of images that are stylized at once.
        meta: height and width of the images of adaptation and meta-steps.
        styles: number of styles of a meta-step.
        contents: number of content images for each style.
        matrix: rows of the matrix product that rates the machine.
        network: sizes of the networks.
        loop: variant of `tasks.OURS` by which meta-steps of this package are computed.
    """

    stylize: tuple[int, int, int] = (256, 512, 1024)
    batches: tuple[int, int, int] = (1, 8, 32)
    meta: int = 256
    styles: int = 4
    contents: int = tasks.CONTENTS
    matrix: int = 8192
    network: tasks.Network = tasks.STANDARD
    loop: str = 'ours'


FULL = Sizes()
# On a CPU, inner steps are unrolled by default, and compile slowly. A GPU compiles a loop.
SMALL = Sizes((24, 32, 40), (1, 2, 3), 32, 1, 2, 256, tasks.Network(8, 1, 4), loop='rolled')


class Item(NamedTuple):
    """One measurement.

    Attributes:
        part: the part of the list, 1 to 6, by which items are ordered.
        group: table of the report.
        name: row of the table.
        variant: what is measured in this row: 'ours', a variant of PyTorch, or an option.
        precision: of float32 products, 'highest' or 'tf32'; or 'bfloat16'.
        side: the process that measures, one of `SIDES`; 'command' is a command of its own.
        work: the function of the process.
        settings: arguments of the function, as JSON types.
    """

    part: int
    group: str
    name: str
    variant: str
    precision: str
    side: str
    work: str
    settings: dict[str, Any]

    @property
    def key(self) -> str:
        """Identifies the item among all others."""
        return ' | '.join((self.group, self.name, self.variant, self.precision))


def table(sizes: Sizes = FULL) -> list[Item]:
    """Returns all measurements except the training runs, in order.

    Args:
        sizes: `FULL` or `SMALL`.
    """
    found: dict[str, Item] = {}
    for item in (*_first(sizes), *_rest(sizes)):
        found.setdefault(item.key, item)  # the second part repeats some rows of the first
    return list(found.values())


def _first(sizes: Sizes) -> Iterator[Item]:
    """Part 1: the table beside eager PyTorch, and the rates of matrix products."""
    for precision in PRECISIONS:
        settings = {'size': sizes.matrix}
        yield Item(1, 'rate', 'matrix product', 'ours', precision, 'jax', 'rate', settings)
    both, small = ('ours', 'eager'), sizes.stylize[0]
    yield from _timed(sizes, 1, _stylize(sizes, small, sizes.batches[0]), both, ('tf32', 'highest'))
    yield from _timed(sizes, 1, _meta_step(sizes), both, ('tf32', 'highest'))
    yield from _timed(sizes, 1, _adapt(sizes), both, ('tf32', 'highest'))
    yield from _timed(sizes, 1, _meta_step(sizes, steps=4), both, ('tf32',))
    yield from _timed(
        sizes, 1, _stylize(sizes, small, sizes.batches[2]), both, ('tf32', 'bfloat16')
    )
    learned = {'size': sizes.meta, 'steps': 5}
    yield Item(
        1, 'learned', 'adaptation of 5 learned steps, warm', 'ours', 'tf32', 'jax', 'learned',
        learned,
    )  # fmt: skip
    for size in sizes.stylize[1:]:
        yield from _timed(sizes, 1, _stylize(sizes, size, 1), both, ('tf32',))


def _rest(sizes: Sizes) -> Iterator[Item]:
    """Part 6: other numbers of inner steps, other precisions and peers, memory, options."""
    both = ('ours', 'eager')
    for steps in (8, 2):
        yield from _timed(sizes, 6, _meta_step(sizes, steps=steps), both, ('tf32',))
    small = _stylize(sizes, sizes.stylize[0], sizes.batches[0])
    large = _stylize(sizes, sizes.stylize[0], sizes.batches[2])
    one = _meta_step(sizes)
    yield from _timed(sizes, 6, one, ('compile_func', 'graphs', 'channels_last'), ('tf32',))
    for task in (small, large, _adapt(sizes)):
        yield from _timed(sizes, 6, task, PEERS, ('tf32',))
    for task in (one, _adapt(sizes), small, large):
        yield from _timed(sizes, 6, task, both, ('bfloat16',))
    yield from _accuracy(sizes)
    for steps in STEPS:
        yield from _timed(sizes, 6, _meta_step(sizes, steps=steps, params='norm'), both, ('tf32',))
    for params in ('all', 'norm'):
        for steps in STEPS:
            first = _meta_step(sizes, 'first', steps, params)
            yield from _timed(sizes, 6, first, both, ('tf32',))
    yield from _options(sizes)
    yield from _convolutions(sizes)
    for size in sizes.stylize:
        for batch in sizes.batches:
            yield from _timed(sizes, 6, _stylize(sizes, size, batch), both, ('tf32', 'bfloat16'))
    yield from _timed(sizes, 6, large, ('channels_last', 'compile', 'graphs'), ('bfloat16',))
    for steps in (2, 4, 8):
        yield from _timed(sizes, 6, _meta_step(sizes, steps=steps), both, ('highest',))
    yield from _timed(sizes, 6, one, ('func',), ('tf32',))


def _stylize(sizes: Sizes, size: int, batch: int) -> tasks.Task:
    return tasks.Task('stylize', size, batch, (), network=sizes.network)


def _adapt(sizes: Sizes) -> tasks.Task:
    return tasks.Task('adapt', sizes.meta, sizes.contents, (), network=sizes.network)


def _meta_step(
    sizes: Sizes, work: str = 'exact', steps: int = 1, params: str = 'all'
) -> tasks.Task:
    return tasks.Task(
        work, sizes.meta, sizes.contents, (), sizes.styles, steps, params, network=sizes.network
    )


def _timed(
    sizes: Sizes,
    part: int,
    task: tasks.Task,
    variants: Sequence[str],
    precisions: Sequence[str],
) -> Iterator[Item]:
    """Yields the time and the memory of a task for each precision and variant."""
    for precision in precisions:
        if precision == 'bfloat16' and task.work == 'stylize':
            task = task._replace(dtype='bfloat16')
        name = task._replace(dtype='float32').name
        for variant in variants:
            settings = _of_task(sizes, task, variant)
            side = 'jax' if variant in tasks.OURS else 'torch'
            yield Item(part, task.work, name, variant, precision, side, 'task', settings)


def _of_task(sizes: Sizes, task: tasks.Task, variant: str) -> dict[str, Any]:
    """Returns the settings of an item that computes a task."""
    return {
        'task': tasks.as_dict(task),
        'variant': sizes.loop if variant == 'ours' else variant,
    }


def _accuracy(sizes: Sizes) -> Iterator[Item]:
    """Yields the relative error of each precision compared with float64."""
    for task in (
        _stylize(sizes, sizes.stylize[0], sizes.batches[0]),
        _adapt(sizes),
        _meta_step(sizes)._replace(styles=1),
        _meta_step(sizes, steps=4)._replace(styles=1),
    ):
        for precision in PRECISIONS:
            for variant, side in (('ours', 'jax'), ('eager', 'torch')):
                settings = _of_task(sizes, task, variant)
                yield Item(6, 'accuracy', task.name, variant, precision, side, 'accuracy', settings)


def _options(sizes: Sizes) -> Iterator[Item]:
    """Yields options of XLA, ways to place a training step, and formulations of the inner loop."""
    small = _stylize(sizes, sizes.stylize[0], sizes.batches[0])
    one, four = _meta_step(sizes), _meta_step(sizes, steps=4)
    for task in (one, small):
        for variant, options in COMPILER_OPTIONS.items():
            settings = _of_task(sizes, task, 'ours') | {'options': options}
            yield Item(6, 'options', task.name, variant, 'tf32', 'jax', 'program', settings)
    for variant in PLACEMENTS:
        settings = _of_task(sizes, one, 'ours') | {'placement': variant}
        yield Item(6, 'placement', one.name, variant, 'tf32', 'jax', 'placed', settings)
    for variant in ('ours', 'rolled', 'unrolled', 'kept', 'reverse'):
        settings = _of_task(sizes, four, variant)
        yield Item(6, 'loop', four.name, variant, 'tf32', 'jax', 'task', settings)


def _convolutions(sizes: Sizes) -> Iterator[Item]:
    """Yields convolutions of the networks in both layouts: forward pass and both gradients."""
    c, v = sizes.network.width, sizes.network.vgg_width or 64
    layers = {
        'first': (9, 3, c, sizes.meta),
        'block': (3, 4 * c, 4 * c, sizes.meta // 4),
        'last': (9, c, 3, sizes.meta),
        'conv1_2': (3, v, v, sizes.meta),
        'conv3_2': (3, 4 * v, 4 * v, sizes.meta // 4),
        'conv4_2': (3, 8 * v, 8 * v, sizes.meta // 8),
    }
    for precision in ('tf32', 'bfloat16'):
        for layer, (kernel, inputs, outputs, side) in layers.items():
            settings = {
                'kernel': kernel, 'inputs': inputs, 'outputs': outputs, 'side': side,
                'batch': sizes.contents,
            }  # fmt: skip
            name = f'{layer}: {kernel}×{kernel}, {inputs} → {outputs}, {side}²'
            for layout in ('NHWC', 'NCHW'):
                yield Item(
                    6, 'convolutions', name, layout, precision, 'jax', 'convolution',
                    settings | {'layout': layout},
                )  # fmt: skip
