"""Adapts θ to one style image.

Starting from the meta-learned initialization θ, Adam minimizes the perceptual loss for one style
image. It is the same loss as in meta-training.

Source: Zhang, Zhu and Zhu 2019, arXiv 1812.05233, section 3.
"""

import contextlib
import dataclasses
import functools
import os
from collections.abc import Callable, Generator, Iterator
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


class AdaptationProgress(NamedTuple):
    """An adaptation between two steps.

    Attributes:
        step: number of finished steps.
        steps: number of all steps.
        loss: losses before the last finished step; None if no step is finished.
        style: function that returns the style so far. Call it before the next step is taken, which
            overwrites the memory of the parameters.
    """

    step: int
    steps: int
    loss: perceptual_loss.Loss | None
    style: Callable[[], style_files.Style]


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
    steps = adapt_steps(style, theta, config=config, **settings)
    with contextlib.closing(steps):
        progress_now = next(steps)
        with progress_bar.show(
            steps,
            description='adapting',
            unit='step',
            total=progress_now.steps,
            disable=not progress,
        ) as bar:
            for progress_now in bar:
                bar.set_postfix(total=f'{progress_now.loss.total:.4g}', refresh=False)
    return progress_now.style()


def adapt_steps(
    style: image_inputs.ImageLike,
    theta: str | os.PathLike | theta_files.Theta | None = None,
    *,
    config: AdaptConfig | None = None,
    **settings: Any,
) -> Generator[AdaptationProgress, None, None]:
    """Adapts θ to a style image, and yields before the first step and after each step.

    So a program can show the style while it improves, and stop when it is good enough:

    ```python
    for progress in metastyle_jax.adapt_steps('painting.jpg', steps=20):
        if progress.loss is not None and progress.loss.total < 3:
            break
    style = progress.style()
    ```

    Args:
        style: see `adapt`.
        theta: see `adapt`.
        config: see `adapt`.
        **settings: see `adapt`.

    Yields:
        The progress. The last style is the one that `adapt` returns.

    Raises:
        UserError: see `adapt`.
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
        for fast, history in _descend(theta, grams, vgg_params, batches, config):
            make = functools.partial(
                _as_style, fast, list(history), image, theta, config, vgg_params
            )
            loss = history[-1] if history else None
            yield AdaptationProgress(len(history), config.steps or 0, loss, make)


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
    return _as_style(adapted, [], image, theta, config, vgg_params)


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
    params: dict[str, Array],
    history: list[perceptual_loss.Loss],
    image: _StyleImage,
    theta: theta_files.Theta,
    config: AdaptConfig,
    vgg_params: Params,
) -> style_files.Style:
    """Makes a style from adapted tensors, the losses before each step, and its settings."""
    config = dataclasses.replace(
        config, steps=len(history), inner_steps=min(config.inner_steps or 0, len(history))
    )
    return style_files.Style(
        params={name: np.array(leaf) for name, leaf in params.items()},
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
) -> Iterator[tuple[dict[str, Array], list[perceptual_loss.Loss]]]:
    """Takes all steps; yields name -> adapted tensor, and the loss before each step so far."""
    state, fixed, plan = adaptation_step.start(
        adaptation_start.start_params(theta, grams, config.begin),
        config.params,
        adaptation_start.learned_rates(config, theta),
        schedule=config.schedule,
    )
    scalars = adaptation_start.step_scalars(config, theta)
    history: list[perceptual_loss.Loss] = []
    yield state.fast, history
    for step in range(adaptation_start.step_count(config, theta)):
        contents = jnp.asarray(next(batches))
        state, loss = adaptation_step.adapt_step(
            state, fixed, vgg_params, contents, grams, scalars, plan=plan
        )
        history.append(jax.device_get(loss))
        adaptation_step.check_finite(history[-1], step, scalars)
        yield state.fast, history
