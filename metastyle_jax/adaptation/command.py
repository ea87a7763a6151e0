"""The command `metastyle-adapt`: adapts θ to one style image, or to each of a folder."""

import inspect

from absl import flags, logging

from metastyle_jax.adaptation import adapt, adapt_folder
from metastyle_jax.core import allocator, command_line
from metastyle_jax.core.errors import UserError
from metastyle_jax.storage import style_files

USAGE = """Adapts a meta-trained network to one style image.

  metastyle-adapt --style=painting.jpg --out=painting.safetensors
  metastyle-adapt --style=painting.jpg --out=painting.safetensors --theta=runs/coco
  metastyle-adapt --style=painting.jpg --out=painting.safetensors --theta=hf://OWNER/NAME
  metastyle-adapt --style=paintings --out=library.safetensors
"""


def define_flags(values: flags.FlagValues) -> None:
    """Adds the command's flags; their defaults are those of `adapt`."""
    add = command_line.Flags(values)
    default = inspect.signature(adapt.adapt).parameters
    add.text(
        'style',
        None,
        'The style image; or, for a library of styles, a folder of them, searched with its '
        'sub-folders, or a data source.',
    )
    add.text(
        'theta',
        None,
        "A training run's folder, one checkpoint of it, a .safetensors file, or "
        'hf://OWNER/NAME[@REVISION] (default: the one that comes with the package).',
    )
    add.text(
        'out',
        None,
        'The style file to write, .safetensors; or the library to add styles to.',
    )
    add.switch('overwrite', False, 'Replace an existing file.')
    for name, define, help_text in (
        ('content', add.text, 'Photographs to adapt on: sample:, folder:PATH or tfds:NAME.'),
        ('content_exclude', add.words, 'Leave out photographs named with these words.'),
        ('steps', add.number, 'Gradient steps (of a library: 30).'),
        (
            'inner_steps',
            add.number,
            'How many of them are of the inner loop that θ was trained for, if its rates are '
            'learned; for photographs of the size of that training.',
        ),
        (
            'rate',
            add.real,
            "Adam's rate (from predicted norms 2e-4, of norms alone 4e-4; from θ 1.5e-3).",
        ),
        ('schedule', add.text, "Of the rate: 'falling', or 'constant' for plain Adam."),
        ('batch', add.number, 'Photographs a step (of a library: 1).'),
        ('size', add.number, 'Sides of the photographs in pixels.'),
        ('style_size', add.number, 'The style image gets the area of this, squared.'),
        ('match_colours', add.text, 'A photograph whose colours the painting gets first.'),
        ('params', add.text, "What is adapted: 'all' (6.7 MB), or 'norm' (20 kB, needs θ later)."),
        ('content_weight', add.real, 'Weight of the content loss.'),
        ('style_weight', add.real, 'Weight of the style loss.'),
        ('seed', add.number, 'Of the order and the crops of the photographs.'),
    ):
        value = default[name].default
        define(name, list(value) if value == () else value, help_text)
    add.text(
        'begin',
        'predicted',
        "Where to begin: at 'predicted' norms of the style, or at 'theta' itself.",
    )
    for name, help_text in (
        ('styles_at_once', 'Of a library: how many are adapted in one batch; for memory alone.'),
        ('devices', 'Of a library: over how many devices they are shared out (default: all).'),
    ):
        value = inspect.signature(adapt_folder.adapt_many).parameters[name].default
        add.number(name, value, help_text)
    add.vgg()


def main(values: flags.FlagValues) -> int:
    """Adapts as the flags say; returns the exit code."""
    command_line.require(values, 'style', 'out')
    if adapt_folder.is_many(values.style):
        return _adapt_many(values)
    for name in ('styles_at_once', 'devices'):
        if values[name].present:
            raise UserError(f'--{name} is for a folder of styles: leave it out')
    style_files.check_output(values.out, overwrite=values.overwrite)
    options = {
        name: getattr(values, name)
        for name in inspect.signature(adapt.adapt).parameters
        if name not in ('theta', 'style', 'vgg_file', 'progress')
    }
    style = adapt.adapt(values.style, values.theta, vgg_file=values.vgg, progress=True, **options)
    style_files.save_style(values.out, style, overwrite=values.overwrite)
    total = style.losses['total']
    logging.info('total loss %.5g -> %.5g; wrote %s', total[0], total[-1], values.out)
    return 0


def _adapt_many(values: flags.FlagValues) -> int:
    """Adds the pictures of a folder to a library; returns the exit code."""
    if values['params'].present and values.params != 'norm':
        raise UserError(
            f'--params={values.params}: a library holds instance norms, --params=norm; adapt to '
            'one picture for more'
        )
    options = {
        name: getattr(values, name)
        for name in inspect.signature(adapt_folder.adapt_many).parameters
        # Of what is not given, the defaults are those of a library.
        if name in values and values[name].present and name not in ('theta', 'out')
    }
    with command_line.Stop().listening() as stop:
        made = adapt_folder.adapt_many(
            values.style, values.theta, vgg_file=values.vgg, progress=True,
            out=values.out, stopped=lambda: stop.signal is not None, **options,
        )  # fmt: skip
    for name, reason in made.failed.items():
        logging.warning('no style of %s: %s', name, reason)
    logging.info(
        '%d styles new, %d in all, %d pictures left out: %s',
        made.done, len(made.library.entries), len(made.failed), values.out,
    )  # fmt: skip
    if made.stopped:
        logging.info('stopped before all were done: the same command goes on')
    return 128 + stop.signal if made.stopped and stop.signal else 0


def run() -> int:
    """The console script."""
    allocator.keep()
    return command_line.run(
        main, define_flags, command='metastyle-adapt', usage=USAGE, positional='style', output='out'
    )
