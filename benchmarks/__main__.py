"""The command `python -m benchmarks`."""

import functools
import json
import os
import pathlib
import sys
from typing import Any

from absl import flags, logging

from benchmarks import harness, machine, report, tasks
from metastyle_jax.core import command_line
from metastyle_jax.core.errors import UserError

USAGE = """Measures this package and a PyTorch peer side by side, on the machine at hand.

  python -m benchmarks --quick
  python -m benchmarks --works=stylize,exact --variants=eager --out=runs/benchmarks

Run it from the root of the repository, on a machine that does nothing else. PyTorch comes with
pip install '.[bench]'.
"""


def define_flags(values: flags.FlagValues) -> None:
    """Adds the command's flags."""
    text = functools.partial(flags.DEFINE_string, flag_values=values)
    words = functools.partial(flags.DEFINE_list, flag_values=values)
    number = functools.partial(flags.DEFINE_integer, flag_values=values)
    flags.DEFINE_bool(
        'quick',
        False,
        'Measures a small set of tasks, in less than five minutes.',
        flag_values=values,
    )
    text('out', 'runs/benchmarks', 'Folder of results.json, results.md and logs.')
    words('works', [], f'Measures only these kinds of work, of {", ".join(tasks.WORKS)}.')
    words('variants', [], f'Measures only these variants, of {", ".join(tasks.EVERY)}.')
    number('repeats', 0, 'Number of rounds (default: 7; 3 with --quick).')
    number('size', 0, 'Height and width of the images of meta-steps (default: by machine).')
    number('limit', 1800, 'Largest number of seconds for preparing a task, or for running it once.')
    text(
        'precision', 'highest', "Precision of float32 products on both sides: 'highest' or 'tf32'."
    )


def check(values: flags.FlagValues) -> None:
    """Raises UserError if a flag has an invalid value."""
    for name, known in {'works': tasks.WORKS, 'variants': tasks.EVERY}.items():
        for word in getattr(values, name):
            if word not in known:
                raise UserError(f'--{name}={word}: it must be one of {", ".join(known)}')
    if values.precision not in ('highest', 'tf32'):
        raise UserError(f"--precision={values.precision}: it must be 'highest' or 'tf32'")
    for name, least in {'repeats': 0, 'limit': 1}.items():
        if getattr(values, name) < least:
            raise UserError(f'--{name}={getattr(values, name)}: it must be at least {least}')
    if values.size and values.size < 16:
        raise UserError(f'--size={values.size}: it must be at least 16')


def write(results: dict[str, Any], out: pathlib.Path) -> None:
    """Writes `results.json` and `results.md`; each file is replaced as a whole."""
    for name, text in {
        'results.json': json.dumps(results, indent=1),
        'results.md': report.render(results),
    }.items():
        part = out / f'{name}.part'
        part.write_text(text + '\n', encoding='utf-8')
        os.replace(part, out / name)


def main(values: flags.FlagValues) -> None:
    """Measures as the flags say."""
    check(values)
    out = pathlib.Path(values.out)
    out.mkdir(parents=True, exist_ok=True)
    weights = out / 'weights.npz'
    facts = machine.describe(out, weights)
    if facts['load'] > 0.5 * facts['cores']:
        logging.warning('the load is %.1f: other programs will distort the times', facts['load'])
    if not machine.has_torch():
        logging.warning('%s; only this package will be measured', machine.MISSING)
    if values.quick:
        table = tasks.quick(size=values.size)
    else:
        gpu = facts['backend'] == 'gpu'
        table = tasks.full(gpu=gpu, free=facts['memory'], size=values.size)
    table = tasks.select(table, works=tuple(values.works), variants=tuple(values.variants))
    options = harness.Options(
        out,
        repeats=values.repeats or (3 if values.quick else 7),
        precision=values.precision,
        limit=values.limit,
    )
    results = harness.run(
        table,
        options,
        facts,
        {tasks.STANDARD: weights},
        keep=lambda results: write(results, out),
        say=logging.info,
    )
    print(report.render(results))
    if wrong := harness.disagreements(results):
        raise UserError('; '.join(wrong))


if __name__ == '__main__':
    sys.exit(command_line.run_command(main, define_flags, command='benchmarks', usage=USAGE))
