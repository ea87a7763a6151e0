"""Checks of arguments, each of which raises one kind of message.

A message begins with the argument as a caller would write it, ``steps=0``, and says what would be
right. Commands translate names of arguments to flags, see `command_line.in_flags`.
"""

import math
import numbers
from collections.abc import Collection
from typing import Any

from metastyle_jax.core.errors import UserError


def one_of(
    name: str, value: Any, known: Collection[str], error: type[Exception] = UserError
) -> None:
    """Raises `error` unless a value is one of the known words.

    Args:
        name: of the argument.
        value: to check.
        known: all words that are allowed.
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
    """Raises `error` unless a value is a whole number within bounds.

    Args:
        name: of the argument.
        value: to check; an integer of Python or NumPy, not a bool.
        least: the smallest that is allowed.
        most: the largest that is allowed; None for no bound.
        error: class of the error.
    """
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not whole or value < least:
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
    """Raises `error` unless a value is a finite number within bounds.

    Args:
        name: of the argument.
        value: to check; a real number of Python or NumPy, not a bool.
        least: the smallest that is allowed.
        above: what it must exceed.
        below: what must exceed it.
        most: the largest that is allowed.
        error: class of the error.
    """
    bounds = [
        (f'at least {least:g}', least > -math.inf),
        (f'above {above:g}', above > -math.inf),
        (f'below {below:g}', below < math.inf),
        (f'at most {most:g}', most < math.inf),
    ]
    if is_real_number(value) and least <= value <= most and above < value < below:
        return
    told = [text for text, given in bounds if given]
    raise error(f'{name}={value!r}: it must be a number {" and ".join(told)}'.rstrip())


def is_real_number(value: Any) -> bool:
    """Whether a value is a finite real number, and not a bool."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer may exceed every float
        return False
