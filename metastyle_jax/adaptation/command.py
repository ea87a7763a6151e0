"""The command `metastyle-adapt`: adapts θ to one style image, or to each picture of a folder."""

import os
import pathlib

from absl import flags, logging

from metastyle_jax.adaptation.config import STYLES_AT_ONCE, AdaptConfig
from metastyle_jax.core import command_line
from metastyle_jax.core.commands import first_steps, paths
from metastyle_jax.core.devices import allocator
from metastyle_jax.core.errors import UserError
from metastyle_jax.data.folders import named_pictures, picture_listing, totals
from metastyle_jax.data.images import format_detection

USAGE = """Adapts a meta-trained network to one style image.

  metastyle-adapt --style=painting.jpg --out=painting.safetensors
  metastyle-adapt --style=painting.jpg --out=painting.safetensors --theta=runs/coco
  metastyle-adapt --style=painting.jpg --out=painting.safetensors --theta=hf://OWNER/NAME
  metastyle-adapt --style=paintings --out=library.safetensors
  metastyle-adapt *.jpg --out=library/
"""


def define_flags(values: flags.FlagValues) -> None:
    """Adds the flags of the command."""
    add = command_line.Flags(values)
    add.several_paths(
        'style',
        'Style image. Several style images, a folder or a data source make a library.',
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
        'Style file to write (.safetensors), library to add styles to, or folder for them.',
        writes=True,
    )
    add.switch('overwrite', False, 'Replace an existing file.')
    add.settings(AdaptConfig(), variants={'a library': AdaptConfig.for_library()})
    add.number(
        'styles_at_once',
        STYLES_AT_ONCE,
        'Library only: number of styles in one batch; it changes only memory and speed.',
    )
    add.number('devices', 0, 'Library only: number of devices that share the styles; 0 for all.')


def main(values: flags.FlagValues) -> int:
    """Adapts as the flags say; returns the exit code."""
    _check_words(values)
    if named_pictures.is_many(values.style):
        return _adapt_many(values)
    for name in ('styles_at_once', 'devices'):
        if values[name].present:
            raise UserError(f'--{name} is for a folder of styles: leave it out')
    # JAX is loaded here, so that `--help` and a mistake in the flags are answered at once.
    from metastyle_jax.adaptation import adapt
    from metastyle_jax.storage import style_files

    painting, out = picture_listing.expand(values.style)[0], pathlib.Path(values.out)
    to_folder = paths.names_folder(values.out)
    if to_folder:
        out /= first_steps.style_name(painting.name)
    if out.parent.exists() or not to_folder:
        style_files.check_output(out, overwrite=values.overwrite)
    settings = command_line.given_settings(values, AdaptConfig)
    style = adapt.adapt(painting, values.theta, progress=True, **settings)
    if to_folder:
        paths.make_folder(out.parent, UserError)
    style_files.save_style(out, style, overwrite=values.overwrite)
    total = style.losses['total']
    logging.info('total loss %.5g -> %.5g; wrote %s', total[0], total[-1], out)
    return 0


def _check_words(values: flags.FlagValues) -> None:
    """Raises UserError for common mistakes; the message shows the correct command."""
    words, out = [word for word in values.style or [] if word], values.out or ''
    for word in filter(first_steps.is_style_name, words):
        photos = [other for other in words if not first_steps.is_style_name(other)]
        line = first_steps.stylize_line(photos or ['photo.jpg'], [word])
        raise UserError(
            f'{word} is a style file already, and `metastyle stylize` applies it:'
            f'{first_steps.lines(line)}'
        )
    suffix = pathlib.PurePath(out).suffix.lower()
    is_picture = suffix in format_detection.SUFFIXES
    two = len(words) == 2 and not any(map(os.path.isdir, words))
    painting, photo = first_steps.painting_first(*words) if two else ((words or [''])[0], '')
    photos = [photo or 'photo.jpg']
    if is_picture and not paths.names_folder(out):
        steps = first_steps.both_lines([painting or 'painting.jpg'], photos, out)
        raise UserError(
            f'out={out} is a picture, and `metastyle adapt` writes a style file, which `metastyle '
            f'stylize` applies:{first_steps.lines(*steps)}'
        )
    if out and not suffix and not paths.names_folder(out):
        line = first_steps.with_output(f'{out}.safetensors', 'out')
        raise UserError(
            f'out={out} must end in .safetensors, or in a slash for a folder:'
            f'{first_steps.lines(line)}'
        )
    steps = first_steps.both_lines([painting], photos) if two else []
    steps.append(first_steps.adapt_line(words or ['painting.jpg'], out))
    command_line.require(values, 'style', 'out', example=first_steps.lines(*steps))


def _adapt_many(values: flags.FlagValues) -> int:
    """Adapts to the pictures of a folder, adds the styles to a library; returns the exit code."""
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
    totals.tell(
        f'{result.done} styles new, {len(result.library.entries)} in all',
        skipped=result.skipped, why_skipped='done before', others=result.others,
        place=adapt_folder.library_file(values.out)[0] or values.out,
        left_out={
            name: f'no style of {name}: {reason.removeprefix(f"{name}: ")}'
            for name, reason in result.failed.items()
        },
    )  # fmt: skip
    if result.stopped:
        logging.info('stopped before all styles were done: the same command continues')
    if result.stopped and stop.signal:
        return 128 + stop.signal
    return command_line.EXIT_LEFT_OUT if result.failed else 0


def run_adapt() -> int:
    """Runs the console script `metastyle-adapt`; returns the exit code."""
    allocator.keep_freed_memory()
    return command_line.run_command(
        main,
        define_flags,
        command='metastyle-adapt',
        usage=USAGE,
        positional='style',
        many=True,
        output='out',
        renamed={'vgg_file': 'vgg'},
    )
