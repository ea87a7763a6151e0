"""What the PyTorch process measures: the peers of `benchmarks.peer_tasks`, and further variants.

graphs      eager, recorded as a CUDA graph that is replayed; its inputs stay on the device
bfloat16    both networks and their images in bfloat16; parameters and optimizer too
"""

from typing import Any

import numpy as np
import torch

from benchmarks import inputs, peer_tasks, tasks
from benchmarks.accelerator.work import errors, timing

Weights = tuple[inputs.Arrays, inputs.Arrays]
Result = dict[str, Any]
_WARM_UP = 3  # runs before a CUDA graph is recorded, in which libraries choose their algorithms


def describe() -> dict[str, Any]:
    """Returns the device."""
    gpu = torch.cuda.is_available()
    return {'cuda': torch.version.cuda, 'device': torch.cuda.get_device_name() if gpu else 'cpu'}


def measure(
    work: str, settings: dict[str, Any], precision: str, weights: Weights, effort: timing.Effort
) -> Result:
    """Measures one item; the arguments are those of `jax_side.measure`."""
    peer_tasks.set_precision('tf32' if precision == 'tf32' else 'highest')
    torch.compiler.reset()
    try:
        return _WORKS[work](settings, precision, weights, effort)
    finally:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _task(settings: dict, precision: str, weights: Weights, effort: timing.Effort) -> Result:
    """Time and memory of a task in one variant."""
    variant = settings['variant']
    runner = _build(settings, 'eager' if variant == 'graphs' else variant, precision, weights)
    call = replayed(runner) if variant == 'graphs' else runner.call
    found = timing.first_and_rounds(call, runner.wait, effort)
    peer_tasks.reset_peak()
    call()
    runner.wait()
    return found | {'memory': peer_tasks.device_peak()}


def _accuracy(settings: dict, precision: str, weights: Weights, effort: timing.Effort) -> Result:
    """The relative error of a result, compared with the same computation in float64."""
    del effort
    answers = []
    for each in (precision, 'float64'):
        runner = _build(settings, 'eager', each, weights)
        runner.call()
        runner.wait()
        answers.append(runner.answer())
    return errors.compare(*answers)


def _build(settings: dict, variant: str, precision: str, weights: Weights) -> Any:
    """Builds the runner of a task."""
    task = tasks.from_dict(settings['task'])
    if task.work == 'stylize':
        kind = precision if precision in ('bfloat16', 'float64') else 'float32'
        return peer_tasks.build(task._replace(dtype=kind), variant, *weights)
    runner = peer_tasks.build(task, variant, *weights)
    if precision in ('bfloat16', 'float64'):
        _cast(runner, getattr(torch, precision))
    return runner


def _cast(runner: Any, dtype: torch.dtype) -> None:
    """Converts the parameters, the loss network and the images of a learner."""
    load = runner.images
    runner.params = {
        name: p.detach().to(dtype).requires_grad_() for name, p in runner.params.items()
    }
    runner.vgg = {name: p.to(dtype) for name, p in runner.vgg.items()}
    runner.images = lambda pixels: load(pixels).to(dtype)
    runner.optimizer = torch.optim.Adam(runner.params.values(), lr=peer_tasks.RATE)
    if isinstance(runner, peer_tasks.Adapt):
        runner._grams = [each.to(dtype) for each in runner._grams]


def replayed(runner: Any) -> Any:
    """Records a run as a CUDA graph, and returns the function that replays it.

    Args:
        runner: a runner of `peer_tasks` that was not called before.

    Raises:
        RuntimeError: there is no CUDA device.
    """
    if not torch.cuda.is_available():
        raise RuntimeError('CUDA graphs need an NVIDIA GPU')
    hold_images(runner)
    if isinstance(runner, peer_tasks.Learner):
        for group in runner.optimizer.param_groups:
            group['capturable'] = True  # the step count must be on the device
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(_WARM_UP):
            runner.call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        runner.call()
    return graph.replay


def hold_images(runner: Any) -> None:
    """Makes a runner keep its images on the device; a graph must not copy from the host.

    A runner loads the same images in the same order in each run. After the first run, nothing is
    loaded any more.
    """
    load, call = runner.images, runner.call
    held: list[torch.Tensor] = []
    place = 0

    def images(pixels: np.ndarray) -> torch.Tensor:
        nonlocal place
        if place == len(held):
            held.append(load(pixels))
        place += 1
        return held[place - 1]

    def again() -> None:
        nonlocal place
        place = 0
        call()

    runner.images, runner.call = images, again


_WORKS = {'task': _task, 'accuracy': _accuracy}
