"""The command `metastyle stylize`, whose styles may be paintings.

The modules that load JAX are imported inside the functions, so that `--help` and errors on the
command line appear at once.
"""

import os
from collections.abc import Sequence
from typing import Any

from absl import flags, logging

from metastyle_jax.core import command_line
from metastyle_jax.core.errors import UserError
from metastyle_jax.instant import paintings
from metastyle_jax.instant.config import InstantConfig
from metastyle_jax.stylization import command


def define_flags(values: flags.FlagValues) -> None:
    """Adds the flags of the command."""
    command.define_flags(values)
    add = command_line.Flags(values)
    add.settings(InstantConfig())
    add.path(
        'save_style',
        None,
        'With a painting as --style: also write its style to this file, .safetensors.',
        writes=True,
    )


def main(values: flags.FlagValues) -> int:
    """Stylizes as the flags say; returns the exit code."""
    return command.main(values, _styles_of)


def _styles_of(values: flags.FlagValues) -> Sequence[Any]:
    """Returns the styles of --style, with a function in place of each painting."""
    config = InstantConfig(**command_line.given_settings(values, InstantConfig))
    config.validate()
    words = [word for word in values.style if paintings.is_painting(word)]
    if not words:
        for name in ('steps', 'save_style'):
            if values[name].present:
                raise UserError(f'--{name} is for a painting as --style: leave it out')
        return values.style
    for word in words:
        exist = os.path.exists(word) and os.path.exists(values.output)
        if exist and os.path.samefile(word, values.output):
            raise UserError(
                f'output={values.output}: this file is the painting; choose another name'
            )
    if values.all:
        raise UserError(
            f'--all takes a library, and --style={words[0]} is a picture: leave --all out'
        )
    from metastyle_jax.core.devices import allocator
    from metastyle_jax.storage import style_files

    if values.save_style is not None:
        if len(words) > 1:
            raise UserError(
                f'--save_style is for one painting, and --style names {len(words)}: name one'
            )
        style_files.check_output(values.save_style, overwrite=values.overwrite)
    allocator.keep_freed_memory()

    def keep(style: style_files.Style) -> None:
        if values.save_style is not None:
            style_files.save_style(values.save_style, style, overwrite=values.overwrite)
            logging.info('wrote %s', values.save_style)

    return paintings.with_paintings(
        values.style, theta=values.theta, config=config, progress=True, made=keep
    )


def run_stylize() -> int:
    """The console script."""
    return command_line.run_command(
        main,
        define_flags,
        command='metastyle-stylize',
        usage=command.USAGE,
        positional='input',
        many=True,
        output='output',
        renamed=command.RENAMED,
    )
