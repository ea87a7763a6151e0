"""Parses the flags of a command, and makes its help text."""

import re
import shlex
import sys
import textwrap

from absl import flags

from metastyle_jax.core.commands import first_steps, paths, suggestions
from metastyle_jax.core.errors import UserError

# Python's words for a value that cannot be converted, and the words to show in their place.
_CONVERSION_ERRORS = {
    'invalid literal for int()': 'a whole number is needed',
    'could not convert string to float': 'a number is needed',
    "('Non-boolean argument": 'true or false is needed',
}
_HELP_WIDTH = 84


def parse(values: flags.FlagValues, positional: str, output: str, *, many: bool = False) -> None:
    """Parses `sys.argv` into a set of flags.

    Args:
        values: the set of flags; the parsed values are stored there.
        positional: the flag that a word without dashes sets; '' if such words are an error.
        output: the flag that ``-o`` stands for; '' if there is none.
        many: whether several words without dashes are allowed; the flag is then a list.

    Raises:
        UserError: a flag is unknown, a value has the wrong type, a web address is given instead of
            a file, or there are too many words without dashes.
    """
    values.set_gnu_getopt(True)  # words without dashes may stand before flags
    try:
        words = values(_without_short_flags(sys.argv, output))[1:]
    except flags.UnrecognizedFlagError as error:
        raise UserError(f'{_unknown_flag(error, values)} (see --help)') from error
    except flags.Error as error:
        raise UserError(f'{_reason(error)} (see --help)') from error
    if words:
        _set_positional(values, words, positional, many=many)
    if problems := paths.address_problems(values):
        raise UserError(problems[0])


def _set_positional(
    values: flags.FlagValues, words: list[str], positional: str, *, many: bool
) -> None:
    """Sets the flag `positional` to the words without dashes."""
    if not positional or (len(words) > 1 and not many):
        raise UserError(f'{" ".join(words)!r} is no flag: write --name=value (see --help)')
    if values[positional].present:
        rest = [word for word in sys.argv[1:] if not word.startswith(f'--{positional}=')]
        example = first_steps.lines(f'{first_steps.program()} {shlex.join(rest)}')
        raise UserError(
            f'{words[0]!r} and --{positional} name the same thing: leave one of them out:{example}'
        )
    values[positional].parse(words if many else words[0])
    values[positional].using_default_value = False
    values[positional].present += 1


def help_text(values: flags.FlagValues, names: list[str], usage: str) -> str:
    """Makes the text of `--help`: the usage, and an entry with the default for each flag.

    Args:
        values: the command's flags.
        names: flags to list. Flags with a dot in their name, which are entries of a configuration,
            are left out because there are too many.
        usage: text above the list.
    """
    lines = [usage.strip(), '']
    for name in names:
        if '.' in name:
            continue
        flag = values[name]
        default = flag.default
        if isinstance(default, list):  # as a user writes it
            default = ','.join(map(str, default))
        default = '' if default in (None, False, '') else f' (default: {default})'
        value = '' if flag.boolean else f'={flag.parser.syntactic_help and name.upper() or "..."}'
        lines.append(f'  --{name}{value}')
        indent = ' ' * 6
        # absl appends this remark to the help of a flag that may be given several times.
        meaning = flag.help.partition(';\n    repeat this option')[0]
        text = f'{meaning}{default}'
        lines += textwrap.wrap(text, _HELP_WIDTH, initial_indent=indent, subsequent_indent=indent)
    return '\n'.join(lines)


def _without_short_flags(argv: list[str], output: str) -> list[str]:
    """Replaces ``-o`` by the flag `output` in all words."""
    if not output:
        return argv
    return [re.sub('^-o(?==|$)', f'--{output}', word) for word in argv]


def _unknown_flag(error: flags.UnrecognizedFlagError, values: flags.FlagValues) -> str:
    """Makes the message for a flag that the command does not have; suggests a similar flag."""
    name = error.flagname
    if '.' in name:  # an entry of a configuration: absl suggests others
        return _reason(error)
    meant = suggestions.meant_flag(name, list(values))
    text = f"Unknown command line flag '{name}'"
    if not meant:
        return text
    # absl gives the whole word as the value of an unknown flag.
    value = str(error.flagvalue).partition('=')[2]
    return f'{text}. Did you mean --{meant}{"=" + shlex.quote(value) if value else ""}?'


def _reason(error: Exception) -> str:
    """Makes a message from an error of absl, with Python's terms replaced by plain words."""
    text = ' '.join(str(error).split()) or type(error).__name__
    for python, plain in _CONVERSION_ERRORS.items():
        start, matched, _ = text.partition(python)
        text = start + plain if matched else text
    return text
