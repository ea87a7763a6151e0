"""Opens every program in every client, compares the outputs, and times the clients in turn."""

import contextlib
import pathlib
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks import inputs, process
from benchmarks.clients import catalogue, programs
from metastyle_jax.adaptation import adapt
from metastyle_jax.stylization import styled_network

_HERE = pathlib.Path(__file__).parent
_REST = 0.3  # seconds between measurements; threads of the last client still spin for a while


class Options(NamedTuple):
    """How to measure.

    Attributes:
        environments: folder of the virtual environments, one for each client.
        out: folder for programs, images and logs.
        style: style file; None for a style that is made up.
        repeats: rounds of times; 0 for no times.
        limit: most seconds for one answer.
    """

    environments: pathlib.Path
    out: pathlib.Path
    style: str | None
    repeats: int
    limit: float


def measure(
    clients: Sequence[catalogue.Client],
    options: Options,
    say: Callable[..., None] = lambda *arguments: None,
    network: styled_network.StyledNetwork | None = None,
) -> dict[str, Any]:
    """Measures all clients.

    Args:
        clients: from the catalogue.
        options: how to measure.
        say: called with lines of progress.
        network: of the programs; None for the one of `options.style`.

    Returns:
        JSON types: for each client and variant the largest difference or the reason of a failure,
        and the seconds at each size.
    """
    network = network or _network(options.style)
    made = programs.Programs(network, options.out / 'programs')
    results: dict[str, Any] = {
        'rounding': {name: made.rounding(name) for name in ('float16', 'int8')},
        'clients': {},
    }
    with contextlib.ExitStack() as stack:
        workers = {}
        for client in clients:
            say('%s', client.name)
            try:
                worker = stack.enter_context(_started(client, options))
                found = {
                    variant.name: _compared(worker, client, variant, made)
                    for variant in programs.VARIANTS
                    if client.format == 'onnx' or variant.precision == 'float32'
                }
                if client.opener == 'torch':
                    found['coreml'] = _converted(worker, made)
                workers[client.name] = worker
            except OSError as error:
                found = {each.name: {'error': str(error)} for each in programs.VARIANTS}
            results['clients'][client.name] = {'version': client.version, 'variants': found}
            say('  %s', found)
        timed = {each.name: each for each in clients if each.name in workers and not each.slow}
        for size in programs.TIMED if options.repeats else ():
            say('times at %d x %d', *size)
            times = _times(timed, workers, made, size, options.repeats)
            say('  %s', times)
            for name, seconds in times.items():
                row = results if name == 'jax' else results['clients'][name]
                row.setdefault('seconds', {})[str(size[0])] = seconds
    return results


def _network(style: str | None) -> styled_network.StyledNetwork:
    """The network of a style file, or of a style that is made up."""
    if style is None:
        image = inputs.images(1, 128, seed=2)[0]
        return styled_network.load(adapt.adapt(image, steps=10, batch=1, size=64, style_size=128))
    return styled_network.load(style)


@contextlib.contextmanager
def _started(client: catalogue.Client, options: Options) -> Iterator[process.Process]:
    """A process of a client."""
    folder = (options.environments / client.environment).resolve()
    work = (options.out / client.opener / client.environment).resolve()
    work.mkdir(parents=True, exist_ok=True)
    if client.environment != catalogue.NODE:
        command = [folder / 'bin' / 'python', _HERE / 'worker.py', client.opener, work]
    elif client.opener == 'node':
        command = ['node', _HERE / 'worker.mjs', folder]
    else:
        command = [sys.executable, _HERE / 'browser.py', client.opener, folder]
    started = process.Process(list(map(str, command)), work / 'log', options.limit)
    try:
        yield started
    finally:
        started.close()


def _compared(
    worker: process.Process,
    client: catalogue.Client,
    variant: programs.Variant,
    made: programs.Programs,
) -> dict[str, Any]:
    """Runs a variant on images of several sizes, and compares the outputs with those of JAX."""
    sizes = (programs.TINY,) if client.slow else (programs.ODD, programs.TIMED[0])
    found: dict[str, Any] = {'difference': 0.0}
    try:
        for size in sizes:
            _open(worker, client, variant, made, size)
            answer, output = _run(worker, variant, made, size)
            wanted = made.wanted(variant, size)
            found['dtype'] = answer['dtype']
            difference = programs.difference(output, wanted)
            found['difference'] = max(found['difference'], difference)
    except process.WorkerError as error:
        found['error'] = str(error)
    return found


def _open(
    worker: process.Process,
    client: catalogue.Client,
    variant: programs.Variant,
    made: programs.Programs,
    size: programs.Size,
) -> None:
    """Opens the program of a variant, for any size or for this one."""
    fixed = client.needs_fixed_size(variant.name)
    file = made.file(variant, client.format, size if fixed else None)
    worker.ask(open=str(file), size=size)


def _run(
    worker: process.Process, variant: programs.Variant, made: programs.Programs, size: programs.Size
) -> tuple[dict[str, Any], np.ndarray]:
    """Runs the open program on one image; returns the answer and the output."""
    images = made.images(variant.pixels, size)
    given, out = (made.folder / f'{name}.bin' for name in ('images', 'made'))
    images.tofile(given)
    answer = worker.ask(
        run=str(given), shape=list(images.shape), dtype=variant.pixels, out=str(out)
    )
    return answer, np.fromfile(out, answer['dtype']).reshape(images.shape)


def _converted(worker: process.Process, made: programs.Programs) -> dict[str, Any]:
    """Converts a program of a fixed size to Core ML."""
    file = made.file(programs.VARIANTS[0], 'onnx', programs.TIMED[0])
    try:
        worker.ask(coreml=str(file))
    except process.WorkerError as error:
        return {'error': str(error)}
    return {}


def _times(
    clients: dict[str, catalogue.Client],
    workers: dict[str, process.Process],
    made: programs.Programs,
    size: programs.Size,
    repeats: int,
) -> dict[str, float]:
    """Median seconds of each client and of JAX for one image. In each round, each runs once."""
    variant = programs.VARIANTS[0]
    seconds: dict[str, list[float]] = {'jax': []}
    made.seconds(size)
    for name, client in clients.items():
        with contextlib.suppress(process.WorkerError):
            _open(workers[name], client, variant, made, size)
            _run(workers[name], variant, made, size)
            seconds[name] = []
    for _ in range(repeats):
        for name, values in seconds.items():
            time.sleep(_REST)
            if name == 'jax':
                values.append(made.seconds(size))
                continue
            answer, _output = _run(workers[name], variant, made, size)
            values.append(answer['seconds'])
    return {name: statistics.median(values) for name, values in seconds.items()}
