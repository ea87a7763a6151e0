"""Writes the two files of a metric log: lines of JSON, and events for TensorBoard."""

import contextlib
import json
import os
import pathlib
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from metastyle_jax.core import files
from metastyle_jax.core.errors import UserError
from metastyle_jax.storage import run_folder

JSON_FILE = 'metrics.jsonl'


class JsonLines:
    """Writes the file `metrics.jsonl` of a run; each line is a JSON object with a step number.

    Args:
        folder: folder of the run; it must exist.
        start: number of finished steps. Lines of later steps are removed, because a killed run
            wrote them after the checkpoint from which this run resumes.

    Raises:
        UserError: the file cannot be read or written; every method may raise it.
    """

    def __init__(self, folder: pathlib.Path, start: int) -> None:
        self._path = folder / JSON_FILE
        # Nothing can be appended to a file in a bucket, so each line rewrites the whole file.
        self._is_in_bucket = run_folder.is_bucket(folder)
        self._written = self._drop_later_lines(start)

    def append(self, step: int, scalars: Mapping[str, float]) -> None:
        """Adds a line."""
        line = json.dumps({'step': step, **scalars}) + '\n'
        try:
            if self._is_in_bucket:
                self._written += line.encode()
                self._path.write_bytes(self._written)
            else:
                with self._path.open('a', encoding='utf-8') as opened:
                    opened.write(line)
        except OSError as error:
            raise self._error(error) from error

    def _drop_later_lines(self, start: int) -> bytes:
        """Removes lines of steps after `start` and incomplete lines; returns the other lines."""
        try:
            lines = self._path.read_bytes().splitlines(keepends=True)
        except FileNotFoundError:
            return b''
        except OSError as error:
            raise self._error(error) from error
        kept = [line for line in lines if _is_whole_line(line, start)]
        if kept != lines:
            files.write_whole(self._path, b''.join(kept), UserError)
        return b''.join(kept)

    def _error(self, cause: OSError) -> UserError:
        """Returns the error for a file that cannot be used."""
        return UserError(
            f'{self._path} cannot be written ({cause.strerror or cause}): free some space or make '
            'the folder writable, and start again; the last checkpoint is whole'
        )


def _is_whole_line(line: bytes, last_step: int) -> bool:
    """Whether a line is complete, and its step is at most `last_step`."""
    try:
        return line.endswith(b'\n') and json.loads(line)['step'] <= last_step
    except (ValueError, TypeError, KeyError, RecursionError):
        return False


class TensorBoardFile:
    """A file of events for TensorBoard; each method writes before it returns.

    The SummaryWriter of tensorboardX is not used, because it writes in a thread. On a full disk
    this thread ends, and the next call that waits for its queue never returns.

    Args:
        folder: folder of the event files of a run; it is created if it does not exist.
        start: number of finished steps.

    Raises:
        OSError: the file cannot be written; every method may raise it.
    """

    def __init__(self, folder: pathlib.Path, start: int) -> None:
        # Imported late, because tensorboardX imports torch where that is installed.
        from tensorboardX import record_writer
        from tensorboardX.proto import event_pb2

        self._event = event_pb2.Event
        folder.mkdir(parents=True, exist_ok=True)
        name = f'events.out.tfevents.{time.time():.6f}.{os.getpid()}'
        self._file = record_writer.RecordWriter(str(folder / name))
        try:
            self._write(file_version='brain.Event:2')
            if start:  # makes TensorBoard hide later steps in the files of earlier processes
                session_log = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
                self._write(step=start + 1, session_log=session_log)
            self._file.flush()
        except OSError:
            with contextlib.suppress(OSError):
                self.close()
            raise

    def add_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Writes scalars, name -> value, of one step."""
        from tensorboardX import summary

        for name, value in scalars.items():
            self._write(step=step, summary=summary.scalar(name, value))
        self._file.flush()

    def add_picture(self, step: int, name: str, image: np.ndarray) -> None:
        """Writes a picture of one step, `[H, W, 3]` in 0..1."""
        from tensorboardX import summary

        self._write(step=step, summary=summary.image(name, image, dataformats='HWC'))
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _write(self, **fields: Any) -> None:
        """Writes an event."""
        event = self._event(wall_time=time.time(), **fields)
        self._file.write(event.SerializeToString())
