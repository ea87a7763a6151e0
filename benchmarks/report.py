"""Results as Markdown: tables, and which targets this device reaches."""

import statistics
from typing import Any, NamedTuple

from benchmarks import pipeline, tasks

Results = dict[str, Any]
_TITLES = {
    'stylize': 'Stylizing',
    'adapt': 'One step of adaptation',
    'exact': 'One meta-step, exact',
    'first': 'One meta-step, first order',
}
_HEAD = (
    'task', 'computed', 'time', 'eager', 'ours/eager', 'malloc', 'ours/it', 'channels_last',
    'ours/it', 'compile', 'ours/it', 'func', 'ours/it', 'compiled func', 'ours/it',
    'of matrix rate', 'compiling', 'memory', "eager's", 'compiled',
)  # fmt: skip
_NOTE = """Medians with quartiles in brackets; ratios are medians of the paired ratios of each
round, below one where this package is faster. *Of matrix rate*: the operations that the task
needs, over time and over the rate of a square matrix product measured in the same rounds.
*Compiling*: the first run less the second. *Memory*: {memory}.
*Compiled*: temporary bytes of the compiled program. Before timing all variants had to
agree{apart}."""
_GPU_MEMORY = 'the most bytes in use on the device, for this package compiling included'
_CPU_MEMORY = 'what the resident set grew by while the task ran'


class Target(NamedTuple):
    """A line of the section of targets.

    Attributes:
        name: of the quantity, with the task it was measured on.
        goal: its bound.
        found: its value, or None where it was not measured.
        at_least: whether the bound is one from below.
    """

    name: str
    goal: float
    found: float | None
    at_least: bool = False

    def verdict(self) -> str:
        """'reached', 'missed by so much' or 'not measured'."""
        if self.found is None:
            return 'not measured'
        if self.found >= self.goal if self.at_least else self.found <= self.goal:
            return 'reached'
        return f'missed by {abs(self.found / self.goal - 1):.0%}'


def render(results: Results) -> str:
    """The whole report.

    Args:
        results: of `harness.run`.
    """
    parts = [_machine(results)]
    apart = [
        row['disagreement']
        for task in results['tasks']
        for row in task['variants'].values()
        if 'disagreement' in row
    ]
    largest = f'; the largest disagreement was {number(max(apart))}' if apart else ''
    memory = _GPU_MEMORY if _on_gpu(results) else _CPU_MEMORY
    parts.append(_NOTE.format(memory=memory, apart=largest))
    for work, title in _TITLES.items():
        rows = [line for task in _of(results, work) for line in _lines(task)]
        if rows:
            parts += [f'## {title}', table(_HEAD, rows), *_reasons(_of(results, work))]
    if _of(results, 'pipeline'):
        parts += ['## Input pipeline', _pipeline(_of(results, 'pipeline'))]
    rows = [
        (t.name, f'{"≥" if t.at_least else "≤"} {number(t.goal)}', number(t.found), t.verdict())
        for t in targets(results)
    ]
    parts += ['## Targets', table(('target', 'goal', 'found', ''), rows)]
    return '\n\n'.join(parts)


def targets(results: Results) -> list[Target]:
    """What the project wants to reach on the kind of device that was measured."""
    gpu = _on_gpu(results)
    found = []
    for size in (256, 512):
        name = f'stylizing {size}² over eager'
        task = _find(results, work='stylize', size=size, batch=1)
        found.append(Target(name, 0.7 if gpu else 0.8, _ratio(task)))
    adapting = _find(results, work='adapt')
    found.append(Target('a step of adaptation over eager', 0.6 if gpu else 0.8, _ratio(adapting)))
    one, four = (
        _find(results, work='exact', params='all', styles=1, steps=T, batch=tasks.CONTENTS)
        for T in (1, 4)
    )
    found += [
        Target('exact meta-step, T = 1, over eager', 0.6 if gpu else 0.8, _ratio(one)),
        Target('exact meta-step, T = 4, over eager', 0.5 if gpu else 0.7, _fastest(four)),
        Target('memory of T = 8 over T = 1, rolled', 1.5, _growth(results)),
        Target('share of matrix rate, exact', 0.4 if gpu else 0.5, _fraction(one), at_least=True),
    ]
    fed = _find(results, work='pipeline')
    ratio = _field(fed, 'ours', 'pipeline')
    found.append(
        Target('a step with its pipeline over cached', 1.05, ratio and pipeline.ratio(ratio))
    )
    return found + (_gpu_targets(results, adapting) if gpu else [])


def _gpu_targets(results: Results, adapting: dict | None) -> list[Target]:
    """Those in seconds and images."""
    single = _time(_find(results, work='stylize', size=256, batch=1))
    many = _time(_find(results, work='stylize', size=256, dtype='bfloat16'))
    step = _time(_find(results, work='exact', params='all', styles=4, steps=1, size=256))
    adapted = _time(adapting)
    return [
        Target('milliseconds of stylizing 256²', 1.0, single and 1e3 * single),
        Target('images/s of 256², batch 32, bfloat16', 3000, many and 32 / many, at_least=True),
        Target('seconds of 200 steps of adaptation', 3.0, adapted and 200 * adapted),
        Target('hours of 100,000 steps of 4 styles', 1.0, step and 1e5 * step / 3600),
    ]


def _growth(results: Results) -> float | None:
    """Memory of T = 8 over that of T = 1 where the inner loop is rolled."""

    def memory(steps: int) -> int | None:
        fields = {'work': 'exact', 'params': 'all', 'styles': 1, 'steps': steps}
        task = _find(results, variant='rolled', **fields)
        return _memory(task, 'rolled', 'temporary') or _memory(task, 'rolled')

    one, eight = memory(1), memory(8)
    return eight / one if one and eight else None


def _find(results: Results, variant: str = 'ours', **fields: Any) -> dict | None:
    """The task of these fields with the largest images in which a variant was measured."""
    found = None
    for task in results['tasks']:
        row = task['variants'].get(variant, {})
        if 'reason' not in row and row and all(task[k] == v for k, v in fields.items()):
            found = task if found is None or task['size'] > found['size'] else found
    return found


def _field(task: dict | None, variant: str, *path: str) -> Any:
    """An entry of a variant's row, or None."""
    found: Any = task['variants'].get(variant) if task else None
    for key in path:
        found = found.get(key) if found else None
    return found


def _ratio(task: dict | None) -> float | None:
    return _field(task, 'eager', 'ours_over_this', 'median')


def _fastest(task: dict | None) -> float | None:
    """Ratio to eager of the faster of our two: with steps recomputed, or kept as eager does."""
    kept = (task and _paired(task, 'kept', 'eager')) or {}
    return min((r for r in (_ratio(task), kept.get('median')) if r), default=None)


def _time(task: dict | None) -> float | None:
    return _field(task, 'ours', 'time', 'median')


def _fraction(task: dict | None) -> float | None:
    return _field(task, 'ours', 'fraction')


def _memory(task: dict | None, variant: str, kind: str = '') -> int | None:
    """Bytes: on the device where it tells, else of the resident set."""
    if kind:
        return _field(task, variant, 'memory', kind)
    device = _field(task, variant, 'memory', 'device')
    return device or _field(task, variant, 'memory', 'working')


def _lines(task: dict) -> list[tuple[str, ...]]:
    """Rows of the table: one for each of our variants."""
    return [_line(task, variant) for variant in task['variants'] if variant in tasks.OURS]


def _line(task: dict, variant: str) -> tuple[str, ...]:
    """One row; ratios of other variants than 'ours' are left to the reader's division."""
    cells = [task['name'], variant, _seconds(task, variant)]
    for peer in (*tasks.PEERS, tasks.LAST):
        if variant == 'ours':
            ratio = spread(_field(task, peer, 'ours_over_this'))
        else:
            ratio = spread(_paired(task, variant, peer))
        cells += [_seconds(task, peer) if variant == 'ours' else '', ratio]
    cells += [
        number(_field(task, variant, 'fraction')),
        _unit(_field(task, variant, 'compile'), 's'),
        _bytes(_memory(task, variant)),
        _bytes(_memory(task, 'eager')),
        _bytes(_memory(task, variant, 'temporary')),
    ]
    return tuple(cells)


def _paired(task: dict, variant: str, peer: str) -> dict[str, float] | None:
    """Ratio of one of our variants to a peer, where both were timed."""
    rounds = [_field(task, name, 'rounds') for name in (variant, peer)]
    if not all(_field(task, name, 'time') for name in (variant, peer)) or not all(rounds):
        return None
    values = sorted(a / b for a, b in zip(*rounds, strict=True))
    q1, median, q3 = statistics.quantiles(values, method='inclusive') if values[1:] else values * 3
    return {'median': median, 'q1': q1, 'q3': q3}


def _seconds(task: dict, variant: str) -> str:
    """Time of a variant with its quartiles, or a mark for the reason below the table."""
    row = task['variants'].get(variant)
    if row is None:
        return ''
    return 'see below' if 'reason' in row else spread(row.get('time'), unit=True)


def _reasons(found: list[dict]) -> list[str]:
    """A list of what could not be measured, and why."""
    lines = [
        f'- {task["name"]}, {variant}: {row["reason"]}'
        for task in found
        for variant, row in task['variants'].items()
        if 'reason' in row
    ]
    return ['\n'.join(lines)] if lines else []


def _pipeline(found: list[dict]) -> str:
    """Table of the input pipeline."""
    rows: list[tuple[str, ...]] = []
    for task in found:
        got = _field(task, 'ours', 'pipeline')
        if not got:
            rows.append((task['name'], _field(task, 'ours', 'reason') or '', '', '', ''))
            continue
        for workers, rate in got['alone'].items():
            rows.append(
                (task['name'], workers, number(rate['images']), number(rate['batches']), '')
            )
        rows.append((task['name'], str(got['workers']), '', '', number(pipeline.ratio(got))))
    return table(('task', 'workers', 'images/s', 'batches/s', 'step fed/cached'), rows)


def _machine(results: Results) -> str:
    """Title, machine, versions."""
    m = results['machine']
    device = f'{m["device"]}; ' if _on_gpu(results) else ''
    torch = f'PyTorch {m["torch"]}' if m['torch'] else 'no PyTorch'
    return (
        f'# Benchmarks\n\n{device}{m["cpu"]}, {m["cores"]} cores. Python {m["python"]}, '
        f'JAX {m["jax"]}, jaxlib {m["jaxlib"]}, {torch}. {results["date"]}, float32 products '
        f'{results["precision"]}, {results["repeats"]} rounds.'
    )


def _on_gpu(results: Results) -> bool:
    return results['machine']['backend'] == 'gpu'


def _of(results: Results, work: str) -> list[dict]:
    return [task for task in results['tasks'] if task['work'] == work]


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A Markdown table without the columns that are empty throughout."""
    kept = [i for i in range(len(head)) if any(row[i] for row in rows)]
    lines = [head, ('---',) * len(head), *rows]
    return '\n'.join(
        '| ' + ' | '.join(line[i].replace('|', '/') for i in kept) + ' |' for line in lines
    )


def number(value: float | None) -> str:
    """Three significant digits."""
    if value is None:
        return ''
    text = f'{value:.3g}'
    return f'{float(text):.0f}' if 'e+' in text else text


def spread(found: dict[str, float] | None, *, unit: bool = False) -> str:
    """Median and quartiles, of seconds if `unit`."""
    if not found:
        return ''
    small = unit and found['median'] < 1
    factor, name = (1e3, ' ms') if small else (1.0, ' s' if unit else '')
    median, q1, q3 = (number(found[key] * factor) for key in ('median', 'q1', 'q3'))
    return f'{median}{name} [{q1}–{q3}]'


def _unit(value: float | None, name: str) -> str:
    return '' if value is None else f'{number(value)} {name}'


def _bytes(value: int | None) -> str:
    return '' if value is None else f'{number(value / 2**20)} MiB'
