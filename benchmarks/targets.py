"""Targets: what the project wants to reach, and what was measured."""

from typing import NamedTuple

from benchmarks import lookup, pipeline, tasks
from benchmarks.lookup import Results


class Target(NamedTuple):
    """A line of the section on targets.

    Attributes:
        name: the quantity and the task it was measured on.
        goal: bound of the quantity.
        measured: its value; None if it was not measured.
        at_least: whether the goal is a lower bound.
    """

    name: str
    goal: float
    measured: float | None
    at_least: bool = False

    def verdict(self) -> str:
        """Returns 'reached', 'missed by' and a percentage, or 'not measured'."""
        if self.measured is None:
            return 'not measured'
        above, below = self.measured >= self.goal, self.measured <= self.goal
        if above if self.at_least else below:
            return 'reached'
        return f'missed by {abs(self.measured / self.goal - 1):.0%}'


def targets(results: Results) -> list[Target]:
    """Returns the targets of the project for the kind of device that was measured."""
    gpu = lookup.is_on_gpu(results)
    found = []
    for size in (256, 512):
        name = f'stylizing {size}² over eager'
        task = lookup.find_task(results, work='stylize', size=size, batch=1)
        found.append(Target(name, 0.7 if gpu else 0.8, lookup.ratio_to_eager(task)))
    adapting = lookup.find_task(results, work='adapt')
    found.append(
        Target(
            'a step of adaptation over eager', 0.6 if gpu else 0.8, lookup.ratio_to_eager(adapting)
        )
    )
    one, four = (
        lookup.find_task(
            results, work='exact', params='all', styles=1, steps=T, batch=tasks.CONTENTS
        )
        for T in (1, 4)
    )
    found += [
        Target(
            'exact meta-step, T = 1, over eager', 0.6 if gpu else 0.8, lookup.ratio_to_eager(one)
        ),
        Target(
            'exact meta-step, T = 4, over eager',
            0.5 if gpu else 0.7,
            lookup.fastest_ratio_to_eager(four),
        ),
        Target('memory of T = 8 over T = 1, rolled', 1.5, _growth(results)),
        Target(
            'share of matrix rate, exact',
            0.4 if gpu else 0.5,
            lookup.fraction_of_rate(one),
            at_least=True,
        ),
    ]
    fed = lookup.find_task(results, work='pipeline')
    ratio = lookup.entry_of(fed, 'ours', 'pipeline')
    found.append(
        Target('a step with its pipeline over cached', 1.05, ratio and pipeline.ratio(ratio))
    )
    return found + (_gpu_targets(results, adapting) if gpu else [])


def _gpu_targets(results: Results, adapting: dict | None) -> list[Target]:
    """Returns the targets in seconds and images per second, which hold on a GPU."""
    single = lookup.median_time(lookup.find_task(results, work='stylize', size=256, batch=1))
    many = lookup.median_time(lookup.find_task(results, work='stylize', size=256, dtype='bfloat16'))
    step = lookup.median_time(
        lookup.find_task(results, work='exact', params='all', styles=4, steps=1, size=256)
    )
    adapted = lookup.median_time(adapting)
    return [
        Target('milliseconds of stylizing 256²', 1.0, single and 1e3 * single),
        Target('images/s of 256², batch 32, bfloat16', 3000, many and 32 / many, at_least=True),
        Target('seconds of 200 steps of adaptation', 3.0, adapted and 200 * adapted),
        Target('hours of 100,000 steps of 4 styles', 1.0, step and 1e5 * step / 3600),
    ]


def _growth(results: Results) -> float | None:
    """Returns the memory of T = 8 divided by that of T = 1, with a rolled inner loop."""

    def memory(steps: int) -> int | None:
        fields = {'work': 'exact', 'params': 'all', 'styles': 1, 'steps': steps}
        task = lookup.find_task(results, variant='rolled', **fields)
        return lookup.memory_of(task, 'rolled', 'temporary') or lookup.memory_of(task, 'rolled')

    one, eight = memory(1), memory(8)
    return eight / one if one and eight else None
