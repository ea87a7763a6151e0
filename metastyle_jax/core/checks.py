"""Checks arguments and settings, and raises errors with uniform messages.

A message begins with the argument as a caller would write it, as in ``steps=0: it must be …``.
Commands translate the names of arguments to flags, see `command_line.in_flags`.

The settings of an operation are a frozen dataclass. `setting` makes each field, and stores the help
text and the allowed range in it. `check_settings` and the flags of a command (see
`command_line.Flags.settings`) read both from the field, so that they are written only once.
"""

import collections.abc
import dataclasses
import difflib
import math
import numbers
import typing
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

from metastyle_jax.core.errors import UserError


def one_of(
    name: str, value: Any, known: Collection[str], error: type[Exception] = UserError
) -> None:
    """Raises an error unless a value is one of the known words.

    Args:
        name: name of the argument.
        value: the value to check.
        known: the allowed words.
        error: class of the error.
    """
    if not isinstance(value, str) or value not in known:
        raise error(f'{name}={value!r}: it must be one of {", ".join(known)}')


def whole_number(
    name: str,
    value: Any,
    least: int,
    most: int | None = None,
    error: type[Exception] = UserError,
) -> None:
    """Raises an error unless a value is an integer within bounds.

    Args:
        name: name of the argument.
        value: the value to check. Integers of Python and NumPy pass; booleans do not.
        least: the smallest allowed number.
        most: the largest allowed number; None for no bound.
        error: class of the error.
    """
    is_whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not is_whole or value < least:
        raise error(f'{name}={value!r}: it must be a whole number of at least {least}')
    if most is not None and value > most:
        raise error(f'{name}={value!r}: it must be at most {most}')


def real_number(
    name: str,
    value: Any,
    *,
    least: float = -math.inf,
    above: float = -math.inf,
    below: float = math.inf,
    most: float = math.inf,
    error: type[Exception] = UserError,
) -> None:
    """Raises an error unless a value is a finite number within bounds.

    Args:
        name: name of the argument.
        value: the value to check. Real numbers of Python and NumPy pass; booleans do not.
        least: the smallest allowed number.
        above: a number that the value must exceed.
        below: a number that must exceed the value.
        most: the largest allowed number.
        error: class of the error.
    """
    if is_real_number(value) and least <= value <= most and above < value < below:
        return
    bounds = [
        (f'at least {least:g}', least > -math.inf),
        (f'above {above:g}', above > -math.inf),
        (f'below {below:g}', below < math.inf),
        (f'at most {most:g}', most < math.inf),
    ]
    given = [text for text, is_given in bounds if is_given]
    raise error(f'{name}={value!r}: it must be a number {" and ".join(given)}'.rstrip())


def is_real_number(value: Any) -> bool:
    """Whether a value is a finite real number and not a boolean."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer of Python may be larger than every float
        return False


def setting(
    default: Any,
    help_text: str,
    *,
    known: Collection[str] = (),
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    below: float | None = None,
    flag: str | None = None,
    path: bool = False,
) -> Any:
    """Makes a field of a dataclass of settings.

    Args:
        default: the default value.
        help_text: one sentence about the setting for `--help`.
        known: the allowed words; empty if any value is allowed.
        least: the smallest allowed number.
        most: the largest allowed number.
        above: a number that the value must exceed.
        below: a number that must exceed the value.
        flag: name of the command-line flag; None if it is the name of the field.
        path: whether the value is the path of a file.
    """
    metadata = {
        'help': help_text, 'known': known, 'flag': flag, 'path': path,
        'least': least, 'most': most, 'above': above, 'below': below,
    }  # fmt: skip
    return dataclasses.field(default=default, metadata=metadata)


def setting_type(field: dataclasses.Field) -> tuple[Any, bool]:
    """Returns the type of a field of settings without None, and whether None is allowed."""
    arguments = typing.get_args(field.type)
    if type(None) not in arguments:
        return field.type, False
    others = [argument for argument in arguments if argument is not type(None)]
    return (others[0] if len(others) == 1 else Any), True


def is_word_list(kind: Any) -> bool:
    """Whether a type is a list of words: ``Sequence[str]`` or ``tuple[str, ...]``."""
    return typing.get_origin(kind) in (collections.abc.Sequence, tuple)


def words_of(kind: Any) -> tuple[str, ...]:
    """Returns the words that a ``Literal`` type lists; empty for other types."""
    return typing.get_args(kind) if typing.get_origin(kind) is typing.Literal else ()


def check_settings(settings: Any) -> None:
    """Raises UserError unless each setting has the type and the range of its field.

    Args:
        settings: an instance of a dataclass. Only fields made by `setting` are checked.
    """
    for field in dataclasses.fields(settings):
        if 'help' in field.metadata:
            check_setting(field.name, field, getattr(settings, field.name))


def check_setting(name: str, field: dataclasses.Field, value: Any) -> None:
    """Raises UserError unless a value has the type and the range of a field.

    Args:
        name: name of the setting, for the message.
        field: a field made by `setting`.
        value: the value to check.
    """
    kind, optional = setting_type(field)
    allowed = field.metadata
    if value is None and optional:
        return
    if known := allowed['known'] or words_of(kind):
        one_of(name, value, known)
    elif kind is bool:
        if not isinstance(value, bool):
            none = ', or None' if optional else ''
            raise UserError(f'{name}={value!r}: it must be True or False{none}')
    elif kind is int:
        whole_number(name, value, allowed['least'] or 0, allowed['most'])
    elif kind is float:
        bounds = {key: allowed[key] for key in ('least', 'most', 'above', 'below')}
        real_number(name, value, **{key: x for key, x in bounds.items() if x is not None})
    elif kind is str:
        if not isinstance(value, str):
            raise UserError(f'{name}={value!r}: it must be text')
    elif is_word_list(kind) and (
        not isinstance(value, list | tuple) or not all(isinstance(word, str) for word in value)
    ):
        raise UserError(f'{name}={value!r}: it must be a list of words')


_Settings = TypeVar('_Settings')


def replace_settings(settings: _Settings, changes: Mapping[str, Any]) -> _Settings:
    """Returns settings with some fields replaced.

    Args:
        settings: an instance of a dataclass.
        changes: names of fields -> their new values.

    Raises:
        UserError: no field has one of the names; the message suggests the closest name.
    """
    known = [field.name for field in dataclasses.fields(settings)]  # type: ignore[arg-type]
    for name in changes:
        if name not in known:
            closest = difflib.get_close_matches(name, known, n=1)
            meant = f'is {closest[0]!r} meant?' if closest else f'it must be one of {known}'
            raise UserError(f'there is no setting {name!r}: {meant}')
    return dataclasses.replace(settings, **changes)  # type: ignore[type-var]
