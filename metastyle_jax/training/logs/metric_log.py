"""The metric log of a run: JSON lines, TensorBoard and a progress bar.

Scalars are averaged over the steps between two lines. If the files of TensorBoard cannot be
written, the run continues without them after one warning.
"""

import contextlib
import pathlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from absl import logging

from metastyle_jax.core import progress_bar
from metastyle_jax.storage import run_folder
from metastyle_jax.training.logs import log_files

_COMPILED = '/jax/core/compile/backend_compile_duration'


def scalars(metrics: Any) -> dict[str, float]:
    """Converts a NamedTuple of scalars and vectors to name -> number.

    The elements of a vector `inner` get the names inner_1, inner_2 and so on.
    """
    flat = {}
    for name, value in metrics._asdict().items():
        array = np.asarray(value, np.float64)
        if array.ndim == 0:
            flat[name] = float(array)
        else:
            flat.update({f'{name}_{i + 1}': float(x) for i, x in enumerate(array)})
    return flat


class MetricLog:
    """Writes averages of metrics to files, and shows a progress bar.

    Args:
        folder: folder of the run; it must exist.
        total: number of the last step.
        start: number of finished steps; lines of later steps are removed.
        images: number of images that one step processes, for images per second.

    Raises:
        UserError: the file of JSON lines cannot be read or written; every method may raise it.
    """

    def __init__(self, folder: pathlib.Path, *, total: int, start: int, images: int) -> None:
        self._lines = log_files.JsonLines(folder, start)
        self._tensorboard: log_files.TensorBoardFile | None = None
        if not run_folder.is_bucket(folder):  # nothing can be appended there
            with self._tensorboard_may_fail():
                self._tensorboard = log_files.TensorBoardFile(folder / 'tensorboard', start)
        self._bar = progress_bar.show(
            total=total, initial=start, unit='step', description='meta-training'
        )
        self._images = images
        self._stopwatch = _Stopwatch()
        jax.monitoring.register_event_duration_secs_listener(self._hear)
        self._window: list[dict[str, float]] = []  # scalars of the steps since the last line

    def add(self, step: int, metrics: Mapping[str, float]) -> None:
        """Adds the scalars of one step, and updates the progress bar."""
        self._window.append(dict(metrics))
        self._bar.set_postfix(outer=f'{metrics["outer"]:.4g}', refresh=False)
        self._bar.update(step - self._bar.n)

    def paused(self) -> contextlib.AbstractContextManager[None]:
        """Excludes the time of a `with` block, such as a checkpoint, from images per second."""
        return self._stopwatch.paused()

    def flush(self, step: int) -> dict[str, float]:
        """Writes a line: averages since the last line, images per second, seconds of compilation.

        The images per second exclude the time of compilation and of paused blocks.

        Returns:
            The line; empty if there was no step since the last line.
        """
        if not self._window:
            return {}
        line = {
            name: float(np.mean([metrics[name] for metrics in self._window]))
            for name in self._window[0]
        }
        seconds = self._stopwatch.working_seconds()
        line['images_per_second'] = self._images * len(self._window) / seconds
        line['compile_seconds'] = self._stopwatch.compile_seconds
        self._lines.append(step, line)
        with self._tensorboard_may_fail():
            if self._tensorboard:
                self._tensorboard.add_scalars(step, line)
        self._window = []
        self._stopwatch.restart()
        return line

    def picture(self, step: int, name: str, image: np.ndarray) -> None:
        """Writes a picture, `[H, W, 3]` in 0..1, for TensorBoard."""
        with self._tensorboard_may_fail():
            if self._tensorboard:
                self._tensorboard.add_picture(step, name, image)

    def close(self) -> None:
        """Closes the files and the progress bar."""
        jax.monitoring.unregister_event_duration_listener(self._hear)
        self._bar.close()
        with self._tensorboard_may_fail():
            if self._tensorboard:
                self._tensorboard.close()

    def _hear(self, event: str, duration_secs: float, **_: str | int) -> None:
        """Receives the durations that JAX reports."""
        if event == _COMPILED:
            self._stopwatch.add_compilation(duration_secs)

    @contextlib.contextmanager
    def _tensorboard_may_fail(self) -> Iterator[None]:
        """Turns an OSError in the block into a warning, and stops writing for TensorBoard."""
        try:
            yield
        except OSError as error:
            logging.warning('TensorBoard is off from here on: %s', error)
            if self._tensorboard:
                with contextlib.suppress(OSError):  # closing tries to write once more
                    self._tensorboard.close()
            self._tensorboard = None


class SilentMetricLog:
    """Replaces `MetricLog` in all processes but the first; its methods do nothing."""

    def add(self, step: int, metrics: Mapping[str, float]) -> None:
        """Ignores the scalars."""

    def paused(self) -> contextlib.AbstractContextManager[None]:
        """Measures nothing."""
        return contextlib.nullcontext()

    def flush(self, step: int) -> dict[str, float]:
        """Writes nothing."""
        return {}

    def picture(self, step: int, name: str, image: np.ndarray) -> None:
        """Ignores the picture."""

    def close(self) -> None:
        """Does nothing."""


class _Stopwatch:
    """Measures how much time since the last line was spent in training steps.

    Attributes:
        compile_seconds: time spent on compilation since the last line.
    """

    def __init__(self) -> None:
        self._is_paused = False
        self.restart()

    def restart(self) -> None:
        """Starts a new measurement, after a line was written."""
        self._since = time.monotonic()
        self._idle_seconds = 0.0
        self.compile_seconds = 0.0

    def add_compilation(self, seconds: float) -> None:
        """Adds the time of a compilation; inside a paused block it is not subtracted twice."""
        self.compile_seconds += seconds
        if not self._is_paused:
            self._idle_seconds += seconds

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Counts the time of a `with` block as idle; blocks may be nested."""
        begin, is_outermost = time.monotonic(), not self._is_paused
        self._is_paused = True
        try:
            yield
        finally:
            if is_outermost:
                self._is_paused = False
                # If a line was written within the block, only the time since then counts.
                self._idle_seconds += time.monotonic() - max(begin, self._since)

    def working_seconds(self) -> float:
        """Returns the seconds since the last line without idle time; always above 0."""
        elapsed = time.monotonic() - self._since
        # Two compilations at the same time can add up to more than the window.
        working = elapsed - self._idle_seconds
        return working if working > 0 else max(elapsed, 1e-9)
