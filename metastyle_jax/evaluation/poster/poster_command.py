"""The command `metastyle poster`."""

import pathlib

from absl import flags, logging

from metastyle_jax.core import checks, command_line
from metastyle_jax.core.devices import allocator
from metastyle_jax.core.errors import UserError
from metastyle_jax.evaluation.poster.config import SYSTEMS, PosterConfig

USAGE = """Compares the eight systems of MetaStyle's poster on this machine.

  metastyle poster
  metastyle poster --pictures --style=painting.jpg --input=photo.jpg

The first command counts parameters, measures seconds and memory at 256 and 512 pixels, and measures
the quality of stylized photographs. It writes results.json, results.md and trade_off.png to
--workdir. --content and --style are then data sources, such as folder:paintings.

The second command stylizes the photograph with all systems, and writes one picture with a column
for each system.
"""


def define_flags(values: flags.FlagValues) -> None:
    """Adds the flags of the command."""
    add = command_line.Flags(values)
    add.switch('pictures', False, 'Stylize photographs with all systems instead of measuring them.')
    add.path_list('input', None, 'With --pictures: photographs, separated by commas.')
    add.path(
        'output',
        None,
        'With --pictures: image to write, .png, .jpg or .webp (default: poster.png).',
        writes=True,
    )
    add.path('workdir', 'runs/poster', 'Folder for the results.', writes=True)
    add.settings(PosterConfig())
    add.words(
        'weights',
        [],
        'Trained weights, NAME=PATH, separated by commas, as in adain=runs/adain (default: those '
        'of the package).',
    )
    add.switch('overwrite', False, 'Replace an existing file.')


def main(values: flags.FlagValues) -> None:
    """Measures the systems, or draws the contact sheet, as the flags say."""
    config = PosterConfig(**command_line.given_settings(values, PosterConfig))
    config.validate()
    weights = parse_weights(values.weights)
    if not values.pictures:
        for name in ('input', 'output'):
            if getattr(values, name):
                raise UserError(f'--{name} needs --pictures: add it, or leave --{name} out')
        _measure(values, config, weights)
        return
    command_line.require(values, 'input')
    output = values.output or 'poster.png'
    if values.style == PosterConfig().style:
        raise UserError('--pictures needs --style=FILE, the style image')
    # JAX is loaded here, so that `--help` and errors in the flags appear at once.
    from metastyle_jax.data.images import image_writing
    from metastyle_jax.evaluation.poster import comparison_sheet

    for source in (*values.input, values.style):
        image_writing.check_output(output, overwrite=values.overwrite, source=source)
    sheet, missing = comparison_sheet.draw(
        values.style, values.input, config=config, weights=weights
    )
    for name, reason in missing.items():
        logging.warning('%s is left out: %s', name, reason)
    image_writing.write(output, sheet, overwrite=values.overwrite)
    logging.info('wrote %s', output)


def _measure(values: flags.FlagValues, config: PosterConfig, weights: dict[str, str]) -> None:
    """Measures all systems, and prints the tables."""
    from metastyle_jax.evaluation import report
    from metastyle_jax.evaluation.poster import poster, poster_tables

    if config.quality:
        report.require_matplotlib()
    folder = pathlib.Path(values.workdir)
    if (folder / 'results.json').exists() and not values.overwrite:
        raise UserError(
            f'workdir={folder} already has results: choose another folder, or give --overwrite'
        )
    results = poster.run(folder, config=config, weights=weights)
    print(poster_tables.render(results))
    logging.info('results.json, results.md and trade_off.png are in %s', folder)


def parse_weights(words: list[str]) -> dict[str, str]:
    """Converts words such as ``adain=runs/adain`` to a dict.

    Raises:
        UserError: a word does not have this form, or names an unknown system.
    """
    found = {}
    for word in words:
        name, equals, path = word.partition('=')
        if not equals or not path:
            raise UserError(f'weights={word}: write NAME=PATH, as in adain=runs/adain')
        checks.one_of('weights', name, SYSTEMS)
        found[name] = path
    return found


def run_poster() -> int:
    """Runs the command `metastyle poster`; returns the exit code."""
    allocator.keep_freed_memory()
    return command_line.run_command(
        main,
        define_flags,
        command='metastyle poster',
        usage=USAGE,
        positional='input',
        output='output',
    )
