"""The command `metastyle-adapt`: adapts θ to one style image, or to each picture of a folder."""

from absl import flags, logging

from metastyle_jax.adaptation.config import STYLES_AT_ONCE, AdaptConfig
from metastyle_jax.core import command_line
from metastyle_jax.core.devices import allocator
from metastyle_jax.core.errors import UserError

USAGE = """Adapts a meta-trained network to one style image.

  metastyle-adapt --style=painting.jpg --out=painting.safetensors
  metastyle-adapt --style=painting.jpg --out=painting.safetensors --theta=runs/coco
  metastyle-adapt --style=painting.jpg --out=painting.safetensors --theta=hf://OWNER/NAME
  metastyle-adapt --style=paintings --out=library.safetensors
"""


def define_flags(values: flags.FlagValues) -> None:
    """Adds the flags of the command."""
    add = command_line.Flags(values)
    add.path(
        'style',
        None,
        'Style image; or a folder or data source of them, to make a library.',
    )
    add.path(
        'theta',
        None,
        'Initialization: the folder of a training run, one of its checkpoints, a .safetensors '
        'file, or hf://OWNER/NAME[@REVISION] (default: the θ of the package).',
        schemes=('gs', 's3'),
    )
    add.path(
        'out',
        None,
        'Style file to write, .safetensors; or library to add the styles to.',
        writes=True,
    )
    add.switch('overwrite', False, 'Replace an existing file.')
    add.settings(AdaptConfig(), variants={'a library': AdaptConfig.for_library()})
    add.number(
        'styles_at_once',
        STYLES_AT_ONCE,
        'Library only: number of styles in one batch, for memory and speed.',
    )
    add.number('devices', 0, 'Library only: number of devices that share the styles; 0 for all.')


def main(values: flags.FlagValues) -> int:
    """Adapts as the flags say; returns the exit code."""
    command_line.require(values, 'style', 'out')
    # JAX is loaded here, so that `--help` and a mistake in the flags are answered at once.
    from metastyle_jax.adaptation import adapt, adapt_folder
    from metastyle_jax.storage import style_files

    if adapt_folder.is_many(values.style):
        return _adapt_many(values)
    for name in ('styles_at_once', 'devices'):
        if values[name].present:
            raise UserError(f'--{name} is for a folder of styles: leave it out')
    style_files.check_output(values.out, overwrite=values.overwrite)
    settings = command_line.given_settings(values, AdaptConfig)
    style = adapt.adapt(values.style, values.theta, progress=True, **settings)
    style_files.save_style(values.out, style, overwrite=values.overwrite)
    total = style.losses['total']
    logging.info('total loss %.5g -> %.5g; wrote %s', total[0], total[-1], values.out)
    return 0


def _adapt_many(values: flags.FlagValues) -> int:
    """Adds the pictures of a folder to a library; returns the exit code."""
    from metastyle_jax.adaptation import adapt_folder

    with command_line.Stop().listening() as stop:
        result = adapt_folder.adapt_many(
            values.style,
            values.theta,
            out=values.out,
            overwrite=values.overwrite,
            styles_at_once=values.styles_at_once,
            devices=values.devices,
            stopped=lambda: stop.signal is not None,
            progress=True,
            **command_line.given_settings(values, AdaptConfig),
        )
    for name, reason in result.failed.items():
        logging.warning('no style of %s: %s', name, reason)
    logging.info(
        '%d styles new, %d in all, %d pictures left out: %s',
        result.done, len(result.library.entries), len(result.failed), values.out,
    )  # fmt: skip
    if result.stopped:
        logging.info('stopped before all styles were done: the same command continues')
    return 128 + stop.signal if result.stopped and stop.signal else 0


def run_adapt() -> int:
    """The console script."""
    allocator.keep_freed_memory()
    return command_line.run_command(
        main,
        define_flags,
        command='metastyle-adapt',
        usage=USAGE,
        positional='style',
        output='out',
        renamed={'vgg_file': 'vgg'},
    )
