"""Adapts to one group of style images after another; all groups share one compiled step."""

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
        name: name of the style in the library.
        sha256: SHA-256 of the file of the style image.
        grams: L arrays `[C, C]`, Gram matrices of the style image.
    """

    name: str
    sha256: str
    grams: tuple[Any, ...]


class GroupResult(NamedTuple):
    """Result for one group of S styles.

    Attributes:
        params: name -> adapted instance norms `[S, C]`.
        first: losses before the first step, arrays `[S, ...]`.
        last: losses before the last step, arrays `[S, ...]`.
    """

    params: dict[str, np.ndarray]
    first: perceptual_loss.Loss
    last: perceptual_loss.Loss


class ContentBatches:
    """Repeats the same content batches for every group of styles.

    The first batches, up to `_MOST_KEPT` bytes, stay in memory, so that the next group does not
    decode the photographs again.

    Args:
        batches: endless content batches, `[N, H, W, 3]` uint8.
    """

    def __init__(self, batches: batch_iterator.BatchIterator[np.ndarray]) -> None:
        self._batches = batches
        self._kept: list[np.ndarray] = []

    def first(self, steps: int) -> Iterator[np.ndarray]:
        """Yields the first `steps` batches; every call yields the same."""
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
        devices: number of devices that share the styles; it must divide S.
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
        """Returns `batched_step.start` of θ: each of the S styles begins with the norms of θ."""
        inner = adaptation_start.learned_rates(self._config, self._theta)
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
        """Adapts θ to one group of style images.

        Args:
            styles: at most S style images.
            contents: content batches, one for each step.
            after_step: called after each step.
            stopped: called after each step; the work stops if it returns True.

        Returns:
            Results for S styles. If there are fewer style images than S, the last rows are copies
            of the last style. None if the work was stopped.
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
    """Yields the style images; reads each when it is requested, and logs warnings at the end.

    Args:
        source: the pictures.
        missing: (index in the source, SHA-256) of each picture to read.
        vgg_params: weights of the loss network.
        size: side in pixels, see `style_image.fit_size`.
        palette: `[H, W, 3]`, a photograph whose colours the style images get; None to keep theirs.
        failed: name -> reason; pictures that cannot be read are added.
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
