"""Finds tasks and numbers in the results of a benchmark."""

import statistics
from typing import Any

Results = dict[str, Any]


def find_task(results: Results, variant: str = 'ours', **fields: Any) -> dict | None:
    """Finds the task with these fields and the largest images for which a variant was measured."""
    found = None
    for task in results['tasks']:
        row = task['variants'].get(variant, {})
        if 'reason' not in row and row and all(task[k] == v for k, v in fields.items()):
            found = task if found is None or task['size'] > found['size'] else found
    return found


def entry_of(task: dict | None, variant: str, *path: str) -> Any:
    """Returns an entry of the row of a variant; None if it is missing."""
    found: Any = task['variants'].get(variant) if task else None
    for key in path:
        found = found.get(key) if found else None
    return found


def ratio_to_eager(task: dict | None) -> float | None:
    """Returns the median ratio of ours to eager PyTorch."""
    return entry_of(task, 'eager', 'ours_over_this', 'median')


def fastest_ratio_to_eager(task: dict | None) -> float | None:
    """Returns the ratio to eager of our faster variant: inner steps recomputed or kept."""
    kept = (task and paired_ratio(task, 'kept', 'eager')) or {}
    return min((r for r in (ratio_to_eager(task), kept.get('median')) if r), default=None)


def median_time(task: dict | None) -> float | None:
    """Returns our median time in seconds."""
    return entry_of(task, 'ours', 'time', 'median')


def fraction_of_rate(task: dict | None) -> float | None:
    """Returns our share of the rate of a matrix product."""
    return entry_of(task, 'ours', 'fraction')


def memory_of(task: dict | None, variant: str, kind: str = '') -> int | None:
    """Returns bytes of memory: on the device if it tells, else growth of the resident set."""
    if kind:
        return entry_of(task, variant, 'memory', kind)
    device = entry_of(task, variant, 'memory', 'device')
    return device or entry_of(task, variant, 'memory', 'working')


def paired_ratio(task: dict, variant: str, peer: str) -> dict[str, float] | None:
    """Returns the ratio of one of our variants to a peer; None unless both were timed."""
    rounds = [entry_of(task, name, 'rounds') for name in (variant, peer)]
    if not all(entry_of(task, name, 'time') for name in (variant, peer)) or not all(rounds):
        return None
    values = sorted(a / b for a, b in zip(*rounds, strict=True))
    q1, median, q3 = statistics.quantiles(values, method='inclusive') if values[1:] else values * 3
    return {'median': median, 'q1': q1, 'q3': q3}


def is_on_gpu(results: Results) -> bool:
    """Whether the results were measured on a GPU."""
    return results['machine']['backend'] == 'gpu'


def tasks_of(results: Results, work: str) -> list[dict]:
    """Returns the tasks of a kind of work."""
    return [task for task in results['tasks'] if task['work'] == work]
