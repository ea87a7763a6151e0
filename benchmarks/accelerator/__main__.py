"""The command `python -m benchmarks.accelerator`, which `benchmarks/gpu.sh` starts."""

import functools
import os
import pathlib
import signal
import sys

from absl import flags

from benchmarks import process
from benchmarks.accelerator import items, report, running, store, training
from metastyle_jax.core import checks, command_line
from metastyle_jax.core.errors import UserError

USAGE = """Measures this package and PyTorch on the accelerator of this machine, in less than ten minutes.

  bash benchmarks/gpu.sh                       measures until the time is over, or all is measured
  bash benchmarks/gpu.sh --report              prints the results as Markdown
  bash benchmarks/gpu.sh --small --out=/tmp/x  the whole list with small networks, also on a CPU
  bash benchmarks/gpu.sh --content=folder:photographs --style=folder:paintings    trains too

Each result is one line of OUT/results.jsonl, which is written at once. The same command continues
where it stopped. Items that failed, because of too little memory or a missing package, are recorded
with the reason, and the list goes on.
"""  # noqa: E501


def define_flags(values: flags.FlagValues) -> None:
    """Adds the command's flags."""
    text = functools.partial(flags.DEFINE_string, flag_values=values)
    number = functools.partial(flags.DEFINE_integer, flag_values=values)
    switch = functools.partial(flags.DEFINE_bool, flag_values=values)
    text('out', 'runs/accelerator', 'Folder of results, logs, weights and compiled programs.')
    number('seconds', 560, 'Seconds after which no new item starts.')
    number('limit', 150, 'Largest number of seconds for one item.')
    switch('small', False, 'Small networks and images: a trial of the whole list, also on a CPU.')
    switch('again', False, 'Also measures the items again that failed before.')
    switch('report', False, 'Only prints the results as Markdown.')
    switch('list', False, 'Only prints the names of the items.')
    flags.DEFINE_list(
        'parts', [], 'Only these parts of the list, of 1 to 6 (default: all).', flag_values=values
    )
    text('only', '', 'Only items whose name contains this text.')
    text('content', '', 'Data source of photographs; with --style, the list trains too.')
    text('style', '', 'Data source of paintings.')
    text('theta', 'metastyle_jax/theta.safetensors', 'Initialization that training continues.')


def check(values: flags.FlagValues) -> None:
    """Raises UserError if a flag has an invalid value."""
    for name in ('seconds', 'limit'):
        checks.whole_number(f'--{name}', getattr(values, name), 1)
    for part in values.parts:
        checks.one_of('--parts', part, tuple('123456'))
    if bool(values.content) != bool(values.style):
        missing = '--style' if values.content else '--content'
        raise UserError(f'{missing} is missing: training needs both --content and --style')
    asked = {str(part) for part in items.TRAINING} & set(values.parts)
    if asked and not (values.content or values.small):
        raise UserError(
            f'--parts={",".join(values.parts)}: part {min(asked)} trains; '
            'give it --content and --style'
        )


def table(values: flags.FlagValues) -> list[items.Item]:
    """Returns the list that the flags select, in order.

    Raises:
        UserError: nothing is selected.
    """
    sizes = items.SMALL if values.small else items.FULL
    found = items.table(sizes)
    if values.content or values.small:
        data = training.Data(values.content, values.style, values.theta)
        folder = pathlib.Path(values.out).absolute() / ('small' if values.small else 'training')
        found += training.runs(data, folder, small=values.small)
    found = [item for item in found if not values.parts or str(item.part) in values.parts]
    found = [item for item in found if values.only in item.key]
    if not found:
        raise UserError(f'--only={values.only}: no item has this name; see --list')
    return sorted(found, key=lambda item: item.part)


def main(values: flags.FlagValues) -> None:
    """Measures, or prints what was measured."""
    check(values)
    out = pathlib.Path(values.out)
    file = running.Options(out).file
    if values.report:
        lines = store.read(file)
        if not lines:
            raise UserError(f'--out={out}: there are no results; run the command without --report')
        print(report.render(lines))
        return
    chosen = table(values)
    if values.list:
        print('\n'.join(f'{item.part}  {item.key}' for item in chosen))
        return
    out.mkdir(parents=True, exist_ok=True)
    # Programs that were compiled before a stop are not compiled again.
    os.environ['JAX_COMPILATION_CACHE_DIR'] = str((out / 'programs').absolute())
    options = running.Options(
        out,
        seconds=values.seconds,
        limit=values.limit,
        sizes=items.SMALL if values.small else items.FULL,
        small=values.small,
        again=values.again,
    )
    say = functools.partial(print, flush=True)
    # As after Ctrl-C, the processes that this one started must end with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        running.run(chosen, options, say=say)
    except process.WorkerError as error:
        raise UserError(f'{error}; see {out / "jax.log"}') from error


if __name__ == '__main__':
    sys.exit(
        command_line.run_command(main, define_flags, command='benchmarks.accelerator', usage=USAGE)
    )
