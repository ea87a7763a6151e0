"""Images of a source to batches, through Grain.

Each stream of batches is a pure function of its step: Grain shuffles and crops by (seed, index),
so the sequence is the same for any number of workers, and the step alone resumes it.
"""

import atexit
import dataclasses
import functools
import math
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import grain
import numpy as np
from absl import logging

from metastyle_jax.data import sources, worker_processes
from metastyle_jax.data.images import image_files

BatchT = TypeVar('BatchT')

_ENOUGH = 200  # a share of fewer images than this, or than the source has, would be chance
_STEPS = 2**40  # length of an endless stream: Grain zips streams of equal, finite length
_LOCK = threading.Lock()  # guards every tally; a lock inside one could not be pickled


class MetaBatch(NamedTuple):
    """What one outer step consumes; the indices count in the sources, and serve to name files."""

    inner: np.ndarray  # [S, T, N, H, W, 3] uint8, contents from D_tr
    outer: np.ndarray  # [S, N, H, W, 3] uint8, contents from D_val
    style: np.ndarray  # [S, Hs, Ws, 3] uint8
    inner_index: np.ndarray  # [S, T, N] int32
    outer_index: np.ndarray  # [S, N] int32
    style_index: np.ndarray  # [S] int32


def split(count: int, *, val_fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Parts the contents into D_tr, for inner steps, and D_val, for the outer loss.

    Args:
        count: number of images, at least 2.
        val_fraction: share of D_val, between 0 and 1.
        seed: of the random choice.

    Returns:
        The indices of D_tr and of D_val, `int64`, sorted, disjoint and never empty.

    Raises:
        sources.DataError: there are fewer than two images, or an argument is out of range.
    """
    if count < 2:
        raise sources.DataError(
            f'{count} content image(s) cannot be split in two. Give at least 2.'
        )
    if not 0 < val_fraction < 1:
        raise sources.DataError(f'val_fraction is {val_fraction}. Give a number between 0 and 1.')
    check_seed(seed)
    held_out = min(max(round(count * val_fraction), 1), count - 1)
    order = np.random.default_rng(seed).permutation(count)
    return np.sort(order[held_out:]), np.sort(order[:held_out])


class Batches(Iterator[BatchT], Generic[BatchT]):
    """An endless iterator of batches, which resumes from its state exactly.

    The state does not depend on the number of workers. Close the iterator, or use it in a `with`
    statement, to end its workers at once; otherwise they end with the process.
    """

    def __init__(
        self,
        streams: Sequence[grain.MapDataset],
        build: Callable[..., BatchT],
        *,
        workers: int,
        facts: dict[str, Any] | None = None,
    ):
        """Prepares the iterator; nothing is read before the first batch is asked for.

        Args:
            streams: datasets of whole batches, equally long.
            build: makes a batch of one element of each stream.
            workers: processes that read ahead; 0 reads ahead in threads of this process.
            facts: what the sequence depends on; kept in the state, to warn where it changed.
        """
        self._dataset = grain.experimental.ZipMapDataset(streams)
        self._build = build
        self._workers = _check_int('workers', workers, 0)
        self._step = 0
        self._facts = facts or {}
        self._iterator: grain.DatasetIterator | None = None

    def __next__(self) -> BatchT:
        try:
            element = self._first() if self._iterator is None else next(self._iterator)
        except BaseException as error:
            self.close()
            if isinstance(error, sources.DataError):
                # Grain adds notes and a reconstructed traceback, which say nothing to a user.
                raise sources.DataError(str(error)) from None
            if explanation := worker_processes.explain(error, self._workers):
                raise sources.DataError(explanation) from error
            raise
        self._step += 1
        return self._build(*element)

    def _first(self) -> tuple:
        """Starts reading ahead, and waits for the first element."""
        self._iterator = worker_processes.start(self._dataset[self._step :], self._workers)
        if not self._workers:
            return next(self._iterator)
        atexit.register(_close_at_exit, weakref.ref(self))
        return worker_processes.first(self._iterator)

    def get_state(self) -> dict[str, Any]:
        """Returns what `set_state` needs to go on after the last batch; JSON can hold it."""
        return {'step': self._step, **self._facts}

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes to where `get_state` was called, in this process or another.

        Raises:
            sources.DataError: this is no such state.
        """
        if not isinstance(state, dict) or 'step' not in state:
            raise sources.DataError(
                f'{state!r} is no state of the data. Give what get_state returned.'
            )
        step = _check_int('step', state['step'], 0)
        changed = [
            f'{key} was {state[key]}, is {value}'
            for key, value in self._facts.items()
            if state.get(key, value) != value
        ]
        if changed:
            logging.warning(
                'The data changed since the state was saved, so the batches will differ: %s.',
                '; '.join(changed),
            )
        self.close()
        self._step = step

    def close(self) -> None:
        """Ends the workers. The next batch, if one is asked for, starts new ones."""
        iterator, self._iterator = self._iterator, None
        if iterator is not None:
            iterator.close()

    def __enter__(self) -> 'Batches[BatchT]':
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def meta_batches(
    contents: sources.Source,
    styles: sources.Source,
    *,
    styles_per_step: int,
    inner_steps: int,
    contents_per_style: int,
    size: int,
    style_size: int,
    style_fit: Literal['crop', 'squash'] = 'crop',
    val_fraction: float,
    seed: int,
    workers: int = 0,
    share: tuple[int, int] = (0, 1),
) -> Batches[MetaBatch]:
    """Makes the batches of Algorithm 1, one for each outer step, without end.

    D_tr, D_val and the styles are each shuffled anew in every epoch of their own. Contents are
    resized so that the shorter side is 9/8 of `size`, cropped at random, and every other is
    mirrored.

    Args:
        contents: photographs, at least two.
        styles: paintings.
        styles_per_step: S.
        inner_steps: T; with none, the contents of the outer loss are those of D_tr.
        contents_per_style: N.
        size: H and W of the contents, at least 16.
        style_size: Hs and Ws of the styles, at least 16.
        style_fit: 'crop' for a random square of the painting, 'squash' for the whole of it.
        val_fraction: share of the contents in D_val.
        seed: of the split, the orders and the crops; from 0 to 2**32 - 1.
        workers: processes that decode; 0 for threads of this process.
        share: (p, P) for the p-th of P equal parts of each batch, S / P styles with their
            contents; nothing else is read. All parts together are the batch of (0, 1), and the
            state is the same for all.

    Returns:
        An iterator of `MetaBatch` with `get_state`, `set_state` and `close`.

    Raises:
        sources.DataError: a setting is out of range, or, later on, too many images are damaged.
    """
    S = _check_int('styles_per_step', styles_per_step, 1)
    T = _check_int('inner_steps', inner_steps, 0)
    N = _check_int('contents_per_style', contents_per_style, 1)
    _check_int('size', size, 16)
    _check_int('style_size', style_size, 16)
    if style_fit not in ('crop', 'squash'):
        raise sources.DataError(f"style_fit is {style_fit!r}. Give 'crop' or 'squash'.")
    if S % share[1]:
        raise sources.DataError(f'{S} styles a step cannot be shared out evenly by {share[1]}.')
    train, val = split(len(contents), val_fraction=val_fraction, seed=seed)
    stream = functools.partial(_stream, share=share)
    tally, photo = _Tally(), functools.partial(_photo, size=size)
    readers = [_Reader(contents, part, tally, math.ceil(size * 9 / 8)) for part in (train, val)]
    paintings = _Reader(styles, np.arange(len(styles)), _Tally(), style_size)
    fit = functools.partial(_crop, share=1.0) if style_fit == 'crop' else _squash
    inner = [stream(readers[0], photo, batch=S * T * N, seed=(seed, 0))] if T else []
    return Batches(
        [
            *inner,
            stream(readers[1 if T else 0], photo, batch=S * N, seed=(seed, 1)),
            stream(paintings, functools.partial(fit, size=style_size), batch=S, seed=(seed, 2)),
        ],
        functools.partial(_meta_batch, shape=(S // share[1], T, N)),
        workers=workers,
        facts={
            'seed': seed,
            'contents': len(contents),
            'styles': len(styles),
            'content_names': contents.digest(),
            'style_names': styles.digest(),
            'val_fraction': val_fraction,
            'shape': [S, T, N],
        },
    )


def content_batches(
    contents: sources.Source, *, batch: int, size: int, seed: int, workers: int = 0
) -> Batches[np.ndarray]:
    """Makes batches of contents for adaptation, from the whole source, without end.

    Args:
        contents: photographs.
        batch: N.
        size: H and W, at least 16.
        seed: of the order and the crops; from 0 to 2**32 - 1.
        workers: processes that decode; 0 for threads of this process.

    Returns:
        An iterator of `[N, H, W, 3] uint8`, with `get_state`, `set_state` and `close`.

    Raises:
        sources.DataError: a setting is out of range, or, later on, too many images are damaged.
    """
    _check_int('batch', batch, 1)
    _check_int('size', size, 16)
    reader = _Reader(contents, np.arange(len(contents)), _Tally(), math.ceil(size * 9 / 8))
    stream = _stream(reader, functools.partial(_photo, size=size), batch=batch, seed=(seed, 0))
    facts = {'seed': seed, 'contents': len(contents), 'shape': [batch]}
    return Batches([stream], lambda pair: np.array(pair[0]), workers=workers, facts=facts)


def as_float(pixels: Any) -> Any:
    """Converts unsigned bytes, a NumPy or JAX array of any shape, to float32 in 0..1."""
    return pixels.astype('float32') / 255


@dataclasses.dataclass
class _Tally:
    """Which images of a source this process has tried, and which of them were damaged."""

    tried: set[int] = dataclasses.field(default_factory=set)
    bad: set[int] = dataclasses.field(default_factory=set)

    def note(
        self, source: sources.Source, index: int, error: image_files.ImageError | None
    ) -> None:
        """Counts one image, logs it where damaged, and raises where too many are."""
        with _LOCK:
            self.tried.add(index)
            if error is None or index in self.bad:
                return
            self.bad.add(index)
            count = f'{len(self.bad)} of {len(self.tried)}'
            names = ', '.join(source.name(i) for i in sorted(self.bad)[: sources.NAMES])
            counted = max(len(self.tried), min(len(source), _ENOUGH))
            too_many = len(self.bad) > sources.BAD_SHARE * counted
        if too_many:
            raise sources.DataError(
                f'{source.word}: {count} images tried are damaged: {names}. '
                f'Repair or remove them. The last one: {error}'
            )
        logging.warning(
            '%s: the next image takes the place of a damaged one (%s so far): %s',
            source.word,
            count,
            error,
        )


class _Reader:
    """A part of a source as a Grain source; a damaged image gives way to the next in the part."""

    def __init__(self, source: sources.Source, indices: np.ndarray, tally: _Tally, min_side: int):
        self._source = source
        self._indices = indices
        self._tally = tally
        self._min_side = min_side

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, position: int) -> tuple[np.ndarray, np.int32]:
        for offset in range(len(self)):
            index = int(self._indices[(position + offset) % len(self)])
            if index in self._tally.bad:
                continue
            try:
                image = self._source.decode(index, self._min_side)
            except image_files.ImageError as error:
                sources.check_machine(error)
                self._tally.note(self._source, index, error)
                continue
            self._tally.note(self._source, index, None)
            return image, np.int32(index)
        raise sources.DataError(
            f'{self._source.word}: all of the {len(self)} images to choose from are damaged. '
            'Repair or replace them.'
        )


def _crop(
    element: tuple[np.ndarray, np.int32], rng: np.random.Generator, *, size: int, share: float
) -> tuple[np.ndarray, np.int32]:
    """Cuts a random square of `share` of the shorter side, and resizes it to `size`."""
    image, index = element
    side = max(1, round(min(image.shape[:2]) * share))
    top, left = (int(rng.integers(length - side + 1)) for length in image.shape[:2])
    return image_files.resize(image[top : top + side, left : left + side], size, size), index


def _photo(
    element: tuple[np.ndarray, np.int32], rng: np.random.Generator, *, size: int
) -> tuple[np.ndarray, np.int32]:
    """Cuts 8/9 of the shorter side, as a crop of `size` from 9/8 of it, and mirrors every other."""
    image, index = _crop(element, rng, size=size, share=8 / 9)
    return (image[:, ::-1] if rng.random() < 0.5 else image), index


def _squash(
    element: tuple[np.ndarray, np.int32], rng: np.random.Generator, *, size: int
) -> tuple[np.ndarray, np.int32]:
    """Resizes the whole image to a square, whatever its proportions."""
    image, index = element
    return image_files.resize(image, size, size), index


def _meta_batch(*parts: tuple, shape: tuple) -> MetaBatch:
    """Gives flat batches of (image, index), of the inner loop if there is one, their shapes."""
    S, T, N = shape
    outer, style = parts[-2:]
    inner = parts[0] if T else tuple(part[:0] for part in outer)

    def shaped(pair: tuple, lead: tuple) -> tuple[np.ndarray, np.ndarray]:
        # Copies: what a worker sends lies in shared memory, which is freed with the array.
        image, index = (np.array(part) for part in pair)
        return image.reshape(lead + image.shape[1:]), index.reshape(lead)

    inner_images, inner_index = shaped(inner, shape)
    outer_images, outer_index = shaped(outer, (S, N))
    styles, style_index = shaped(style, (S,))
    return MetaBatch(inner_images, outer_images, styles, inner_index, outer_index, style_index)


def _stream(
    reader: _Reader,
    transform: Callable,
    *,
    batch: int,
    seed: tuple[int, int],
    share: tuple[int, int] = (0, 1),
) -> grain.MapDataset:
    """Shuffles, repeats, transforms and batches (image, index) pairs; of each batch, a share."""
    check_seed(seed[0])
    own_seed = int(np.random.SeedSequence(seed).generate_state(1)[0])
    # Without a number of epochs the length is sys.maxsize, which some batch sizes overflow.
    epochs = math.ceil(_STEPS * batch / len(reader))
    dataset = grain.MapDataset.source(reader).seed(own_seed).shuffle().repeat(epochs)
    # Crops go by the number of the pair, so that a share has those of the whole batch.
    parts = dataset.random_map(transform).batch(batch // share[1])
    return parts[share[0] :: share[1]][:_STEPS]


def _close_at_exit(batches: weakref.ref[Batches]) -> None:
    """Ends the workers before multiprocessing, at exit, takes down what they send through.

    It would then send them SIGTERM, which they ignore, and wait for them.
    """
    alive = batches()
    if alive is not None:
        alive.close()


def _check_int(name: str, value: Any, least: int) -> int:
    """Returns the value as an int, where it is one and not too small."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise sources.DataError(f'{name} is {value!r}. Give a whole number of at least {least}.')
    return int(value)


def check_seed(seed: Any) -> None:
    """Raises sources.DataError for what is no seed: a whole number from 0 to 2**32 - 1."""
    if _check_int('seed', seed, 0) >= 2**32:
        raise sources.DataError(f'seed is {seed}. Give a whole number below 2**32.')
