"""The command `metastyle-train`: flags, configuration file and processes."""

import ast
import os
import sys
import textwrap
from typing import Any

from absl import flags

from metastyle_jax.core import checks, command_line
from metastyle_jax.core.devices import allocator, watchdog
from metastyle_jax.core.errors import UserError
from metastyle_jax.training.configuration import files, schema, values


def _entry_names() -> str:
    """Returns the names of all configuration entries as text, with a paragraph for each section."""
    sections: dict[str, list[str]] = {}
    for name in schema.ENTRIES:
        sections.setdefault(name.rpartition('.')[0], []).append(name)
    paragraphs = (textwrap.wrap(', '.join(names), 92) for names in sections.values())
    return textwrap.indent('\n'.join(line for lines in paragraphs for line in lines), '  ')


USAGE = f"""Meta-trains a style transformer with exact second-order meta-gradients.

  metastyle-train --config=configs/coco.py --workdir=runs/coco
  metastyle-train --config=configs/coco.py:tiny --workdir=runs/tiny
  metastyle-train --config=configs/folder.py --config.inner.steps=2 --workdir=runs/mine
  metastyle-train ... --coordinator=HOST:PORT --processes=2 --process=0  # on each host, 0 and 1

The same command resumes a run that was stopped; SIGTERM and Ctrl-C save a checkpoint first. Each
entry of the configuration has a flag --config.NAME=VALUE, which replaces the value of the file:

{_entry_names()}
"""


def define_flags(flag_values: flags.FlagValues) -> None:
    """Adds the flags of the command to an empty set."""
    add = command_line.Flags(flag_values)
    add.path(
        'config',
        None,
        'Configuration file; an argument of the file follows a colon, as in configs/coco.py:tiny.',
    )
    add.path(
        'workdir',
        None,
        'Folder of the run, for checkpoints, logs and config.json; or a bucket, gs://BUCKET/RUN.',
        writes=True,
        schemes=('gs', 's3'),
    )
    add.vgg()
    _define_process_flags(flag_values)
    for entry in schema.ENTRIES.values():
        _define_entry_flag(entry, flag_values)


def main(flag_values: flags.FlagValues) -> int:
    """Trains as the flags say; returns the exit code."""
    command_line.require(flag_values, 'config', 'workdir')
    overrides = {
        name: flag_values[f'config.{name}'].value
        for name in schema.ENTRIES
        if flag_values[f'config.{name}'].present
    }
    config = values.complete(files.load(flag_values.config), overrides)
    # Imported late, because they load JAX, Orbax and Grain, which help and mistakes do not need.
    from metastyle_jax.core.devices import processes
    from metastyle_jax.training import train

    place = None
    if flag_values.distributed or flag_values.coordinator or flag_values.processes:
        place = processes.Place(
            flag_values.coordinator or '',
            flag_values.processes,
            flag_values.process,
            flag_values.heartbeat,
        )

    with processes.joined(place):
        return train.train(config, flag_values.workdir, vgg_file=flag_values.vgg)


def run_train() -> int:
    """Runs the console script `metastyle-train`; returns the exit code."""
    allocator.keep_freed_memory()
    code = command_line.run_command(
        main,
        define_flags,
        command='metastyle-train',
        usage=USAGE,
        positional='config',
        output='workdir',
    )
    # These modules are loaded only if the run came so far as to need them.
    processes = sys.modules.get('metastyle_jax.core.devices.processes')
    checkpoints = sys.modules.get('metastyle_jax.storage.checkpoints')
    if processes is None:
        return code
    return processes.leave(code, stuck=checkpoints is not None and checkpoints.abandoned())


def _define_process_flags(flag_values: flags.FlagValues) -> None:
    """Adds the flags of runs with several processes; their defaults come from the environment."""
    add = command_line.Flags(flag_values)
    add.text(
        'coordinator',
        os.environ.get('METASTYLE_COORDINATOR'),
        'HOST:PORT of the first process of a run with several processes.',
    )
    add.number(
        'processes',
        _number_in_environment('METASTYLE_PROCESSES'),
        'Number of processes of the run; each is started with the same command.',
    )
    add.number(
        'process',
        _number_in_environment('METASTYLE_PROCESS'),
        'Number of this process, from 0; process 0 runs at the address in --coordinator.',
    )
    add.switch(
        'distributed',
        False,
        'Join the other processes of a Slurm job, of an Open MPI job or of a TPU slice.',
    )
    add.number(
        'heartbeat',
        watchdog.HEARTBEAT,
        'Seconds without a sign of life after which a process counts as lost and all others end.',
    )


def _number_in_environment(name: str) -> int:
    """Reads a whole number from an environment variable; 0 if it is unset or empty."""
    word = os.environ.get(name) or '0'
    if not word.isdecimal():
        raise UserError(f'{name}={word} in the environment: it must be a whole number')
    return int(word)


def _define_entry_flag(entry: schema.ConfigEntry, flag_values: flags.FlagValues) -> None:
    """Adds the flag of a configuration entry."""
    kind, optional = checks.setting_type(entry.field)
    arguments = (f'config.{entry.name}', entry.field.default, entry.meaning)
    if checks.is_word_list(kind) or optional:
        flags.DEFINE(_LiteralParser(), *arguments, flag_values=flag_values)
    else:
        _DEFINE.get(kind, flags.DEFINE_string)(*arguments, flag_values=flag_values)


_DEFINE = {int: flags.DEFINE_integer, float: flags.DEFINE_float, bool: flags.DEFINE_bool}


class _LiteralParser(flags.ArgumentParser):
    """Parses a value that is written as in Python, such as ``('a', 'b')`` or ``None``."""

    def parse(self, argument: Any) -> Any:
        """Returns the value; raises ValueError if the text is not a Python literal."""
        if not isinstance(argument, str):
            return argument
        try:
            value = ast.literal_eval(argument)
        except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
            raise ValueError("write it as in Python: ('a', 'b'), True or None") from error
        # A single word in brackets is a text to Python; the user means a tuple of one text.
        return (value,) if isinstance(value, str) else value
