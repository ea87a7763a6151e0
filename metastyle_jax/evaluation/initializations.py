"""Reads the initializations that an evaluation compares."""

import pathlib
import re
from collections.abc import Mapping, Sequence

from metastyle_jax.core.errors import UserError
from metastyle_jax.evaluation.config import RANDOM
from metastyle_jax.storage import theta_files

_NAME = r'[\w.+-]+'


def parse(words: Sequence[str]) -> dict[str, theta_files.Theta]:
    """Reads initializations.

    Args:
        words: `PATH` or `NAME=PATH`; the name is otherwise the file's name without its suffix.

    Returns:
        Name -> initialization.

    Raises:
        UserError: a name occurs twice or is reserved, or a file cannot be used.
    """
    thetas: dict[str, theta_files.Theta] = {}
    for word in words:
        given = re.fullmatch(f'({_NAME})=(.+)', word)  # the path may contain '=' too
        name, path = given.groups() if given else (pathlib.PurePath(word).stem, word)
        if not re.fullmatch(_NAME, name):
            raise UserError(
                f'theta={word}: {name!r} is not a valid name: write NAME=PATH, where NAME '
                'consists of letters, digits, . _ + and -'
            )
        if name in thetas or name == RANDOM:
            raise UserError(f'theta={word}: the name {name!r} is taken; write NAME={path}')
        thetas[name] = theta_files.load_theta(path)
    return thetas


def with_adam_alone(thetas: Mapping[str, theta_files.Theta]) -> dict[str, theta_files.Theta]:
    """Adds each initialization with learned rates a second time, without them, as `NAME-adam`.

    Args:
        thetas: name -> initialization.

    Returns:
        Name -> initialization: the given ones, then those without learned rates.

    Raises:
        UserError: no initialization has learned rates, or a name is taken.
    """
    alone = {
        f'{name}-adam': theta._replace(rates=None)
        for name, theta in thetas.items()
        if theta.rates is not None
    }
    if not alone:
        raise UserError('adam_alone=True: no θ has learned rates, so Adam takes all steps anyway')
    if taken := sorted(alone.keys() & thetas.keys()):
        raise UserError(f'adam_alone=True: the name {taken[0]!r} is taken: give the θ another one')
    return {**thetas, **alone}
