"""Where a run's numbers go: JSON lines, TensorBoard, progress bars, the terminal.

Scalars are averaged over the steps between two lines. Losing a log must not lose a run: a
TensorBoard folder that cannot be written is reported once, and training goes on without it.
"""

import contextlib
import json
import pathlib
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
import tensorboardX
import tqdm
from absl import logging

from metastyle_jax.types import UserError

JSON_FILE = 'metrics.jsonl'
_COMPILED = '/jax/core/compile/backend_compile_duration'


def scalars(metrics: Any) -> dict[str, float]:
    """Flattens a NamedTuple of scalars and vectors: `inner: [T]` becomes inner_1 … inner_T."""
    flat = {}
    for name, value in metrics._asdict().items():
        array = np.asarray(value, np.float64)
        if array.ndim == 0:
            flat[name] = float(array)
        else:
            flat.update({f'{name}_{i + 1}': float(x) for i, x in enumerate(array)})
    return flat


class Logger:
    """Writes averages as JSON lines and TensorBoard events, and shows a progress bar.

    Args:
        folder: the run's folder; it exists.
        total: number of the last step.
        start: steps already done.
        images: images that one step processes, for images/s.
    """

    def __init__(self, folder: pathlib.Path, *, total: int, start: int, images: int) -> None:
        self._path = folder / JSON_FILE
        try:
            self._board = tensorboardX.SummaryWriter(str(folder / 'tensorboard'))
        except OSError as error:
            logging.warning('TensorBoard is off, %s cannot be written: %s', folder, error)
            self._board = None
        self._bar = progress(total=total, initial=start, unit='step', description='meta-training')
        self._images = images
        self._compile_seconds = 0.0
        jax.monitoring.register_event_duration_secs_listener(self._hear)
        self._window: list[dict[str, float]] = []
        self._since = time.monotonic()

    def add(self, step: int, metrics: Mapping[str, float]) -> None:
        """Takes in the scalars of one step and moves the bar."""
        self._window.append(dict(metrics))
        self._bar.set_postfix(outer=f'{metrics["outer"]:.4g}', refresh=False)
        self._bar.update(step - self._bar.n)

    def flush(self, step: int) -> dict[str, float]:
        """Writes the averages since the last call, with speed and seconds spent on compiling.

        Returns:
            What was written; empty when there was nothing.
        """
        if not self._window:
            return {}
        elapsed = time.monotonic() - self._since
        line = {
            name: float(np.mean([entry[name] for entry in self._window]))
            for name in self._window[0]
        }
        line['images_per_second'] = self._images * len(self._window) / elapsed
        line['compile_seconds'] = self._compile_seconds
        try:
            with self._path.open('a', encoding='utf-8') as opened:
                opened.write(json.dumps({'step': step, **line}) + '\n')
        except OSError as error:
            raise UserError(
                f'{self._path} cannot be written ({error.strerror}): free some space or make the '
                'folder writable, and start again; the last checkpoint is whole'
            ) from error
        with self._guarded():
            if self._board:
                for name, value in line.items():
                    self._board.add_scalar(name, value, step)
                self._board.flush()
        self._window = []
        self._compile_seconds = 0.0
        self._since = time.monotonic()
        return line

    def picture(self, step: int, name: str, image: np.ndarray) -> None:
        """Shows a picture, `[H, W, 3]` in 0..1, in TensorBoard."""
        with self._guarded():
            if self._board:
                self._board.add_image(name, image, step, dataformats='HWC')
                self._board.flush()

    def close(self) -> None:
        """Closes files and bar."""
        jax.monitoring.unregister_event_duration_listener(self._hear)
        self._bar.close()
        with self._guarded():
            if self._board:
                self._board.close()

    def _hear(self, event: str, duration_secs: float, **_: str | int) -> None:
        """Adds up what JAX reports of its compiler."""
        if event == _COMPILED:
            self._compile_seconds += duration_secs

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """Turns a failing TensorBoard off."""
        try:
            yield
        except OSError as error:
            logging.warning('TensorBoard is off from here on: %s', error)
            self._board = None


def progress(
    iterable: Iterable[Any] | None = None, *, description: str, unit: str, **options: Any
) -> tqdm.tqdm:
    """A progress bar with ETA on the standard error stream.

    Off a terminal it prints a line every ten seconds instead of redrawing one.
    """
    interactive = sys.stderr.isatty()
    return tqdm.tqdm(
        iterable,
        desc=description,
        unit=unit,
        dynamic_ncols=interactive,
        mininterval=0.2 if interactive else 10.0,
        maxinterval=1.0 if interactive else 15.0,
        file=sys.stderr if interactive else _Lines(sys.stderr),
        **options,
    )


class _Lines:
    """A stream on which a bar's redrawings become lines of a log."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        text = text.strip('\r\n ')
        if text:
            self._stream.write(text + '\n')

    def flush(self) -> None:
        self._stream.flush()
