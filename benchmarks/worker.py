"""The worker process of one task and variant: `python -m benchmarks.worker JOB`.

JOB is JSON. The worker prepares the task, answers with one line of JSON, and then answers each
line that it reads from its standard input:

    {"do": "run", "calls": 3}   -> {"seconds": 0.12}   seconds for each call
    {"do": "rate"}              -> {"rate": 1.1e11}    operations per second of a matrix product

All other output of the worker and of libraries goes to its log.
"""

import contextlib
import ctypes
import functools
import gc
import json
import os
import pathlib
import resource
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np

from benchmarks import inputs, tasks
from metastyle_jax.core.devices import allocator


class Runner(Protocol):
    """The work of one side on a task."""

    def call(self) -> None:
        """Starts one run, which may still continue when this returns."""

    def wait(self) -> None:
        """Blocks until all runs are done."""

    def answer(self) -> inputs.Arrays:
        """Returns what both sides must agree in: images, or the gradient of the first run."""

    def temporary(self) -> int | None:
        """Returns the temporary bytes of the compiled program; None if unknown."""


class Job(NamedTuple):
    """The work of a worker process.

    Attributes:
        kind: 'describe' writes the weights and describes the device; 'measure' runs a task.
        network: sizes of the networks, for 'describe'.
        weights: file of weights; 'describe' writes it.
        precision: precision of float32 products, 'highest' or 'tf32'.
        task: the task, for 'measure'.
        variant: variant of the task.
        answer: file for the arrays in which both sides must agree.
        matrix: rows of the matrix product that rates the machine; 0 chooses by device.
    """

    kind: str
    weights: str
    precision: str = 'highest'
    network: tasks.Network = tasks.Network()
    task: tasks.Task | None = None
    variant: str = ''
    answer: str = ''
    matrix: int = 0

    def to_json(self) -> str:
        """Returns the job as one word for a command line."""
        task = tasks.as_dict(self.task) if self.task else None
        return json.dumps(self._asdict() | {'network': self.network._asdict(), 'task': task})


def from_json(text: str) -> Job:
    """Builds a job from the text of `Job.to_json`."""
    fields = json.loads(text)
    task = tasks.from_dict(fields['task']) if fields['task'] else None
    return Job(**fields | {'network': tasks.Network(**fields['network']), 'task': task})


def describe(job: Job) -> dict[str, Any]:
    """Writes the weights, and returns the names of backend and device."""
    import jax

    from benchmarks import ours

    inputs.write_weights(pathlib.Path(job.weights), *ours.initial_weights(job.network))
    device = jax.devices()[0]
    return {'backend': jax.default_backend(), 'device': device.device_kind}


class Server:
    """Prepares a task and runs it on demand.

    Args:
        job: the task and its variant.
    """

    def __init__(self, job: Job) -> None:
        assert job.task is not None
        self._job, self._task = job, job.task
        self._side: Any
        if job.variant not in tasks.OURS:
            from benchmarks import peer_tasks

            self._side = peer_tasks
        else:
            from benchmarks import ours

            self._side = ours
        self._side.set_precision(job.precision)
        # metastyle-adapt and metastyle-train do the same.
        if self._task.work != 'stylize' and job.variant in (*tasks.OURS, 'malloc'):
            allocator.keep_freed_memory()
        self._on_device = self._side.device_peak() is not None
        self._rate: Callable[[], float] | None = None
        self._release: Callable[[], None] = lambda: None

    def prepare(self) -> dict[str, Any]:
        """Builds, compiles and warms up the task; returns times and memory."""
        weights = inputs.read_weights(pathlib.Path(self._job.weights))
        before, task = resident('VmRSS'), self._task
        if task.work == 'pipeline':
            from benchmarks import pipeline

            return {'pipeline': pipeline.measure(task, *weights)}
        self._runner: Runner = self._side.build(task, self._job.variant, *weights)
        self._release = getattr(self._runner, 'release', self._release)
        first = self._timed(1)
        np.savez(self._job.answer, **self._runner.answer())
        reset_resident()
        getattr(self._side, 'reset_peak', lambda: None)()
        again = self._timed(1)
        peak = resident('VmHWM')
        bytes_used = {
            'resident': peak,
            'working': peak - before,
            'temporary': self._runner.temporary(),
            'device': self._side.device_peak(),
        }
        return {'compile': max(first - again, 0.0), 'seconds': again, 'memory': bytes_used}

    def run(self, calls: int) -> dict[str, float]:
        """Times runs of the task; on a GPU, one untimed run comes first."""
        if self._on_device:
            self._timed(1)
        seconds = self._timed(calls)
        self._release()
        return {'seconds': seconds}

    def rate(self) -> dict[str, float]:
        """Returns the operations per second of a matrix product; only for our side."""
        size = self._job.matrix or (8192 if self._on_device else 2048)
        if self._rate is None:
            self._rate = self._side.matrix_rate(size, self._task.dtype)
        return {'rate': 2 * size**3 / self._rate()}

    def _timed(self, calls: int) -> float:
        """Returns the seconds for each call, until all runs are done."""
        begun = time.perf_counter()
        for _ in range(calls):
            self._runner.call()
        self._runner.wait()
        return (time.perf_counter() - begun) / calls


def resident(key: str) -> int:
    """Returns the resident bytes now (VmRSS) or their peak (VmHWM); the peak if not on Linux."""
    try:
        lines = pathlib.Path('/proc/self/status').read_text('ascii', 'replace').splitlines()
        (line,) = (line for line in lines if line.startswith(key))
        return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == 'darwin' else peak * 1024


def reset_resident() -> None:
    """Resets the peak of resident memory if the system can, so that compiling does not count."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    with contextlib.suppress(OSError):
        pathlib.Path('/proc/self/clear_refs').write_text('5', 'ascii')


def _explain(error: BaseException) -> str:
    """Returns type and message of an error in one line."""
    text = ' '.join(str(error).split())
    return f'{type(error).__name__}: {text[:300]}'


def serve(
    prepare: Callable[[], dict[str, Any]],
    respond: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
) -> None:
    """Answers with the result of `prepare`, then answers requests until the standard input ends.

    Args:
        prepare: called once.
        respond: called with each request; None to stop after the first answer.
    """
    replies = os.fdopen(os.dup(1), 'w', encoding='utf-8')
    os.dup2(2, 1)  # output of libraries must not mix with the replies

    def reply(act: Callable[[], dict[str, Any]]) -> None:
        try:
            message = act()
        except Exception as error:  # the report shows any failure as a reason
            traceback.print_exc()
            message = {'error': _explain(error)}
        replies.write(json.dumps(message) + '\n')
        replies.flush()

    reply(prepare)
    if respond is not None:
        for line in sys.stdin:
            reply(functools.partial(respond, json.loads(line)))


def main() -> None:
    """Answers requests until the standard input ends."""
    job = from_json(sys.argv[1])
    if job.kind == 'describe':
        serve(lambda: describe(job))
        return
    servers: list[Server] = []

    def start() -> dict[str, Any]:
        servers.append(Server(job))
        return servers[0].prepare()

    def respond(command: dict[str, Any]) -> dict[str, Any]:
        (server,) = servers
        return server.run(command['calls']) if command['do'] == 'run' else server.rate()

    serve(start, respond)


if __name__ == '__main__':
    main()
