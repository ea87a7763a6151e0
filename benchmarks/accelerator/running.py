"""Goes through the list of measurements within a budget of time, and appends each result at once.

JAX and PyTorch are two processes that live as long as nothing fails in them, because starting one
takes seconds. After a failure, the process is replaced by a new one.
"""

import json
import pathlib
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from benchmarks import machine, process
from benchmarks.accelerator import items, store, worker

_STOP = 30.0  # seconds that a training run gets to save a checkpoint
_LEAST_TRAINING = 60.0  # seconds; in less time, a training run only compiles
# Flags of XLA by which programs compile in less time and run more slowly.
_CHEAP = '--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true'
_FULL = ('RESOURCE_EXHAUSTED', 'out of memory', 'OutOfMemory')
Outcome = tuple[str, dict[str, Any]]


class Options(NamedTuple):
    """How to measure.

    Attributes:
        out: folder of results, logs and weights.
        seconds: no new item starts after so many seconds.
        limit: largest number of seconds for one item.
        sizes: sizes of the measurements.
        small: whether the sizes are small.
        again: whether items that failed are measured again.
    """

    out: pathlib.Path
    seconds: float = 560.0
    limit: float = 150.0
    sizes: items.Sizes = items.FULL
    small: bool = False
    again: bool = False

    @property
    def file(self) -> pathlib.Path:
        """File of the results."""
        return self.out / 'results.jsonl'


class Workers:
    """The processes of both sides; each is started when it is first needed."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._running: dict[str, process.Process] = {}
        self._unable: dict[str, str] = {}  # side -> why it cannot start
        self.facts: dict[str, dict[str, Any]] = {}  # side -> description of its device

    def start(self, side: str, limit: float) -> process.Process:
        """Returns the process of a side.

        Raises:
            process.WorkerError: it could not be started.
        """
        if side in self._unable:
            raise process.WorkerError(self._unable[side])
        if side not in self._running:
            if side == 'torch' and not machine.has_torch():
                self._unable[side] = machine.MISSING
                raise process.WorkerError(machine.MISSING)
            options = self._options
            kind = 'small' if options.small else 'full'
            job = worker.SideJob(
                str(options.out / f'weights-{kind}.npz'), options.sizes.network._asdict(),
                options.small,
            )  # fmt: skip
            command = [sys.executable, '-m', 'benchmarks.accelerator.worker', side]
            command.append(json.dumps(job._asdict()))
            started = process.Process(
                command, options.out / f'{side}.log', limit, _environment(options)
            )
            self._running[side] = started
            try:
                self.facts[side] = started.answer(limit)
            except process.WorkerError as error:
                self.close(side)
                if side not in self.facts:  # it never worked
                    self._unable[side] = f'the process of {side} does not start: {error}'
                raise
        return self._running[side]

    def measure(self, item: items.Item, limit: float) -> dict[str, Any]:
        """Measures an item.

        Raises:
            process.WorkerError: it failed. The process is then ended.
        """
        try:
            request = {'settings': item.settings, 'work': item.work}
            return self.start(item.side, limit).ask(
                limit=limit, precision=item.precision, **request
            )
        except process.WorkerError as error:
            self.close(item.side)
            others = [side for side in self._running if side != item.side]
            if others and any(word in str(error) for word in _FULL):
                # The other process may hold the memory that is missing.
                for side in others:
                    self.close(side)
                return self.measure(item, limit)
            raise

    def close(self, *sides: str) -> None:
        """Ends the processes of some sides; of all if none is named."""
        for side in sides or tuple(self._running):
            if side in self._running:
                self._running.pop(side).close()


def run(
    table: list[items.Item],
    options: Options,
    *,
    say: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """Measures what is not yet measured, in order, until the time is over.

    Args:
        table: the list.
        options: how to measure.
        say: called with a line after each item.
        clock: returns seconds.

    Returns:
        Number of items that are left.

    Raises:
        process.WorkerError: JAX does not start.
    """
    end = clock() + options.seconds
    done = store.outcomes(store.read(options.file))
    finished: Collection[str] = ('done',) if options.again else ('done', 'failed')
    workers = Workers(options)
    try:
        workers.start('jax', options.limit)
        facts = {'small': options.small, **workers.facts['jax'], **machine.versions()}
        keys = [store.key_of(item, facts) for item in table]
        left = [i for i, key in enumerate(keys) if done.get(key) not in finished]
        say(f'{facts["device"]}: {len(table) - len(left)} of {len(table)} items are there')
        while left and clock() < end:
            item = table[left[0]]
            begun = clock()
            if item.side == 'command':
                if end - begun < _LEAST_TRAINING and not options.small:
                    break
                workers.close()  # the memory of the device is for the training run
                outcome, found = _train(item, options, end - begun)
            else:
                outcome, found = _measure(workers, item, options.limit)
            line = store.line_of(item, facts, outcome, clock() - begun, **found)
            store.append(options.file, line)
            say(_describe(line))
            left.pop(0)
    finally:
        workers.close()
    if left:
        say(f'{len(left)} items are left; the same command continues')
    return len(left)


def _environment(options: Options) -> dict[str, str]:
    """Returns the environment variables of workers."""
    env = process.environment()
    if options.small:  # compiling takes nearly all of the time of a trial
        env['XLA_FLAGS'] = f'{env.get("XLA_FLAGS", "")} {_CHEAP}'
    return env


def _measure(workers: Workers, item: items.Item, limit: float) -> Outcome:
    try:
        return 'done', {'result': workers.measure(item, limit)}
    except process.WorkerError as error:
        return 'failed', {'message': str(error)}


def _train(item: items.Item, options: Options, seconds: float) -> Outcome:
    """Runs a command until it ends or the time is over."""
    log = options.out / (re.sub('[^a-z0-9]+', '-', item.name.lower()).strip('-') + '.log')
    with log.open('ab') as stream:
        started = subprocess.Popen(
            item.settings['command'], stdout=stream, stderr=stream, cwd=process.ROOT,
            env=_environment(options),
        )  # fmt: skip
        try:
            code = started.wait(seconds)
        except subprocess.TimeoutExpired:
            return 'stopped', {'message': 'the time was over; the next call continues'}
        finally:
            _stop(started)
    if code == 0:
        return 'done', {'result': {'log': log.name}}
    last = log.read_text('utf-8', 'replace').strip().split('\n')[-1]
    return 'failed', {'message': f'exit code {code}: {last[:300]}'}


def _stop(started: subprocess.Popen) -> None:
    """Stops a training run, which then saves a checkpoint."""
    if started.poll() is None:
        started.send_signal(signal.SIGTERM)
        try:
            started.wait(_STOP)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


def _describe(line: store.Line) -> str:
    """Returns the progress line of a result."""
    item = items.Item(**line['item'])
    found = line.get('result', {})
    what = line['outcome'] if line['outcome'] != 'done' else ''
    if 'seconds' in found:
        what = f'{1e3 * found["seconds"]["median"]:.3g} ms'
        what += f', compiling {found["compile"]:.1f} s' if 'compile' in found else ''
    if 'rate' in found:
        what += f', {found["rate"] / 1e12:.3g} TFLOP/s'
    if 'relative' in found:
        what = f'relative error {found["relative"]:.2g}'
    reason = f' ({line["message"][:120]})' if 'message' in line else ''
    return f'{item.key}: {what}{reason} [{line["took"]:.1f} s]'
