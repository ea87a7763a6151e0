"""Adaptation of one group of style images after another, with one compiled step for all groups."""

import functools
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metastyle_jax.adaptation import adaptation_start, batched_step, style_image
from metastyle_jax.adaptation.config import AdaptConfig
from metastyle_jax.core.devices import sharding
from metastyle_jax.core.types import Params
from metastyle_jax.data import batch_iterator, colour_transfer, image_source
from metastyle_jax.data.images import image_files, image_inputs, notices, plain_pictures
from metastyle_jax.models import perceptual_loss
from metastyle_jax.storage import tensor_files, theta_files

_MOST_KEPT = 2**29  # bytes of photographs that stay in memory for the next groups


class StyleImage(NamedTuple):
    """A style image to adapt to.

    Attributes:
        name: its name in the library.
        sha256: SHA-256 of its file.
        grams: L arrays `[C, C]`, its Gram matrices.
    """

    name: str
    sha256: str
    grams: tuple[Any, ...]


class GroupResult(NamedTuple):
    """Result for one group of S styles.

    Attributes:
        params: adapted instance norms by name, `[S, C]`.
        first: losses before the first step, leaves `[S, ...]`.
        last: losses before the last step.
    """

    params: dict[str, np.ndarray]
    first: perceptual_loss.Loss
    last: perceptual_loss.Loss


class ContentBatches:
    """The content batches, the same for every group of styles.

    The first batches stay in memory, up to `_MOST_KEPT` bytes, so that the next group need not
    decode the photographs again.

    Args:
        batches: endless content batches, `[N, H, W, 3] uint8`.
    """

    def __init__(self, batches: batch_iterator.BatchIterator[np.ndarray]) -> None:
        self._batches = batches
        self._kept: list[np.ndarray] = []

    def first(self, steps: int) -> Iterator[np.ndarray]:
        """Yields the batches of the first steps."""
        yield from self._kept[:steps]
        if len(self._kept) >= steps:
            return
        self._batches.set_state({**self._batches.get_state(), 'step': len(self._kept)})
        for step in range(len(self._kept), steps):
            batch = next(self._batches)
            if step == len(self._kept) and (step + 1) * batch.nbytes <= _MOST_KEPT:
                self._kept.append(batch)
            yield batch


class GroupAdapter:
    """Adapts θ to groups of style images, each group in one batch.

    Args:
        theta: the initialization.
        vgg_params: weights of the loss network.
        config: settings of the adaptation.
        count: S, the number of styles in one batch.
        devices: number of devices that share the styles; it divides S.
    """

    def __init__(
        self,
        theta: theta_files.Theta,
        vgg_params: Params,
        config: AdaptConfig,
        *,
        count: int,
        devices: int,
    ) -> None:
        self.count = count
        self._theta = theta
        self._config = config
        _, fixed, plan = self._initial()
        self._step = batched_step.compiled_step(plan, devices)
        self._fixed, self._vgg = sharding.replicate((fixed, vgg_params), devices)
        self._scalars = adaptation_start.step_scalars(config, theta)

    def _initial(self) -> tuple[Any, Any, Any]:
        """The state of the first step, with S copies of the norms of θ."""
        inner = adaptation_start.learned_inner_loop(self._theta, steps=self._config.inner_steps)
        schedule = self._config.schedule
        return batched_step.start(self._theta.params, self.count, inner, schedule=schedule)

    def adapt(
        self,
        styles: Sequence[StyleImage],
        contents: Iterable[np.ndarray],
        *,
        after_step: Callable[[], Any],
        stopped: Callable[[], bool],
    ) -> GroupResult | None:
        """Adapts θ to some style images.

        Args:
            styles: at most S style images.
            contents: content batches, one for each step.
            after_step: called after each step.
            stopped: asked after each step whether to stop.

        Returns:
            Results for S styles, of which those after `len(styles)` are copies of the last one;
            None if `stopped` said so.
        """
        # The compiled step takes exactly S styles: the last one fills the places that are left.
        filled = [*styles, *[styles[-1]] * (self.count - len(styles))]
        layers = zip(*(style.grams for style in filled), strict=True)
        grams = tuple(np.stack(layer) for layer in layers)
        state, _, _ = self._initial()
        starts = [
            tensor_files.flatten(
                adaptation_start.start_params(self._theta, style.grams, self._config.begin)
            )
            for style in filled
        ]
        fast = {name: jnp.stack([start[name] for start in starts]) for name in state.fast}
        state = state._replace(fast=fast)
        history = []
        for batch in contents:
            shared = batched_step.SharedInputs(
                self._fixed, self._vgg, jnp.asarray(batch), self._scalars
            )
            state, loss = self._step(shared, state, grams)
            history.append(jax.device_get(loss))
            after_step()
            if stopped():
                return None
        params = {name: np.asarray(leaf) for name, leaf in state.fast.items()}
        return GroupResult(params, history[0], history[-1])


def read_images(
    source: image_source.ImageSource,
    missing: Sequence[tuple[int, str]],
    vgg_params: Params,
    size: int,
    palette: np.ndarray | None,
    failed: dict[str, str],
) -> Generator[StyleImage, None, None]:
    """Reads each style image when it is needed; logs warnings about them at the end.

    Args:
        source: the pictures.
        missing: index and SHA-256 of those to read.
        vgg_params: weights of the loss network.
        size: side in pixels, see `style_image.fit_size`.
        palette: `[H, W, 3]`, a picture whose colours the style images get; None to keep theirs.
        failed: gets the name of each picture that cannot be read, and the reason.
    """
    target = functools.partial(style_image.fit_size, size)
    told = notices.PictureNotices()
    try:
        for i, digest in missing:
            name = source.name(i)
            try:
                picture = image_inputs.as_rgb(source[i], name=name, target=target)
            except image_files.ImageError as error:
                failed[name] = str(error)
                continue
            if text := plain_pictures.of_painting(picture):
                told.add(text, name)
            if palette is not None:
                picture = colour_transfer.match(picture, palette)
            grams = batched_step.style_grams(vgg_params, picture)
            yield StyleImage(name, digest, grams)
    finally:  # a run that is stopped takes no more images, and closes the generator
        told.report(len(missing))
