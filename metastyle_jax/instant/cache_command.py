"""The command `metastyle cache`: lists or removes the cached styles of paintings."""

import time

from absl import flags

from metastyle_jax.core import command_line, files
from metastyle_jax.core.errors import UserError
from metastyle_jax.instant import style_cache

USAGE = """Lists, removes or limits the cached styles of `metastyle stylize --style=painting.jpg`.

  metastyle cache
  metastyle cache --clear
  metastyle cache --limit=20
"""


def define_flags(values: flags.FlagValues) -> None:
    """Adds the flags of the command."""
    add = command_line.Flags(values)
    add.switch('clear', False, 'Remove all styles from the cache.')
    add.real(
        'limit',
        None,
        'Largest size of the cache in megabytes, for all later runs; 0 turns the cache off '
        f'(default: {style_cache.DEFAULT_LIMIT}).',
    )


def main(values: flags.FlagValues) -> int:
    """Changes the cache as the flags say, and prints its contents; returns the exit code."""
    if values.clear and values.limit is not None:
        raise UserError('--clear and --limit exclude each other: leave one out')
    cache = style_cache.StyleCache()
    if values.limit is not None:
        cache.set_limit(values.limit)
    if values.clear:
        print(f'removed {_count(cache.clear())}', flush=True)
    entries = cache.entries()
    size = sum(entry.size for entry in entries)
    print(
        f'{files.shown(str(cache.folder))}: {_count(len(entries))}, {size} bytes; the limit is '
        f'{cache.limit:g} MB'
    )
    for entry in entries:
        used = time.strftime('%Y-%m-%d %H:%M', time.localtime(entry.used))
        print(f'  {used} {entry.size:>10}  {entry.name() or "broken file"}')
    return 0


def _count(number: int) -> str:
    return f'{number} style{"" if number == 1 else "s"}'


def run_cache() -> int:
    """The console script."""
    return command_line.run_command(main, define_flags, command='metastyle_jax.cache', usage=USAGE)
