"""Measures meta-gradients beside plain JAX, torch.func and TorchOpt.

  python -m benchmarks.meta --repeats=5 --out=runs/meta

Run it from the root of the repository, on a machine that does nothing else. PyTorch and TorchOpt
come with pip install '.[bench]'.
"""

import argparse
import json
import os
import pathlib
import statistics
import time
from typing import Any

import jax
import numpy as np

from benchmarks.meta import problems, variants

BASELINE = 'plain JAX'


def measure(task: problems.Task, names: list[str], repeats: int) -> dict[str, Any]:
    """Times all variants once per round, so that a slow moment of the machine hits all of them.

    Args:
        task: the problem.
        names: the variants.
        repeats: number of rounds.

    Returns:
        For each variant the median time, its median ratio to plain JAX within a round, bytes of
        compiled temporary memory, and the largest relative disagreement with plain JAX.
    """
    runners, missing = {}, {}
    for name in names:
        try:
            runners[name] = variants.prepare(name, task)
        except ImportError as error:
            missing[name] = {'reason': str(error)}
    results = {name: runner.run() for name, runner in runners.items()}
    rounds: dict[str, list[float]] = {name: [] for name in runners}
    for _ in range(repeats):
        for name, runner in runners.items():
            begin = time.perf_counter()
            runner.run()
            rounds[name].append(time.perf_counter() - begin)
    return missing | {
        name: {
            'seconds': statistics.median(rounds[name]),
            'ratio': statistics.median(
                a / b for a, b in zip(rounds[name], rounds[BASELINE], strict=True)
            ),
            'bytes': runners[name].bytes,
            'disagreement': disagreement(results[name], results[BASELINE]),
        }
        for name in runners
    }


def disagreement(found: dict[str, Any], expected: dict[str, Any]) -> float:
    """Largest difference of two gradients, relative to the largest element."""
    largest = max(float(np.max(np.abs(x))) for x in expected.values())
    return max(float(np.max(np.abs(found[k] - expected[k]))) for k in expected) / largest


def render(results: dict[str, Any]) -> str:
    """The results as a Markdown table."""
    lines = [
        '| problem | variant | ms | time / plain | MiB | disagreement |',
        '|---|---|---|---|---|---|',
    ]
    for problem, rows in results.items():
        for name, row in rows.items():
            if 'reason' in row:
                lines.append(f'| {problem} | {name} | – | – | – | {row["reason"]} |')
                continue
            size = '–' if row['bytes'] is None else f'{row["bytes"] / 2**20:.1f}'
            numbers = f'{1e3 * row["seconds"]:.1f} | {row["ratio"]:.2f} | {size}'
            lines.append(f'| {problem} | {name} | {numbers} | {row["disagreement"]:.0e} |')
    return '\n'.join(lines)


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('--repeats', type=int, default=7, help='Number of rounds.')
    parser.add_argument('--problems', default='', help='Only problems whose name contains this.')
    parser.add_argument('--no-torch', action='store_true', help='Leaves PyTorch out.')
    parser.add_argument('--out', default='runs/meta', help='Folder of results.json, results.md.')
    options = parser.parse_args()
    names = [*variants.JAX, *(() if options.no_torch else variants.TORCH)]
    out, results = pathlib.Path(options.out), {}
    out.mkdir(parents=True, exist_ok=True)
    for task in problems.all_tasks():
        if options.problems in task.name:
            results[task.name] = measure(task, names, options.repeats)
            print(render({task.name: results[task.name]}), flush=True)
    machine = {
        'device': jax.devices()[0].device_kind,
        'cores': os.cpu_count(),
        'jax': jax.__version__,
    }
    text = json.dumps({'machine': machine, 'results': results}, indent=1)
    (out / 'results.json').write_text(text + '\n', encoding='utf-8')
    (out / 'results.md').write_text(render(results) + '\n', encoding='utf-8')


if __name__ == '__main__':
    main()
