"""Loads configuration files: Python files with a function `get_config`."""

import pathlib
import runpy
from collections.abc import Mapping
from typing import Any

from metastyle_jax.core import files
from metastyle_jax.core.errors import UserError
from metastyle_jax.training.configuration import values


def load(word: str) -> values.NestedSettings | Mapping[str, Any]:
    """Runs the function `get_config` of a configuration file.

    Args:
        word: ``FILE`` or ``FILE:ARGUMENT``, such as ``configs/coco.py:tiny``. The argument is
            passed to `get_config` as a string.

    Returns:
        The result of `get_config`: an `ml_collections.ConfigDict` or nested dicts. Entries that are
        missing have the defaults of the schema.

    Raises:
        UserError: the file cannot be read or run, or returns something else.
    """
    # Only a colon after `.py` separates the argument, so a Windows drive letter is kept.
    name, colon, argument = word.partition('.py:')
    path = name + '.py' if colon else name
    try:
        if not pathlib.Path(path).is_file():
            raise UserError(f'config={path}: there is no such file; an example is configs/coco.py')
        get_config = runpy.run_path(path).get('get_config')
        if not callable(get_config):
            raise UserError(f'config={path}: the file must define a function get_config')
        settings = get_config(argument) if colon else get_config()
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # the file may raise anything
        raise UserError(
            f'config={word}: the file fails with {type(error).__name__}: {files.first_line(error)}'
        ) from error
    if not isinstance(settings, Mapping) and not hasattr(settings, 'to_dict'):
        raise UserError(
            f'config={path}: get_config returned a {type(settings).__name__}; it must return an '
            'ml_collections.ConfigDict'
        )
    return settings
