"""The command `metastyle johnson`: trains one network for one style from random weights."""

from absl import flags, logging

from metastyle_jax.adaptation.config import AdaptConfig
from metastyle_jax.core import command_line
from metastyle_jax.core.devices import allocator

USAGE = """Trains a network for one style from random weights (Johnson et al.).

  metastyle johnson painting.jpg -o painting.safetensors
"""
SETTINGS = ('content', 'steps', 'batch', 'size', 'style_size', 'seed', 'vgg_file')


def define_flags(values: flags.FlagValues) -> None:
    """Adds the flags of the command."""
    add = command_line.Flags(values)
    add.path('style', None, 'Style image.')
    add.path('out', None, 'Style file to write, .safetensors.', writes=True)
    add.settings(AdaptConfig.from_scratch(), SETTINGS)
    add.switch('overwrite', False, 'Replace an existing file.')


def main(values: flags.FlagValues) -> None:
    """Runs the command with its parsed flags."""
    command_line.require(values, 'style', 'out')
    # JAX is loaded here, so that `--help` and errors in the flags appear at once.
    from metastyle_jax.baselines import johnson
    from metastyle_jax.storage import style_files

    style_files.check_output(values.out, overwrite=values.overwrite)
    settings = command_line.given_settings(values, AdaptConfig)
    style = johnson.train(values.style, progress=True, **settings)
    style_files.save_style(values.out, style, overwrite=values.overwrite)
    total = style.losses['total']
    logging.info('total loss %.5g -> %.5g; wrote %s', total[0], total[-1], values.out)


def run_johnson() -> int:
    """Runs the command from the shell; returns the exit code."""
    allocator.keep_freed_memory()
    return command_line.run_command(
        main,
        define_flags,
        command='metastyle_jax.baselines.johnson',
        usage=USAGE,
        positional='style',
        output='out',
        renamed={'vgg_file': 'vgg'},
    )
