"""The results of the matrix as a Markdown table, and what in them is wrong."""

from typing import Any

from benchmarks.clients import catalogue, programs

TOLERANCE = 1e-4  # for pixels in 0..1
LEVELS = 2  # for bytes
_HEADER = '| client | version | any size | fixed size | float16 | int8 | uint8 | 256² | 512² |'


def render(results: dict[str, Any]) -> str:
    """The table, with notes.

    Args:
        results: of `matrix.measure`, with the keys 'cpu' and 'date'.
    """
    rows = [_HEADER, '|---' * 9 + '|']
    rows.append('| JAX | | 0 | 0 | 0 | 0 | 0 |' + _times(results.get('seconds', {})))
    notes: list[str] = []
    for name, row in results['clients'].items():
        cells = [_cell(row['variants'].get(each.name), each.name) for each in programs.VARIANTS]
        client = _client(name)
        if client.needs_fixed_size('float32'):
            cells[0] = '–'
        mark = ''
        if client.note:
            notes.append(f'{len(notes) + 1}. {name}: {client.note}')
            mark = f' ({len(notes)})'
        rows.append(
            f'| {name}{mark} | {row["version"]} | {" | ".join(cells)} |'
            + _times(row.get('seconds', {}))
        )
    rounding = ', '.join(f'{name} {value:.1e}' for name, value in results['rounding'].items())
    about = f'{results["date"]}, {results["cpu"]}. Rounding the kernels alone changes: {rounding}.'
    return '\n'.join([*rows, '', about, '', *notes])


def failures(results: dict[str, Any]) -> list[str]:
    """What differs by more than is allowed, what did not run, and what should not have run."""
    found = []
    for name, row in results['clients'].items():
        for variant, cell in row['variants'].items():
            wrong = _wrong(cell, variant)
            if variant in _client(name).refuses:
                if not wrong:
                    found.append(f'{name}, {variant}: it works now, so change the catalogue')
            elif wrong:
                found.append(f'{name}, {variant}: {wrong}')
    return found


def _wrong(cell: dict[str, Any], variant: str) -> str:
    """What is wrong with a result; empty if nothing is."""
    if 'error' in cell:
        return cell['error']
    difference = cell.get('difference', 0.0)
    allowed = LEVELS if variant == 'uint8' else TOLERANCE
    return '' if difference <= allowed else f'differs by {difference:.2g}'


def _client(name: str) -> catalogue.Client:
    """The entry of the catalogue."""
    return next(each for each in catalogue.CLIENTS if each.name == name)


def _cell(found: dict[str, Any] | None, variant: str) -> str:
    """The largest difference; a dash where the client does not take the program."""
    if found is None or 'error' in found:
        return '–'
    if _wrong(found, variant):
        return 'wrong'
    if variant == 'uint8':
        return f'{found["difference"]:.2g} level{"s" * (found["difference"] != 1)}'
    return f'{found["difference"]:.0e}'.replace('e-0', 'e-')


def _times(seconds: dict[str, float]) -> str:
    """The last two cells of a row."""
    cells = (seconds.get(str(size[0])) for size in programs.TIMED)
    return ''.join(f' {1000 * each:.0f} ms |' if each else ' |' for each in cells)
