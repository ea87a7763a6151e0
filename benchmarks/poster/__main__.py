"""The command `python -m benchmarks.poster`."""

import datetime
import json
import os
import pathlib
import sys
import tempfile
import time
from typing import Any

import numpy as np
from absl import flags, logging

from benchmarks import harness, machine, process
from benchmarks.poster import worker
from metastyle_jax.core import checks, command_line
from metastyle_jax.core.errors import UserError

USAGE = """Measures the poster's systems beside implementations of the same in PyTorch.

  python -m benchmarks.poster
  python -m benchmarks.poster --systems=adain,wct --sizes=256 --repeats=3

Both sides have the same random weights. Each is a process of its own, and they run in turn. Run it
from the root of the repository, on a machine that does nothing else. PyTorch comes with
pip install '.[bench]'.
"""
ENCODERS = ('vgg19', 'vgg19-normalized', 'vgg16')
SYSTEMS = ('adain', 'wct', 'avatar-net', 'style-swap')
# Largest difference between the pictures of both sides, in 0..1, except for the share `EXCEPTED` of
# their values: rounding can change the choice between two similar patches, and so these pixels.
TOLERANCE = {'highest': 1e-4, 'tf32': 2e-2}
EXCEPTED = 0.01
_REST = 0.3  # seconds between measurements; threads of the other side still spin for a while


def define_flags(values: flags.FlagValues) -> None:
    """Adds the command's flags."""
    flags.DEFINE_list('systems', list(SYSTEMS), 'Systems to measure.', flag_values=values)
    flags.DEFINE_list(
        'sizes', ['256', '512'], 'Heights and widths of pictures.', flag_values=values
    )
    flags.DEFINE_string('encoder', 'vgg19', f'Encoder: {", ".join(ENCODERS)}.', flag_values=values)
    flags.DEFINE_integer('width', 64, 'Channels of the first convolution.', flag_values=values)
    flags.DEFINE_integer('repeats', 7, 'Number of rounds.', flag_values=values)
    flags.DEFINE_integer('limit', 1800, 'Most seconds for one answer.', flag_values=values)
    flags.DEFINE_string(
        'precision',
        'highest',
        "Precision of float32 products on both sides: 'highest' or 'tf32'.",
        flag_values=values,
    )
    flags.DEFINE_string('out', 'runs/poster-peers', 'Folder of results.', flag_values=values)


def check(values: flags.FlagValues) -> list[int]:
    """Raises UserError if a flag has an invalid value; returns the sizes."""
    for name in values.systems:
        checks.one_of('--systems', name, SYSTEMS)
    checks.one_of('--encoder', values.encoder, ENCODERS)
    checks.one_of('--precision', values.precision, TOLERANCE)
    for name in ('width', 'repeats', 'limit'):
        checks.whole_number(f'--{name}', getattr(values, name), 1)
    for size in values.sizes:
        if not size.isdecimal() or int(size) < 32:
            raise UserError(f'--sizes={size}: it must be whole numbers of at least 32')
    if not machine.has_torch():
        raise UserError(machine.MISSING)
    return [int(size) for size in values.sizes]


def measure(name: str, size: int, values: flags.FlagValues, out: pathlib.Path) -> dict[str, Any]:
    """Measures one system at one size on both sides.

    Args:
        name: the system.
        size: height and width of content and style image.
        values: the flags.
        out: folder of the logs.

    Returns:
        For each side its memory and rounds; times and ratios; and how far the pictures are apart.
    """
    entry: dict[str, Any] = {'system': name, 'size': size, 'sides': {}}
    started: dict[str, process.Process] = {}
    with tempfile.TemporaryDirectory() as folder:
        answers = {side: pathlib.Path(folder, f'{side}.npy') for side in worker.SIDES}
        try:
            for side in worker.SIDES:
                job = worker.SideJob(
                    side, name, size, f'{folder}/weights.npz', str(answers[side]),
                    values.encoder, values.width, values.precision,
                )  # fmt: skip
                command = [sys.executable, '-m', 'benchmarks.poster.worker']
                log = out / f'{name}-{size}-{side}.log'
                started[side] = process.Process(
                    [*command, json.dumps(job._asdict())], log, values.limit, process.environment()
                )
                entry['sides'][side] = {'memory': started[side].answer(), 'rounds': []}
            entry |= disagreement(*(np.load(answers[side]) for side in worker.SIDES))
            for i in range(values.repeats):
                for side in worker.SIDES[:: 1 if i % 2 else -1]:
                    time.sleep(_REST)
                    found = {do: started[side].ask(do=do)['seconds'] for do in ('style', 'picture')}
                    entry['sides'][side]['rounds'].append(found)
        except process.WorkerError as error:
            return entry | {'reason': str(error)}
        finally:
            for each in started.values():
                each.close()
    return entry | summarize(entry['sides'])


def disagreement(ours: np.ndarray, theirs: np.ndarray) -> dict[str, float]:
    """Returns the 99th percentile and the maximum of the absolute differences."""
    apart = np.abs(ours - theirs)
    return {
        'disagreement': float(np.quantile(apart, 1 - EXCEPTED)),
        'largest': float(np.max(apart)),
    }


def summarize(sides: dict[str, Any]) -> dict[str, Any]:
    """Returns medians and quartiles of the times, and of the ratios within a round."""
    found: dict[str, Any] = {'times': {}, 'ratios': {}}
    for do in ('style', 'picture'):
        rounds = {side: [each[do] for each in sides[side]['rounds']] for side in sides}
        found['times'][do] = {side: harness.summary(rounds[side]) for side in sides}
        pairs = zip(rounds['ours'], rounds['torch'], strict=True)
        found['ratios'][do] = harness.summary([a / b for a, b in pairs])
    return found


def render(results: dict[str, Any]) -> str:
    """Returns the results as a Markdown table."""
    facts = results['machine']
    lines = [
        f'{facts["cpu"]}, {facts["cores"]} cores, {results["date"]}; median (quartiles)',
        '',
        '| system | size | style, ours (s) | style, PyTorch (s) | ratio '
        '| picture, ours (s) | picture, PyTorch (s) | ratio '
        '| peak memory, ours (MiB) | PyTorch (MiB) | disagreement |',
        '|---|---|---|---|---|---|---|---|---|---|---|',
    ]
    for entry in results['systems']:
        cells = [entry['system'], str(entry['size'])]
        if 'reason' in entry:
            lines.append(f'| {" | ".join(cells)} | {entry["reason"]} |' + ' |' * 8)
            continue
        for do in ('style', 'picture'):
            cells += [_range(entry['times'][do][side], '.3g') for side in worker.SIDES]
            cells.append(_range(entry['ratios'][do], '.2f'))
        memory = [entry['sides'][side]['memory']['resident'] / 2**20 for side in worker.SIDES]
        cells += [*(f'{x:.0f}' for x in memory), f'{entry["disagreement"]:.0e}']
        lines.append(f'| {" | ".join(cells)} |')
    return '\n'.join(lines)


def _range(found: dict[str, float], form: str) -> str:
    """Returns a median with its quartiles."""
    return f'{found["median"]:{form}} ({found["q1"]:{form}} to {found["q3"]:{form}})'


def main(values: flags.FlagValues) -> None:
    """Measures as the flags say."""
    sizes, out = check(values), pathlib.Path(values.out)
    out.mkdir(parents=True, exist_ok=True)
    load = os.getloadavg()[0] if hasattr(os, 'getloadavg') else 0.0
    if load > 0.5 * machine.cores():
        logging.warning('the load is %.1f: other programs will distort the times', load)
    results: dict[str, Any] = {
        'machine': {'cpu': machine.cpu(), 'cores': machine.cores(), 'load': load},
        'date': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
        **{name: getattr(values, name) for name in ('encoder', 'width', 'precision', 'repeats')},
        'systems': [],
    }
    for name in values.systems:
        for size in sizes:
            logging.info('%s at %d', name, size)
            results['systems'].append(measure(name, size, values, out))
            (out / 'results.json').write_text(json.dumps(results, indent=1) + '\n', 'utf-8')
            (out / 'results.md').write_text(render(results) + '\n', 'utf-8')
    print(render(results))
    limit = TOLERANCE[values.precision]
    wrong = [
        f'{entry["system"]} at {entry["size"]}: {entry.get("reason", "the pictures differ")}'
        for entry in results['systems']
        if 'reason' in entry or not entry['disagreement'] <= limit
    ]
    if wrong:
        raise UserError('; '.join(wrong))


if __name__ == '__main__':
    sys.exit(command_line.run_command(main, define_flags, command='benchmarks.poster', usage=USAGE))
