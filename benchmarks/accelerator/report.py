"""Writes the results as Markdown: for each device its goals, times, memory, errors and failures."""

from typing import Any

from benchmarks import report as tables
from benchmarks.accelerator import goals, items, store

_TIMED = {
    'stylize': 'Stylizing',
    'adapt': 'One step of adaptation',
    'exact': 'One meta-step, exact',
    'first': 'One meta-step, first order',
}
# Groups whose variants are compared with their first one.
_COMPARED = {
    'options': 'Options of XLA',
    'placement': 'Placing a training step on devices',
    'loop': 'Formulations of the inner loop',
}
_HEAD = (
    'task', 'precision', 'variant', 'time', 'ours/it', 'latency', 'compiling', 'memory',
    'of matrix rate',
)  # fmt: skip
_NOTE = """Times are medians, with quartiles in brackets, of calls that follow each other; the
*latency* is the median time of one call together with waiting for its result. *Ours/it* below one
means that this package is faster. *Compiling* is not part of the times. *Memory* of this package
are the temporary bytes of the compiled program; of PyTorch, the peak of allocated bytes. *Of matrix
rate*: operations of the task, divided by its time and by the rate of a matrix product of the same
precision."""


def render(lines: list[store.Line]) -> str:
    """Returns the report.

    Args:
        lines: all results; of several results of one item on one device, the last one counts.
    """
    devices: dict[tuple[str, bool], list[store.Line]] = {}
    for line in lines:
        machine = line['machine']
        devices.setdefault((machine['device'], machine['small']), []).append(line)
    return '\n\n'.join(_device(found) for found in devices.values())


def _device(lines: list[store.Line]) -> str:
    """Returns the part of one device."""
    last = {items.Item(**line['item']).key: line for line in lines}
    found = {
        (item.group, item.name, item.variant, item.precision): line['result']
        for line in last.values()
        if line['outcome'] == 'done'
        for item in [items.Item(**line['item'])]
    }
    small = lines[0]['machine']['small']
    rows: list[tuple[str, ...]]
    parts = [_title(lines), _NOTE, *_goals(found, items.SMALL if small else items.FULL)]
    rates = {key[3]: result['rate'] for key, result in found.items() if key[0] == 'rate'}
    if rates:
        rows = [(name, f'{tables.number(rate / 1e12)} TFLOP/s') for name, rate in rates.items()]
        parts += ['### Rate of matrix products', tables.table(('precision', 'rate'), rows)]
    for group, title in _TIMED.items():
        rows = [_row(key, found, rates, 'ours') for key in found if key[0] == group]
        parts += [f'### {title}', tables.table(_HEAD, sorted(rows))] if rows else []
    for group, title in _COMPARED.items():
        keys = [key for key in found if key[0] == group]
        head = tuple('first/it' if name == 'ours/it' else name for name in _HEAD)
        first = {key[1]: key[2] for key in reversed(keys)}
        rows = [_row(key, found, rates, first[key[1]]) for key in keys]
        parts += [f'### {title}', tables.table(head, rows)] if rows else []
    parts += _convolutions(found, rates) + _errors(found) + _others(last)
    return '\n\n'.join(parts)


def _title(lines: list[store.Line]) -> str:
    machine = lines[-1]['machine']
    versions = ', '.join(
        f'{name} {version}'
        for name in ('jax', 'jaxlib', 'torch')
        for version in sorted({str(line['machine'][name]) for line in lines})
    )
    dates = sorted(line['date'][:10] for line in lines)
    days = dates[0] if dates[0] == dates[-1] else f'{dates[0]} to {dates[-1]}'
    size = ', small networks and images' if machine['small'] else ''
    loss = machine.get('weights', '')
    return f'## {machine["device"]}{size}\n\n{versions}. {days}. Loss network: {loss}.'


def _goals(found: goals.Results, sizes: items.Sizes) -> list[str]:
    rows = [
        (
            goal.name,
            f'{"≥" if goal.at_least else "≤"} {tables.number(goal.goal)}',
            tables.number(goal.measured),
            goal.verdict(),
        )
        for goal in goals.goals(found, sizes)
    ]
    return ['### Goals', tables.table(('goal', 'bound', 'measured', 'verdict'), rows)]


def _row(
    key: tuple[str, str, str, str], found: goals.Results, rates: dict[str, float], first: str
) -> tuple[str, ...]:
    """Returns a row of a table of times; `first` is the variant to compare with."""
    group, name, variant, precision = key
    result = found[key]
    median = result['seconds']['median']
    ours = found.get((group, name, first, precision), {}).get('seconds')
    share = ''
    if precision in rates and result.get('needed'):
        share = tables.number(result['needed'] / (median * rates[precision]))
    memory = result.get('memory')
    return (
        name, precision, variant,
        tables.spread(result['seconds'], unit=True),
        tables.number(ours['median'] / median) if ours and variant != first else '',
        _milliseconds(result.get('latency')),
        f'{tables.number(result["compile"])} s' if 'compile' in result else '',
        f'{tables.number(memory / 2**20)} MiB' if memory else '',
        share,
    )  # fmt: skip


def _convolutions(found: goals.Results, rates: dict[str, float]) -> list[str]:
    """Returns the table of convolutions: both layouts, as shares of the matrix rate."""
    rows = []
    for (group, name, layout, precision), result in found.items():
        other = found.get((group, name, 'NCHW', precision))
        if group == 'convolutions' and layout == 'NHWC':
            first, second = (each and each['seconds']['median'] for each in (result, other))
            rate = rates.get(precision)
            shares = [
                tables.number(result['needed'] / (seconds * rate)) if seconds and rate else ''
                for seconds in (first, second)
            ]
            ratio = tables.number(first / second) if second else ''
            rows.append(
                (name, precision, _milliseconds(first), _milliseconds(second), ratio, *shares)
            )
    head = ('convolution', 'precision', 'NHWC', 'NCHW', 'NHWC/NCHW', 'share NHWC', 'share NCHW')
    title = '### Convolutions: forward pass and both gradients'
    return [title, tables.table(head, rows)] if rows else []


def _errors(found: goals.Results) -> list[str]:
    """Returns the table of relative errors."""
    rows = [
        (
            name,
            precision,
            variant,
            *(tables.number(result[word]) for word in ('relative', 'largest')),
        )
        for (group, name, variant, precision), result in found.items()
        if group == 'accuracy'
    ]
    head = ('task', 'precision', 'variant', '‖a − b‖ / ‖b‖', 'max |a − b| / max |b|')
    return ['### Error compared with float64', tables.table(head, rows)] if rows else []


def _others(last: dict[str, store.Line]) -> list[str]:
    """Returns the list of training runs, and the list of failures with their reasons."""
    parts: list[str] = []
    trained = [line for line in last.values() if line['item']['side'] == 'command']
    if trained:
        rows = [(line['item']['name'], line['outcome'], line['date'][:10]) for line in trained]
        parts += ['### Training runs', tables.table(('run', 'state', 'date'), rows)]
    failed = [f'- {key}: {_reason(line)}' for key, line in last.items() if _reason(line)]
    return parts + (['### Failed', '\n'.join(failed)] if failed else [])


def _reason(line: store.Line) -> str:
    return str(line.get('message', '')) if line['outcome'] == 'failed' else ''


def _milliseconds(seconds: Any) -> str:
    return f'{tables.number(1e3 * seconds)} ms' if seconds else ''
