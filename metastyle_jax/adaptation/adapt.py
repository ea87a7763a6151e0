"""Adapts θ to one style image.

Starting from the meta-learned initialization θ, Adam minimizes the perceptual loss for one style
image. It is the same loss as in meta-training.

Source: Zhang, Zhu and Zhu 2019, arXiv 1812.05233, section 3.
"""

import os
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from metastyle_jax.adaptation import adaptation_start, adaptation_step, style_image
from metastyle_jax.adaptation.config import AdaptConfig
from metastyle_jax.core import checks, progress_bar
from metastyle_jax.core.types import Array, Params
from metastyle_jax.data import batching, colour_transfer, sources
from metastyle_jax.data.images import image_inputs, plain_pictures
from metastyle_jax.models import perceptual_loss, vgg
from metastyle_jax.storage import style_files, theta_files


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
    palette, palette_name = style_image.read_palette(config.match_colours)
    picture, name, digest = style_image.read(style, config.style_size)
    if text := plain_pictures.of_painting(picture):
        logging.warning('%s: %s', name, text)
    if palette is not None:
        picture = colour_transfer.match(picture, palette)
    vgg_params = vgg.load(config.vgg_file)
    contents = sources.open_source(config.content, kind='content')
    contents = sources.without(contents, config.content_exclude)
    grams = style_image.grams(vgg_params, picture)
    with batching.content_batches(
        contents, batch=config.batch, size=config.size, seed=config.seed
    ) as batches:
        params, history = _descend(theta, grams, vgg_params, batches, config, progress=progress)
    return style_files.Style(
        params=params,
        adapted=config.params,
        style_name=name,
        style_sha256=digest,
        theta_sha256=theta.fingerprint,
        settings=config.to_record(match_colours=palette_name, vgg=vgg.digest(vgg_params)),
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
