"""Writes results as Markdown: tables, and which targets this device reaches."""

from collections.abc import Sequence

from benchmarks import lookup, pipeline, targets, tasks
from benchmarks.lookup import Results

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
_NOTE = """Times are medians, with quartiles in brackets. Ratios are medians of the ratios within
each round; a ratio below one means that this package is faster. *Of matrix rate*: operations of
the task, divided by its time and by the rate of a square matrix product measured in the same
rounds. *Compiling*: time of the first run minus time of the second. *Memory*: {memory}.
*Compiled*: temporary bytes of the compiled program. Before timing, all variants had to
agree{apart}."""
_GPU_MEMORY = 'peak of bytes in use on the device; for this package, compiling included'
_CPU_MEMORY = 'growth of the resident set while the task ran'


def render(results: Results) -> str:
    """Returns the whole report.

    Args:
        results: results of `harness.run`.
    """
    parts = [_machine(results)]
    apart = [
        row['disagreement']
        for task in results['tasks']
        for row in task['variants'].values()
        if 'disagreement' in row
    ]
    largest = f'; the largest disagreement was {number(max(apart))}' if apart else ''
    memory = _GPU_MEMORY if lookup.is_on_gpu(results) else _CPU_MEMORY
    parts.append(_NOTE.format(memory=memory, apart=largest))
    for work, title in _TITLES.items():
        rows = [line for task in lookup.tasks_of(results, work) for line in _lines(task)]
        if rows:
            parts += [f'## {title}', table(_HEAD, rows), *_reasons(lookup.tasks_of(results, work))]
    if lookup.tasks_of(results, 'pipeline'):
        parts += ['## Input pipeline', _pipeline(lookup.tasks_of(results, 'pipeline'))]
    rows = [
        (
            target.name,
            f'{"≥" if target.at_least else "≤"} {number(target.goal)}',
            number(target.measured),
            target.verdict(),
        )
        for target in targets.targets(results)
    ]
    parts += ['## Targets', table(('target', 'goal', 'measured', ''), rows)]
    return '\n\n'.join(parts)


def _lines(task: dict) -> list[tuple[str, ...]]:
    """Returns the rows of a task, one for each of our variants."""
    return [_line(task, variant) for variant in task['variants'] if variant in tasks.OURS]


def _line(task: dict, variant: str) -> tuple[str, ...]:
    """Returns the row of one of our variants; only the row 'ours' repeats the peers' times."""
    cells = [task['name'], variant, _seconds(task, variant)]
    for peer in (*tasks.PEERS, tasks.LAST):
        if variant == 'ours':
            ratio = spread(lookup.entry_of(task, peer, 'ours_over_this'))
        else:
            ratio = spread(lookup.paired_ratio(task, variant, peer))
        cells += [_seconds(task, peer) if variant == 'ours' else '', ratio]
    cells += [
        number(lookup.entry_of(task, variant, 'fraction')),
        _unit(lookup.entry_of(task, variant, 'compile'), 's'),
        _bytes(lookup.memory_of(task, variant)),
        _bytes(lookup.memory_of(task, 'eager')),
        _bytes(lookup.memory_of(task, variant, 'temporary')),
    ]
    return tuple(cells)


def _seconds(task: dict, variant: str) -> str:
    """Returns the time of a variant with its quartiles, or refers to the reason below the table."""
    row = task['variants'].get(variant)
    if row is None:
        return ''
    return 'see below' if 'reason' in row else spread(row.get('time'), unit=True)


def _reasons(found: list[dict]) -> list[str]:
    """Returns a list of the variants that could not be measured, and the reasons."""
    lines = [
        f'- {task["name"]}, {variant}: {row["reason"]}'
        for task in found
        for variant, row in task['variants'].items()
        if 'reason' in row
    ]
    return ['\n'.join(lines)] if lines else []


def _pipeline(found: list[dict]) -> str:
    """Returns the table of the input pipeline."""
    rows: list[tuple[str, ...]] = []
    for task in found:
        got = lookup.entry_of(task, 'ours', 'pipeline')
        if not got:
            rows.append((task['name'], lookup.entry_of(task, 'ours', 'reason') or '', '', '', ''))
            continue
        for workers, rate in got['alone'].items():
            rows.append(
                (task['name'], workers, number(rate['images']), number(rate['batches']), '')
            )
        rows.append((task['name'], str(got['workers']), '', '', number(pipeline.ratio(got))))
    return table(('task', 'workers', 'images/s', 'batches/s', 'step fed/cached'), rows)


def _machine(results: Results) -> str:
    """Returns the title, the machine and the versions."""
    m = results['machine']
    device = f'{m["device"]}; ' if lookup.is_on_gpu(results) else ''
    torch = f'PyTorch {m["torch"]}' if m['torch'] else 'no PyTorch'
    return (
        f'# Benchmarks\n\n{device}{m["cpu"]}, {m["cores"]} cores. Python {m["python"]}, '
        f'JAX {m["jax"]}, jaxlib {m["jaxlib"]}, {torch}. {results["date"]}, float32 products '
        f'{results["precision"]}, {results["repeats"]} rounds.'
    )


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Returns a Markdown table without its empty columns."""
    kept = [i for i in range(len(head)) if any(row[i] for row in rows)]
    lines = [head, ('---',) * len(head), *rows]
    return '\n'.join(
        '| ' + ' | '.join(line[i].replace('|', '/') for i in kept) + ' |' for line in lines
    )


def number(value: float | None) -> str:
    """Formats a number with three significant digits; empty for None."""
    if value is None:
        return ''
    text = f'{value:.3g}'
    return f'{float(text):.0f}' if 'e+' in text else text


def spread(found: dict[str, float] | None, *, unit: bool = False) -> str:
    """Formats a median and quartiles; as seconds or milliseconds if `unit`."""
    if not found:
        return ''
    small = unit and found['median'] < 1
    factor, name = (1e3, ' ms') if small else (1.0, ' s' if unit else '')
    median, q1, q3 = (number(found[key] * factor) for key in ('median', 'q1', 'q3'))
    return f'{median}{name} [{q1}–{q3}]'


def _unit(value: float | None, name: str) -> str:
    """Formats a number with a unit; empty for None."""
    return '' if value is None else f'{number(value)} {name}'


def _bytes(value: int | None) -> str:
    """Formats bytes as MiB; empty for None."""
    return '' if value is None else f'{number(value / 2**20)} MiB'
