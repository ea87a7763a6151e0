"""The command `python -m benchmarks.clients`."""

import datetime
import json
import pathlib
import sys

from absl import flags, logging

from benchmarks import machine
from benchmarks.clients import catalogue, matrix, table
from metastyle_jax.core import command_line
from metastyle_jax.core.errors import UserError

USAGE = """Opens exported styles in other programs, and compares their output with that of JAX.

  bash launch/clients.sh
  bash launch/clients.sh --only='OpenCV 4,tract' --repeats=0

The script installs the programs first. Run it on a machine that does nothing else.
"""


def define_flags(values: flags.FlagValues) -> None:
    """Adds the command's flags."""
    flags.DEFINE_string(
        'environments', 'runs/clients', 'Folder of the virtual environments.', flag_values=values
    )
    flags.DEFINE_string('out', 'runs/clients/out', 'Folder of files and logs.', flag_values=values)
    flags.DEFINE_string(
        'style', None, 'Style file (default: one that is made up).', flag_values=values
    )
    flags.DEFINE_list(
        'only', [], 'Measures only these clients, by their names.', flag_values=values
    )
    flags.DEFINE_integer('repeats', 7, 'Rounds of times; 0 for no times.', flag_values=values)
    flags.DEFINE_integer('limit', 400, 'Most seconds for one answer.', flag_values=values)


def main(values: flags.FlagValues) -> int:
    """Measures as the flags say; 1 if a client failed that should not."""
    names = [client.name for client in catalogue.CLIENTS]
    for name in values.only:
        if name not in names:
            raise UserError(f'--only={name}: it must be one of {", ".join(names)}')
    chosen = [each for each in catalogue.CLIENTS if each.name in (values.only or names)]
    out = pathlib.Path(values.out)
    made = matrix.measure(
        chosen,
        matrix.Options(
            pathlib.Path(values.environments), out, values.style, values.repeats, values.limit
        ),
        say=logging.info,
    )
    made['cpu'] = f'{machine.cpu()}, {machine.cores()} cores'
    made['date'] = datetime.datetime.now(datetime.UTC).date().isoformat()
    (out / 'results.json').write_text(json.dumps(made, indent=1), encoding='utf-8')
    print(table.render(made))
    failures = table.failures(made)
    for line in failures:
        logging.error('%s', line)
    return 1 if failures else 0


if __name__ == '__main__':
    sys.exit(command_line.run_command(main, define_flags, command='clients', usage=USAGE))
