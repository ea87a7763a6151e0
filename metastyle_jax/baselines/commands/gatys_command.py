"""The command `metastyle gatys`: stylizes one photograph by optimizing its pixels."""

from absl import flags, logging

from metastyle_jax.adaptation.config import AdaptConfig
from metastyle_jax.core import command_line
from metastyle_jax.core.devices import allocator

USAGE = """Stylizes one photograph by optimizing its pixels with L-BFGS (Gatys et al.).

  metastyle gatys photo.jpg --style=painting.jpg -o out.png
"""


def define_flags(values: flags.FlagValues) -> None:
    """Adds the flags of the command."""
    add = command_line.Flags(values)
    add.path('style', None, 'Style image.')
    add.path('input', None, 'Photograph to stylize.')
    add.path('output', None, 'Image to write: .png, .jpg or .webp.', writes=True)
    add.path(
        'start', 'content', "Starting image: 'content', 'noise', or an image of the result's size."
    )
    add.number('iterations', 500, 'Number of iterations of L-BFGS.')
    add.number('max_size', 512, 'Limit of the longer side of the result, in pixels.')
    add.number(
        'style_size', 512, 'Resize the style image to the area of a square of this side in pixels.'
    )
    add.number('seed', 0, 'Seed of the noise.')
    add.settings(AdaptConfig(), ('content_weight', 'style_weight'))
    add.vgg()
    add.switch('overwrite', False, 'Replace an existing file.')


def main(values: flags.FlagValues) -> None:
    """Runs the command with its parsed flags."""
    command_line.require(values, 'style', 'input', 'output')
    # JAX is loaded here, so that `--help` and errors in the flags appear at once.
    from metastyle_jax.baselines import gatys
    from metastyle_jax.data.images import image_files, image_writing

    for source in (values.input, values.style):
        image_writing.check_output(values.output, overwrite=values.overwrite, source=source)
    start = values.start if values.start in gatys.STARTS else image_files.read(values.start).rgb
    result = gatys.stylize(
        values.style,
        values.input,
        start=start,
        max_size=values.max_size,
        style_size=values.style_size,
        seed=values.seed,
        vgg_file=values.vgg,
        iterations=values.iterations,
        content_weight=values.content_weight,
        style_weight=values.style_weight,
        progress=True,
    )
    image_writing.write(values.output, result.image, overwrite=values.overwrite)
    logging.info(
        'total loss %.5g -> %.5g in %.0f s; wrote %s',
        result.losses[0], result.losses[-1], result.seconds[-1], values.output,
    )  # fmt: skip


def run_gatys() -> int:
    """Runs the command from the shell; returns the exit code."""
    allocator.keep_freed_memory()
    return command_line.run_command(
        main,
        define_flags,
        command='metastyle_jax.baselines.gatys',
        usage=USAGE,
        positional='input',
        output='output',
    )
