"""Where a run's numbers go: JSON lines, TensorBoard, progress bars, the terminal.

Scalars are averaged over the steps between two lines. Losing a log must not lose a run: a
TensorBoard folder that cannot be written is reported once, and training goes on without it. A
resumed run takes back what it logged after the checkpoint that it starts from.
"""

import contextlib
import json
import os
import pathlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from absl import logging
from tensorboardX import record_writer, summary
from tensorboardX.proto import event_pb2

from metastyle_jax.core import files, progress_bar
from metastyle_jax.core.errors import UserError
from metastyle_jax.storage import run_folder

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
        start: steps already done; what was logged of later ones is dropped.
        images: images that one step processes, for images/s.

    Raises:
        UserError: from any method, if the file of JSON lines cannot be read or written.
    """

    def __init__(self, folder: pathlib.Path, *, total: int, start: int, images: int) -> None:
        self._path = folder / JSON_FILE
        self._whole = run_folder.is_bucket(folder)  # nothing can be appended there
        self._written = self._drop_after(start)
        self._board: _Board | None = None
        with self._guarded():
            if not self._whole:
                self._board = _Board(folder / 'tensorboard', start)
        self._bar = progress_bar.show(
            total=total, initial=start, unit='step', description='meta-training'
        )
        self._images = images
        self._paused = False
        self._compile_seconds = 0.0
        self._idle_seconds = 0.0  # of this window, compiling included
        jax.monitoring.register_event_duration_secs_listener(self._hear)
        self._window: list[dict[str, float]] = []
        self._since = time.monotonic()

    def add(self, step: int, metrics: Mapping[str, float]) -> None:
        """Takes in the scalars of one step and moves the bar."""
        self._window.append(dict(metrics))
        self._bar.set_postfix(outer=f'{metrics["outer"]:.4g}', refresh=False)
        self._bar.update(step - self._bar.n)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leaves the time that the block takes out of images/s: for pictures and saves."""
        begun, outermost = time.monotonic(), not self._paused
        self._paused = True
        try:
            yield
        finally:
            if outermost:
                self._paused = False
                # A line written in the block began a window of its own.
                self._idle_seconds += time.monotonic() - max(begun, self._since)

    def flush(self, step: int) -> dict[str, float]:
        """Writes the averages since the last call, with speed and seconds spent on compiling.

        The speed is that of the steps: compiling and what was `paused` do not count.

        Returns:
            What was written; empty when there was nothing.
        """
        if not self._window:
            return {}
        now = time.monotonic()
        line = {
            name: float(np.mean([entry[name] for entry in self._window]))
            for name in self._window[0]
        }
        line['images_per_second'] = self._images * len(self._window) / self._working_seconds(now)
        line['compile_seconds'] = self._compile_seconds
        self._append(json.dumps({'step': step, **line}) + '\n')
        with self._guarded():
            if self._board:
                self._board.add(step, *(summary.scalar(*item) for item in line.items()))
        self._window = []
        self._compile_seconds = self._idle_seconds = 0.0
        self._since = time.monotonic()
        return line

    def picture(self, step: int, name: str, image: np.ndarray) -> None:
        """Shows a picture, `[H, W, 3]` in 0..1, in TensorBoard."""
        with self._guarded():
            if self._board:
                self._board.add(step, summary.image(name, image, dataformats='HWC'))

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
            if not self._paused:
                self._idle_seconds += duration_secs

    def _working_seconds(self, now: float) -> float:
        """Seconds of the window that went into steps; above zero."""
        elapsed = now - self._since
        # Two compilations at a time can take longer than the window.
        working = elapsed - self._idle_seconds
        return working if working > 0 else max(elapsed, 1e-9)

    def _append(self, line: str) -> None:
        """Adds to the file of JSON lines."""
        try:
            if self._whole:
                self._written += line.encode()
                self._path.write_bytes(self._written)
            else:
                with self._path.open('a', encoding='utf-8') as opened:
                    opened.write(line)
        except OSError as error:
            raise self._unwritable(error) from error

    def _drop_after(self, start: int) -> bytes:
        """Drops lines of later steps, and those that a killed run left unfinished; the rest."""
        try:
            lines = self._path.read_bytes().splitlines(keepends=True)
        except FileNotFoundError:
            return b''
        except OSError as error:
            raise self._unwritable(error) from error
        kept = [line for line in lines if _is_line(line, start)]
        if kept != lines:
            files.write_whole(self._path, b''.join(kept), UserError)
        return b''.join(kept)

    def _unwritable(self, error: OSError) -> UserError:
        """Says why the file of JSON lines cannot be used."""
        return UserError(
            f'{self._path} cannot be written ({error.strerror or error}): free some space or make '
            'the folder writable, and start again; the last checkpoint is whole'
        )

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """Turns a failing TensorBoard off."""
        try:
            yield
        except OSError as error:
            logging.warning('TensorBoard is off from here on: %s', error)
            if self._board:
                with contextlib.suppress(OSError):  # what is still to be written is lost
                    self._board.close()
            self._board = None


class Silent:
    """The part of `Logger` in a process that leaves the log to another one."""

    def add(self, step: int, metrics: Mapping[str, float]) -> None:
        """Drops the scalars of a step."""

    def paused(self) -> contextlib.AbstractContextManager[None]:
        """Measures nothing."""
        return contextlib.nullcontext()

    def flush(self, step: int) -> dict[str, float]:
        """Writes nothing."""
        return {}

    def picture(self, step: int, name: str, image: np.ndarray) -> None:
        """Drops a picture."""

    def close(self) -> None:
        """Has nothing to close."""


class _Board:
    """A file of TensorBoard events, written before `add` returns.

    tensorboardX's own SummaryWriter writes in a thread. On a full disk that thread dies, and
    whoever adds to its full queue, or closes it, waits for ever.
    """

    def __init__(self, folder: pathlib.Path, start: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        name = f'events.out.tfevents.{time.time():.6f}.{os.getpid()}'
        self._file = record_writer.RecordWriter(str(folder / name))
        try:
            self._write(file_version='brain.Event:2')
            if start:  # TensorBoard hides what another process wrote of steps from this one on
                log = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
                self._write(step=start + 1, session_log=log)
            self._file.flush()
        except OSError:
            with contextlib.suppress(OSError):
                self.close()
            raise

    def add(self, step: int, *summaries: Any) -> None:
        """Writes tensorboardX's summaries of a step."""
        for each in summaries:
            self._write(step=step, summary=each)
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def _write(self, **fields: Any) -> None:
        event = event_pb2.Event(wall_time=time.time(), **fields)
        self._file.write(event.SerializeToString())


def _is_line(line: bytes, last: int) -> bool:
    """Tells whole lines of steps up to the last from others."""
    try:
        return line.endswith(b'\n') and json.loads(line)['step'] <= last
    except (ValueError, TypeError, KeyError, RecursionError):
        return False
