"""Starts workers, compares their answers, times them in turn, and collects the results.

Each task and variant has a process of its own, so that its peak memory can be measured. First, all
variants of a task are prepared. Then, in each round, each variant runs once while the others wait.
Ratios are taken within a round, so that other programs of the machine affect all variants alike.
"""

import contextlib
import datetime
import math
import pathlib
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from benchmarks import flops, machine, process, tasks, worker

_LEAST = 0.05  # shortest measurement in seconds
_REST = 0.3  # seconds between measurements; threads of the last variant still spin for a while
# Largest disagreement that rounding can cause: absolute for images, relative to the largest element
# for gradients. An untrained θ makes flat images; there, rounding switches some ReLU or maximum of
# the loss network, which changes the gradient. Gradients of PyTorch in float32 and in float64
# differ by up to 0.3 % at 64² for this reason. On networks without such units the tests ask for
# 0.1 %.
_TOLERANCES = {
    ('stylize', 'float32', 'highest'): 1e-4,
    ('stylize', 'float32', 'tf32'): 2e-2,
    ('stylize', 'bfloat16', 'highest'): 1e-1,
    ('stylize', 'bfloat16', 'tf32'): 1e-1,
    ('adapt', 'float32', 'highest'): 5e-3,
    ('adapt', 'float32', 'tf32'): 1e-1,
    ('exact', 'float32', 'highest'): 5e-3,
    ('exact', 'float32', 'tf32'): 1e-1,
    ('first', 'float32', 'highest'): 5e-3,
    ('first', 'float32', 'tf32'): 1e-1,
}


class Options(NamedTuple):
    """How to measure.

    Attributes:
        out: folder of results and logs.
        repeats: number of rounds.
        precision: precision of float32 products, 'highest' or 'tf32'.
        limit: largest number of seconds for one answer of a worker.
        matrix: rows of the matrix product that rates the machine; 0 chooses by device.
    """

    out: pathlib.Path
    repeats: int = 7
    precision: str = 'highest'
    limit: float = 1800.0
    matrix: int = 0


def run(
    table: list[tasks.Task],
    options: Options,
    facts: dict[str, Any],
    weights: dict[tasks.Network, pathlib.Path],
    *,
    keep: Callable[[dict[str, Any]], None],
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Measures all tasks.

    Args:
        table: tasks.
        options: how to measure.
        facts: result of `machine.describe`.
        weights: file of weights of each network in the table.
        keep: called with the results after each task.
        say: called with a line of progress before each task.

    Returns:
        The results, as `results.json` stores them.
    """
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds')
    results: dict[str, Any] = {
        'machine': facts, 'date': now, 'precision': options.precision,
        'repeats': options.repeats, 'tasks': [],
    }  # fmt: skip
    for i, task in enumerate(table):
        say(f'{i + 1}/{len(table)} {task.name}')
        results['tasks'].append(measure(task, options, weights[task.network]))
        keep(results)
    return results


def measure(task: tasks.Task, options: Options, weights: pathlib.Path) -> dict[str, Any]:
    """Prepares all variants of a task, compares their answers, and times those that agree."""
    rows: dict[str, dict[str, Any]] = {variant: {} for variant in task.variants}
    workers: dict[str, process.Worker] = {}
    with tempfile.TemporaryDirectory() as folder:
        answers = {variant: pathlib.Path(folder, f'{variant}.npz') for variant in task.variants}
        try:
            for variant in task.variants:
                if variant not in tasks.OURS and not machine.has_torch():
                    rows[variant]['reason'] = machine.MISSING
                    continue
                job = worker.Job(
                    'measure', str(weights), options.precision, task.network, task, variant,
                    str(answers[variant]), options.matrix,
                )  # fmt: skip
                log = re.sub('[^a-z0-9=]+', '-', f'{task.name} {variant}'.lower()) + '.log'
                workers[variant] = process.Worker(job, options.out / log, options.limit)
                with _excused(rows, workers, variant):
                    rows[variant].update(workers[variant].answer())
                    if task.work != 'pipeline' and variant != task.variants[0]:
                        _agree(rows[variant], job, answers[task.variants[0]])
            rates = _rounds(rows, workers, options.repeats)
        finally:
            for each in workers.values():
                each.close()
    return _entry(task, rows, rates)


def disagreements(results: dict[str, Any]) -> list[str]:
    """Returns a sentence for each variant whose answer differs from ours."""
    rows = [row for task in results['tasks'] for row in task['variants'].values()]
    return [row['reason'] for row in rows if row.get('disagrees')]


class Disagreement(process.WorkerError):
    """The answer of a variant differs from ours."""


@contextlib.contextmanager
def _excused(
    rows: dict[str, dict[str, Any]], workers: dict[str, process.Worker], variant: str
) -> Iterator[None]:
    """Records the failure of a worker as the reason in its row, and ends the worker."""
    try:
        yield
    except process.WorkerError as error:
        rows[variant]['reason'] = str(error)
        rows[variant]['disagrees'] = isinstance(error, Disagreement)
        workers.pop(variant).close()


def disagreement(found: pathlib.Path, expected: pathlib.Path) -> float:
    """Returns the difference between two answers.

    Args:
        found: file of arrays by name.
        expected: file of the reference, in the same form.

    Returns:
        `max |a - b|` for images; `max |a - b| / max |b|` over all parameters for gradients.

    Raises:
        process.WorkerError: there is no reference.
    """
    if not expected.exists():
        raise process.WorkerError('there is no answer of ours to compare with')
    with np.load(found) as a, np.load(expected) as b:
        if a.keys() != b.keys():
            return math.inf
        apart = max(float(np.max(np.abs(a[name] - b[name]))) for name in b)
        largest = max(float(np.max(np.abs(b[name]))) for name in b)
        return apart if 'images' in b else apart / largest


def _agree(row: dict[str, Any], job: worker.Job, expected: pathlib.Path) -> None:
    """Compares the answer of a variant with ours; raises Disagreement, also for NaN."""
    assert job.task is not None
    kind = 'images' if job.task.work == 'stylize' else 'gradient'
    tolerance = _TOLERANCES[job.task.work, job.task.dtype, job.precision]
    found = disagreement(pathlib.Path(job.answer), expected)
    if not found <= tolerance:
        raise Disagreement(
            f'{kind} of {job.task.name}, {job.variant}: differs by {found:.3g}, '
            f'but at most {tolerance:.0e} is allowed'
        )
    row['disagreement'] = found


def _rounds(
    rows: dict[str, dict[str, Any]], workers: dict[str, process.Worker], repeats: int
) -> list[float]:
    """Times the variants in turn and returns the rates of matrix products.

    Each round begins with another variant.
    """
    rates: list[float] = []
    for i in range(repeats):
        order = [variant for variant in rows if 'seconds' in rows[variant]]
        if 'ours' in workers and 'ours' in order:
            with _excused(rows, workers, 'ours'):
                rates.append(workers['ours'].ask(do='rate')['rate'])
        shift = i % max(len(order), 1)
        for variant in order[shift:] + order[:shift]:
            if variant not in workers:
                continue
            with _excused(rows, workers, variant):
                calls = max(1, math.ceil(_LEAST / rows[variant]['seconds']))
                time.sleep(_REST)
                found = workers[variant].ask(do='run', calls=calls)
                rows[variant].setdefault('rounds', []).append(found['seconds'])
    return rates


def summary(values: list[float]) -> dict[str, float]:
    """Returns the median and the quartiles."""
    q1, median, q3 = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
    return {'median': median, 'q1': q1, 'q3': q3}


def _entry(task: tasks.Task, rows: dict[str, dict[str, Any]], rates: list[float]) -> dict[str, Any]:
    """Returns the results of a task, as `results.json` stores them."""
    needed = flops.needed(task)
    ours = rows.get('ours', {}).get('rounds', [])
    for row in rows.values():
        if 'reason' in row or 'seconds' not in row:
            continue
        row['time'] = summary(row.get('rounds', [row['seconds']]))
        if ours and 'rounds' in row and 'reason' not in rows['ours']:
            pairs = zip(ours, row['rounds'], strict=True)
            row['ours_over_this'] = summary([a / b for a, b in pairs])
        if rates and needed:
            rate = statistics.median(rates)
            row['fraction'] = needed / (row['time']['median'] * rate)
    entry = {'name': task.name, **tasks.as_dict(task), 'variants': rows, 'needed': needed}
    return entry | ({'rate': summary(rates)} if rates else {})
