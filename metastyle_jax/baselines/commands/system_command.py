"""The commands `metastyle adain`, `wct`, `avatar-net`, `style-swap` and `meta-networks`."""

import functools

from absl import flags, logging

from metastyle_jax.baselines.commands.system_settings import SystemSettings
from metastyle_jax.core import command_line
from metastyle_jax.core.devices import allocator
from metastyle_jax.core.errors import UserError

# Name of a system -> what it does, for the first line of `--help`.
_METHODS = {
    'adain': 'AdaIN, which matches means and deviations of features (Huang and Belongie)',
    'wct': 'WCT, which whitens and colours features (Li et al.)',
    'avatar-net': 'Avatar-Net, which swaps patches of whitened features (Sheng et al.)',
    'style-swap': 'Style-Swap, which swaps patches of features (Chen and Schmidt)',
    'meta-networks': 'Meta Networks: a network computes the weights of another (Shen et al.)',
}
USAGE = """Stylizes one photograph by {method}.

  metastyle {name} photo.jpg --style=painting.jpg -o out.png
  metastyle {name} photo.jpg --style=painting.jpg -o out.png --weights=runs/{name} --alpha=0.8
  metastyle {name} --weights=runs/{name} --export={name}.safetensors

One network stylizes in all styles, without adaptation. Its trained weights come with the package.
The next command trains your own:

  metastyle train --config=configs/baselines.py:{name} --workdir=runs/{name}
"""


def define_flags(values: flags.FlagValues) -> None:
    """Adds the flags; the five commands have the same flags."""
    add = command_line.Flags(values)
    add.path('style', None, 'Style image.')
    add.path('input', None, 'Photograph to stylize.')
    add.path('output', None, 'Image to write: .png, .jpg or .webp.', writes=True)
    add.settings(SystemSettings())
    add.path(
        'export',
        None,
        'Write the weights to this file, .safetensors in float16 and without the encoder, instead '
        'of stylizing.',
        writes=True,
    )
    add.switch('overwrite', False, 'Replace an existing file.')


def main(values: flags.FlagValues, *, name: str) -> None:
    """Runs the command of one system with its parsed flags.

    Args:
        values: the parsed flags.
        name: name of the system.
    """
    if values.export is None:
        command_line.require(values, 'style', 'input', 'output')
    elif values.style or values.input or values.output:
        raise UserError('--export only writes weights: leave --style, --input and --output out')
    else:
        command_line.require(values, 'weights')
    settings = SystemSettings(**command_line.given_settings(values, SystemSettings))
    settings.validate()
    if values.export is not None:
        _export(values, name)
        return
    # JAX is loaded here, so that `--help` and errors in the flags appear at once.
    from metastyle_jax.baselines.commands import picture_stylization
    from metastyle_jax.data.images import image_writing

    for source in (values.input, values.style):
        image_writing.check_output(values.output, overwrite=values.overwrite, source=source)
    picture = picture_stylization.stylize(name, values.style, values.input, config=settings)
    image_writing.write(values.output, picture, overwrite=values.overwrite)
    logging.info('wrote %s', values.output)


def _export(values: flags.FlagValues, name: str) -> None:
    """Writes the trained weights of a run, or of a file, to one file."""
    from metastyle_jax.baselines.features import system_files

    system_files.check_output(values.export, overwrite=values.overwrite)
    trained = system_files.load(name, values.weights, encoder=values.encoder, vgg=values.vgg)
    system_files.save(
        values.export,
        name,
        trained.params,
        options=trained.options,
        settings=trained.settings,
        overwrite=values.overwrite,
    )
    logging.info('wrote %s', values.export)


def _run(name: str) -> int:
    """Runs the command of one system; returns the exit code."""
    allocator.keep_freed_memory()
    return command_line.run_command(
        functools.partial(main, name=name),
        define_flags,
        command=f'metastyle {name}',
        usage=USAGE.format(name=name, method=_METHODS[name]),
        positional='input',
        output='output',
        renamed={'content': 'input'},
    )


# Console scripts.
run_adain = functools.partial(_run, 'adain')
run_wct = functools.partial(_run, 'wct')
run_avatar_net = functools.partial(_run, 'avatar-net')
run_style_swap = functools.partial(_run, 'style-swap')
run_meta_networks = functools.partial(_run, 'meta-networks')
