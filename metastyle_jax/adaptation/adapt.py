"""Adapts θ to one style image.

Starting from the meta-learned initialization θ, Adam minimizes the perceptual loss for one style
image. It is the same loss as in meta-training.

Source: Zhang, Zhu and Zhu 2019, arXiv 1812.05233, section 3.
"""

import dataclasses
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from metastyle_jax.adaptation import adaptation_start, adaptation_step, style_image
from metastyle_jax.adaptation.config import AdaptConfig
from metastyle_jax.core import checks, progress_bar, trees
from metastyle_jax.core.types import Array, Params
from metastyle_jax.data import batching, colour_transfer, sources
from metastyle_jax.data.images import image_inputs, plain_pictures
from metastyle_jax.models import perceptual_loss, transformer, vgg
from metastyle_jax.storage import style_files, theta_files


class _StyleImage(NamedTuple):
    """A style image, and what a style file records of it.

    Attributes:
        picture: `[H, W, 3]` float32 in 0..1.
        name: name of the image.
        digest: SHA-256 of the image.
        palette: name and hash of the photograph whose colours the image got, or None.
    """

    picture: np.ndarray
    name: str
    digest: str
    palette: str | None


def adapt(
    style: image_inputs.ImageLike,
    theta: str | os.PathLike | theta_files.Theta | None = None,
    *,
    config: AdaptConfig | None = None,
    progress: bool = False,
    **settings: Any,
) -> style_files.Style:
    """Adapts θ to a style image.

    ```python
    style = metastyle_jax.adapt('painting.jpg', steps=100)
    ```

    Args:
        style: the style image: a file, a Pillow image or an array, see `image_inputs.as_rgb`.
        theta: the initialization: the folder of a training run, one of its checkpoints, a
            `.safetensors` file, `hf://OWNER/NAME[@REVISION]`, or the result of
            `theta_files.load_theta`; None for the θ of the package.
        config: settings of the adaptation; None for the defaults of `AdaptConfig`.
        progress: whether to show a progress bar.
        **settings: fields of `AdaptConfig`; they replace those of `config`.

    Returns:
        The style. `style_files.save_style` writes it to a file, and `stylize` accepts it.

    Raises:
        UserError: a file or a setting cannot be used, or the loss is not finite.
    """
    config = checks.replace_settings(config or AdaptConfig(), settings)
    config, theta = adaptation_start.resolve(config, theta)
    image = _read(style, config)
    vgg_params = vgg.load(config.vgg_file)
    contents = sources.open_source(config.content, kind='content')
    contents = sources.without(contents, config.content_exclude)
    grams = style_image.grams(vgg_params, image.picture)
    with batching.content_batches(
        contents, batch=config.batch, size=config.size, seed=config.seed
    ) as batches:
        params, history = _descend(theta, grams, vgg_params, batches, config, progress=progress)
    return _as_style(params, history, image, theta, config, vgg_params)


def predict(
    style: image_inputs.ImageLike,
    theta: str | os.PathLike | theta_files.Theta | None = None,
    *,
    config: AdaptConfig | None = None,
) -> style_files.Style:
    """Returns the style from which an adaptation starts, without any gradient step.

    Args:
        style: see `adapt`.
        theta: see `adapt`.
        config: see `adapt`; settings that concern only gradient steps have no effect.

    Returns:
        The style; its record has no losses. If θ has a predictor and `config.begin` is 'predicted',
        the instance norms are the predicted ones; otherwise they are those of θ.

    Raises:
        UserError: a file or a setting cannot be used.
    """
    config, theta = adaptation_start.resolve(config or AdaptConfig(), theta)
    image = _read(style, config)
    vgg_params = vgg.load(config.vgg_file)
    grams = style_image.grams(vgg_params, image.picture)
    start = adaptation_start.start_params(theta, grams, config.begin)
    adapted, _ = trees.partition(start, transformer.adapted(config.params))
    params = {name: np.asarray(leaf) for name, leaf in adapted.items()}
    config = dataclasses.replace(config, steps=0, inner_steps=0)
    return _as_style(params, [], image, theta, config, vgg_params)


def _read(style: image_inputs.ImageLike, config: AdaptConfig) -> _StyleImage:
    """Reads a style image, warns if it has one colour, and gives it the colours of the palette."""
    palette, palette_name = style_image.read_palette(config.match_colours)
    picture, name, digest = style_image.read(style, config.style_size)
    if text := plain_pictures.of_painting(picture):
        logging.warning('%s: %s', name, text)
    if palette is not None:
        picture = colour_transfer.match(picture, palette)
    return _StyleImage(picture, name, digest, palette_name)


def _as_style(
    params: dict[str, np.ndarray],
    history: list[perceptual_loss.Loss],
    image: _StyleImage,
    theta: theta_files.Theta,
    config: AdaptConfig,
    vgg_params: Params,
) -> style_files.Style:
    """Makes a style from adapted tensors, the losses before each step, and its settings."""
    return style_files.Style(
        params=params,
        adapted=config.params,
        style_name=image.name,
        style_sha256=image.digest,
        theta_sha256=theta.fingerprint,
        settings=config.to_record(match_colours=image.palette, vgg=vgg.digest(vgg_params)),
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
    config: AdaptConfig,
    *,
    progress: bool,
) -> tuple[dict[str, np.ndarray], list[perceptual_loss.Loss]]:
    """Takes all steps; returns name -> adapted tensor, and the loss before each step."""
    state, fixed, plan = adaptation_step.start(
        adaptation_start.start_params(theta, grams, config.begin),
        config.params,
        adaptation_start.learned_rates(config, theta),
        schedule=config.schedule,
    )
    scalars = adaptation_start.step_scalars(config, theta)
    history: list[perceptual_loss.Loss] = []
    with progress_bar.show(
        range(adaptation_start.step_count(config, theta)),
        description='adapting',
        unit='step',
        disable=not progress,
    ) as bar:
        for step in bar:
            contents = jnp.asarray(next(batches))
            state, loss = adaptation_step.adapt_step(
                state, fixed, vgg_params, contents, grams, scalars, plan=plan
            )
            history.append(jax.device_get(loss))
            adaptation_step.check_finite(history[-1], step, scalars)
            bar.set_postfix(total=f'{history[-1].total:.4g}', refresh=False)
    return {name: np.asarray(leaf) for name, leaf in state.fast.items()}, history
