"""Adapts θ to a painting step by step, and stylizes a photograph after each step.

Source: Zhang, Zhu and Zhu 2019, arXiv 1812.05233, section 3.
"""

import contextlib
import functools
import pathlib
from collections.abc import Callable, Generator
from typing import NamedTuple

import numpy as np

from metastyle_jax.adaptation import adapt
from metastyle_jax.adaptation.config import AdaptConfig
from metastyle_jax.data.images import resizing
from metastyle_jax.models import transformer
from metastyle_jax.storage import style_files, theta_files
from metastyle_jax.stylization import render, styled_network
from metastyle_jax.ui.config import PaintOptions, RenderOptions

LIVE_SIDE = 512  # longest side, in pixels, of the pictures that are shown after each step


class LivePicture(NamedTuple):
    """A photograph in the style so far, during the adaptation.

    Attributes:
        step: number of finished steps.
        steps: total number of steps.
        losses: the loss before each finished step.
        before: the photograph, `[H, W, 3]` float32 in 0..1; its longer side is at most `LIVE_SIDE`
            pixels.
        after: the same photograph in the style so far.
        style: the style so far.
    """

    step: int
    steps: int
    losses: list[float]
    before: np.ndarray
    after: np.ndarray
    style: style_files.Style


def paint(
    painting: pathlib.Path,
    photo: np.ndarray,
    theta: theta_files.Theta,
    *,
    options: PaintOptions,
    rendering: RenderOptions,
    stopped: Callable[[], bool] = lambda: False,
) -> Generator[LivePicture, None, None]:
    """Adapts θ to a painting, and yields the photograph before the first step and after each step.

    The first picture needs no step: its style comes from the norm predictor of θ.

    Args:
        painting: the picture file of the painting.
        photo: `[H, W, 3]` float32 in 0..1, the photograph; it is reduced so that its longer side
            has at most `LIVE_SIDE` pixels.
        theta: the initialization.
        options: settings of the adaptation.
        rendering: settings of the stylized pictures; `max_size` has no effect.
        stopped: called after each picture; the adaptation ends when it returns True.

    Yields:
        The pictures. The style of the last one is the result.

    Raises:
        UserError: the painting cannot be read, an option is invalid, or the loss is not finite.
    """
    options.validate()
    rendering.validate()
    shown = resizing.resize(photo, *_live_size(*photo.shape[:2]))
    config = AdaptConfig(
        params='all' if options.whole else 'norm',
        steps=max(options.steps, 1),
        style_size=options.style_size,
    )
    losses: list[float] = []
    with contextlib.closing(adapt.adapt_steps(painting, theta, config=config)) as steps:
        for progress in steps:
            if progress.loss is not None:
                losses.append(float(progress.loss.total))
            style = progress.style()
            after = _render(style, shown, theta, rendering)
            yield LivePicture(progress.step, options.steps, list(losses), shown, after, style)
            if stopped() or progress.step >= options.steps:
                return


def _live_size(height: int, width: int) -> tuple[int, int]:
    """Returns the size of the pictures that are shown; small photographs keep their size."""
    rows, columns = resizing.fit_size(LIVE_SIDE, height, width)
    return max(rows, transformer.MIN_SIDE), max(columns, transformer.MIN_SIDE)


def _render(
    style: style_files.Style,
    shown: np.ndarray,
    theta: theta_files.Theta,
    rendering: RenderOptions,
) -> np.ndarray:
    """Stylizes the photograph in the style so far."""
    load = functools.partial(styled_network.load, theta=theta)
    network = load(style, strength=rendering.strength, keep_colours=rendering.keep_colours)
    return render.render(network, shown)
