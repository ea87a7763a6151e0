"""Adapts θ to every picture of a folder, several at a time, and keeps them in one library.

What is finished is in the library file after each group of styles, and the same call goes on from
there. Where the adaptation itself is: `together`.
"""

import functools
import hashlib
import itertools
import numbers
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from metastyle_jax.adaptation import adaptation_step, batched_step, style_image
from metastyle_jax.core import progress_bar
from metastyle_jax.core.devices import sharding
from metastyle_jax.core.errors import UserError
from metastyle_jax.core.types import Params
from metastyle_jax.data import batching, colour_transfer, image_files, sources
from metastyle_jax.models import perceptual_loss, vgg
from metastyle_jax.storage import style_library, tensor_files, theta_files

AT_ONCE = 8
_KEPT = 2**29  # bytes of photographs that are kept for the next styles instead of decoded anew


class Adapted(NamedTuple):
    """What became of a folder of pictures.

    Attributes:
        library: the styles, those of earlier calls included.
        failed: name of each picture that could not be adapted to -> why.
        done: how many styles this call made.
        stopped: whether it was told to stop before the last one.
    """

    library: style_library.Library
    failed: dict[str, str]
    done: int
    stopped: bool


class _Painting(NamedTuple):
    """A style to adapt to; `grams` are L arrays `[C, C]`."""

    name: str
    sha256: str
    grams: tuple[np.ndarray, ...]


class _Made(NamedTuple):
    """What a group came to: norms `[S, C]`, losses `[S]` before the first and the last step."""

    params: dict[str, np.ndarray]
    first: perceptual_loss.Loss
    last: perceptual_loss.Loss


def is_many(style: str | os.PathLike) -> bool:
    """Whether a word names many pictures: a folder, or a data source."""
    word = str(style)
    return os.path.isdir(word) or word.startswith(('sample:', 'folder:', 'tfds:'))


def adapt_many(
    pictures: str | os.PathLike,
    theta: str | os.PathLike | theta_files.Theta | None = None,
    *,
    out: str | os.PathLike | None = None,
    overwrite: bool = False,
    content: str = 'sample:',
    content_exclude: Sequence[str] = (),
    steps: int = 30,
    begin: str = 'predicted',
    inner_steps: int = 0,
    rate: float | None = None,
    schedule: str = 'falling',
    batch: int = 1,
    size: int = 128,
    style_size: int = 256,
    match_colours: str | os.PathLike | None = None,
    content_weight: float = perceptual_loss.CONTENT_WEIGHT,
    style_weight: float = perceptual_loss.STYLE_WEIGHT,
    seed: int = 0,
    vgg_file: str | os.PathLike | None = None,
    styles_at_once: int = AT_ONCE,
    devices: int = 0,
    stopped: Callable[[], bool] = lambda: False,
    progress: bool = False,
) -> Adapted:
    """Adapts the instance norms of θ to every picture of a folder.

    Several styles take their steps in one batch. Each becomes what `adapt` with `params='norm'`
    and the same settings makes of it, but for rounding, whatever else is in the folder.

    Args:
        pictures: a folder, searched with its sub-folders, or a data source, see
            `sources.open_source`.
        theta: see `adapt.adapt`.
        out: the library file. It is written after each group of styles, and the styles that it
            has already are not adapted again.
        overwrite: whether to begin anew where `out` exists.
        content: see `adapt.adapt`, as for all that is not named here.
        content_exclude: leaves out photographs whose names contain one of these words.
        steps: gradient steps.
        begin: 'predicted' or 'theta', see `adapt.adapt`.
        inner_steps: how many of them are of the inner loop that θ was trained for.
        rate: of Adam, see `adapt.adapt`.
        schedule: 'falling' or 'constant'.
        batch: photographs a step, the same ones for all styles.
        size: pixels of their sides.
        style_size: pictures are resized to the area of a square of this side.
        match_colours: a photograph whose colours the pictures get first.
        content_weight: weight of the content loss.
        style_weight: weight of the style loss.
        seed: of the order and the crops of the photographs.
        vgg_file: weights of the loss network.
        styles_at_once: how many are adapted in one batch; memory grows with it, and changes
            nothing else.
        devices: over how many devices they are shared out; 0 for all.
        stopped: asked after each step; the styles in work are then left, those finished kept.
        progress: whether to show a progress bar.

    Returns:
        `Adapted`. A picture that cannot be read, or diverges, does not stop the others.

    Raises:
        UserError: a setting or a file is not usable, `out` holds a library of another θ or other
            settings, or not one style could be made.
    """
    palette, palette_name = style_image.read_palette(match_colours)
    settings: dict[str, Any] = {
        'content': content, 'content_exclude': list(content_exclude), 'steps': steps,
        'begin': begin, 'inner_steps': inner_steps,
        'rate': rate, 'schedule': schedule, 'batch': batch, 'size': size, 'style_size': style_size,
        'match_colours': palette_name, 'params': 'norm',
        'content_weight': content_weight, 'style_weight': style_weight, 'seed': seed,
    }  # fmt: skip
    settings, theta = adaptation_step.settle(settings, theta)
    if not isinstance(styles_at_once, numbers.Integral) or styles_at_once < 1:
        raise UserError(f'styles_at_once={styles_at_once}: it must be a whole number of at least 1')
    devices = sharding.count(devices, name='devices')
    vgg_params = vgg.load(vgg_file)
    settings['vgg'] = vgg.digest(vgg_params)
    found = _begin(out, theta, settings, overwrite)
    source = sources.open_source(_word(pictures), kind='style', probe=False)
    contents = sources.without(sources.open_source(content, kind='content'), content_exclude)
    failed: dict[str, str] = {}
    todo = _todo(source, found, failed)
    paintings = _paintings(source, todo, vgg_params, style_size, palette, failed)
    count = -(-max(1, min(styles_at_once, len(todo))) // devices) * devices
    weights = adaptation_step.Weights(settings['rate'], content_weight, style_weight)
    inner = adaptation_step.learned(theta, steps=inner_steps)
    with batching.content_batches(contents, batch=batch, size=size, seed=seed) as batches:
        made = _adapt_all(
            found,
            paintings,
            _Group(theta, vgg_params, weights, inner, begin, schedule, count, devices),
            _Photographs(batches),
            keep=None
            if out is None
            else functools.partial(style_library.save, out, overwrite=True),
            total=len(todo),
            failed=failed,
            stopped=stopped,
            progress=progress,
        )
    if not (made.library.entries or made.stopped):
        name, reason = next(iter(failed.items()))
        raise UserError(f'none of {len(failed)} pictures became a style; {name}: {reason}')
    return made


def _adapt_all(
    found: style_library.Library,
    paintings: Iterator[_Painting],
    group: '_Group',
    photographs: '_Photographs',
    *,
    keep: Callable[[style_library.Library], None] | None,
    total: int,
    failed: dict[str, str],
    stopped: Callable[[], bool],
    progress: bool,
) -> Adapted:
    """Group after group, until there is no painting left; the library is kept after each."""
    added, stop, steps = 0, False, found.settings['steps']
    ahead = steps * -(-total // group.count)
    with progress_bar.show(
        description='adapting', unit='step', disable=not (progress and total), total=ahead
    ) as bar:
        while not stop and (chosen := list(itertools.islice(paintings, group.count))):
            bar.set_postfix(styles=f'{added}/{total}', refresh=False)
            made = group.adapt(chosen, photographs.first(steps), bar.update, stopped)
            stop = made is None
            if made is not None:
                new = _finite(found, chosen, made, failed)
                found, added = style_library.merge(found, new), added + len(new.entries)
                if keep is not None and found.entries:
                    keep(found)
    return Adapted(found, failed, added, stop)


def _word(pictures: str | os.PathLike) -> str:
    """A folder as the word of a data source."""
    return f'folder:{pictures}' if os.path.isdir(pictures) else str(pictures)


def _begin(
    out: str | os.PathLike | None,
    theta: theta_files.Theta,
    settings: dict[str, Any],
    overwrite: bool,
) -> style_library.Library:
    """The library to go on with, or an empty one."""
    if out is not None:
        style_library.check_output(out, overwrite=True)
    if out is None or overwrite or not os.path.exists(out):
        return style_library.Library({}, {}, theta.fingerprint, settings)
    found = style_library.load(out)
    remedy = 'choose another --out, or --overwrite to begin anew'
    if found.theta_sha256 != theta.fingerprint:
        raise UserError(
            f'{out} holds styles of the θ {found.theta_sha256}, and this one is '
            f'{theta.fingerprint}: give that θ, {remedy}'
        )
    changed = [
        f'{name} was {found.settings.get(name)!r}, is {value!r}'
        for name, value in settings.items()
        if found.settings.get(name) != value
    ]
    if changed:
        raise UserError(
            f'{out} was made with other settings ({"; ".join(changed)}): give those, {remedy}'
        )
    return found


def _todo(
    source: sources.Source, found: style_library.Library, failed: dict[str, str]
) -> list[tuple[int, str]]:
    """Places in the source, and SHA-256, of the pictures that the library has not."""
    todo: list[tuple[int, str]] = []
    kept = 0
    for i in range(len(source)):
        name = source.name(i)
        try:
            item = source[i]
            encoded = item if isinstance(item, bytes) else pathlib.Path(item).read_bytes()
        except (OSError, image_files.ImageError) as error:
            failed[name] = str(error)
            continue
        digest = hashlib.sha256(encoded).hexdigest()
        if name in found.entries and found.entries[name].sha256 == digest:
            kept += 1
        else:
            todo.append((i, digest))
    if kept:
        logging.info('%d styles are done already, %d are to do', kept, len(todo))
    return todo


def _paintings(
    source: sources.Source,
    todo: Sequence[tuple[int, str]],
    vgg_params: Params,
    size: int,
    palette: np.ndarray | None,
    failed: dict[str, str],
) -> Iterator[_Painting]:
    """Reads the pictures, one when it is needed; those that cannot be read go to `failed`."""
    for i, digest in todo:
        name = source.name(i)
        try:
            picture = style_image.fit(image_files.read(source[i], name=name).rgb, size)
        except image_files.ImageError as error:
            failed[name] = str(error)
            logging.warning('left out: %s', error)
            continue
        if palette is not None:
            picture = colour_transfer.match(picture, palette)
        grams = batched_step.style_grams(vgg_params, picture)
        yield _Painting(name, digest, grams)


class _Photographs:
    """The batches of every group: always the same, kept where they are not too large."""

    def __init__(self, batches: batching.Batches[np.ndarray]) -> None:
        self._batches = batches
        self._kept: list[np.ndarray] = []

    def first(self, steps: int) -> Iterator[np.ndarray]:
        """The first batches."""
        yield from self._kept[:steps]
        if len(self._kept) >= steps:
            return
        self._batches.set_state({**self._batches.get_state(), 'step': len(self._kept)})
        for step in range(len(self._kept), steps):
            batch = next(self._batches)
            if step == len(self._kept) and (step + 1) * batch.nbytes <= _KEPT:
                self._kept.append(batch)
            yield batch


class _Group:
    """Adapts so many styles at a time, with one compiled step."""

    def __init__(
        self,
        theta: theta_files.Theta,
        vgg_params: Params,
        weights: adaptation_step.Weights,
        inner: adaptation_step.Learned | None,
        where: str,
        schedule: str,
        count: int,
        devices: int,
    ) -> None:
        self._begin = lambda grams: adaptation_step.begin(theta, grams, where)
        self._start = lambda: batched_step.start(theta.params, count, inner, schedule=schedule)
        _, fixed, plan = self._start()
        self._step = batched_step.compiled_step(plan, devices)
        self._fixed, self._vgg = sharding.replicate((fixed, vgg_params), devices)
        self._weights = weights
        self.count = count

    def adapt(
        self,
        chosen: Sequence[_Painting],
        photographs: Iterable[np.ndarray],
        tell: Callable[[], Any],
        stopped: Callable[[], bool],
    ) -> _Made | None:
        """Adapted norms of the paintings, or None where it was stopped."""
        filled = [*chosen, *[chosen[-1]] * (self.count - len(chosen))]
        grams = tuple(
            np.stack(layers) for layers in zip(*(one.grams for one in filled), strict=True)
        )
        state, _, _ = self._start()
        starts = [tensor_files.flatten(self._begin(one.grams)) for one in filled]
        fast = {name: jnp.stack([each[name] for each in starts]) for name in state.fast}
        state = state._replace(fast=fast)
        history = []
        for contents in photographs:
            shared = batched_step.Shared(
                self._fixed, self._vgg, jnp.asarray(contents), self._weights
            )
            state, loss = self._step(shared, state, grams)
            history.append(jax.device_get(loss))
            tell()
            if stopped():
                return None
        return _Made(
            {name: np.asarray(leaf) for name, leaf in state.fast.items()}, history[0], history[-1]
        )


def _finite(
    found: style_library.Library,
    chosen: Sequence[_Painting],
    made: _Made,
    failed: dict[str, str],
) -> style_library.Library:
    """The new styles; those that diverged go to `failed`."""
    finite = np.logical_and.reduce([np.isfinite(x).all(axis=1) for x in made.params.values()])
    rows = [i for i in range(len(chosen)) if finite[i]]
    for painting, fine in zip(chosen, finite, strict=False):
        if not fine:
            failed[painting.name] = 'the loss diverged: lower --rate or --style_weight'
            logging.warning('left out: %s: %s', painting.name, failed[painting.name])
    entries = {
        chosen[i].name: style_library.Entry(
            chosen[i].sha256,
            {
                part: [round(float(getattr(loss, part)[i]), 5) for loss in (made.first, made.last)]
                for part in perceptual_loss.PARTS
            },
        )
        for i in rows
    }
    params = {name: leaf[rows] for name, leaf in made.params.items()}
    return found._replace(params=params, entries=entries)
