"""The worker process of one side: `python -m benchmarks.accelerator.worker SIDE JOB`.

SIDE is 'jax' or 'torch', JOB is JSON. The worker answers with a description of its device, and then
answers each line, an item as JSON, with its result. The JAX side writes the file of weights.
"""

import json
import pathlib
import sys
from typing import Any, NamedTuple

from benchmarks import inputs, tasks, worker
from benchmarks.accelerator.work import timing
from metastyle_jax.core.devices import allocator
from metastyle_jax.core.errors import UserError


class SideJob(NamedTuple):
    """What all items of a worker have in common.

    Attributes:
        weights: file of weights of both networks.
        network: sizes of the networks.
        small: whether to measure for a short time only.
    """

    weights: str
    network: dict[str, int]
    small: bool


def main() -> None:
    """Answers requests until the standard input ends."""
    side, job = sys.argv[1], SideJob(**json.loads(sys.argv[2]))
    file, effort = pathlib.Path(job.weights), timing.SMALL if job.small else timing.Effort()
    modules: list[Any] = []

    def prepare() -> dict[str, Any]:
        allocator.keep_freed_memory()
        if side == 'torch':
            from benchmarks.accelerator.work import torch_side

            modules.append(torch_side)
            return torch_side.describe()
        from benchmarks.accelerator.work import jax_side

        modules.append(jax_side)
        return jax_side.describe() | {'weights': write_weights(file, job.network)}

    def respond(request: dict[str, Any]) -> dict[str, Any]:
        weights = inputs.read_weights(file)
        words = (request[name] for name in ('work', 'settings', 'precision'))
        return modules[0].measure(*words, weights, effort)

    worker.serve(prepare, respond)


def write_weights(file: pathlib.Path, network: dict[str, int]) -> str:
    """Writes the weights of both networks unless the file exists; returns which loss network it is.

    Without the file of VGG-16, the loss network has random weights in the same shapes, which need
    the same time.
    """
    from benchmarks import ours

    sizes = tasks.Network(**network)
    note = file.with_suffix('.txt')
    if not (file.exists() and note.exists()):
        kind = 'VGG of random weights' if sizes.vgg_width else 'VGG-16'
        try:
            arrays = ours.initial_weights(sizes)
        except UserError as error:
            kind = f'VGG-16 with random weights ({str(error)[:80]})'
            arrays = ours.initial_weights(sizes._replace(vgg_width=64))
        part = file.with_suffix('.part.npz')
        inputs.write_weights(part, *arrays)
        part.replace(file)
        note.write_text(kind, 'utf-8')
    return note.read_text('utf-8')


if __name__ == '__main__':
    main()
