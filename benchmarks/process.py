"""Starts worker processes, and exchanges messages with them."""

import json
import os
import pathlib
import selectors
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks import worker

ROOT = pathlib.Path(__file__).parents[1]


class WorkerError(RuntimeError):
    """A worker failed, died or took too long. The report shows the message as the reason."""


class Process:
    """A process that answers lines of JSON with lines of JSON.

    Args:
        command: its command line.
        log: file for its standard error stream.
        limit: largest number of seconds for one answer.
        env: its environment variables; None for those of this process.
    """

    def __init__(
        self,
        command: Sequence[str],
        log: pathlib.Path,
        limit: float,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self._limit = limit
        with log.open('wb') as stream:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stream, env=env
            )

    def ask(self, *, limit: float | None = None, **command: Any) -> dict[str, Any]:
        """Sends a command and waits for the answer.

        Args:
            limit: largest number of seconds for this answer; None for that of the process.
            **command: the command, as JSON types.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(command).encode() + b'\n')
            self._process.stdin.flush()
        except OSError:
            raise WorkerError(self._died()) from None
        return self.answer(limit)

    def answer(self, limit: float | None = None) -> dict[str, Any]:
        """Waits for one line of JSON.

        Args:
            limit: largest number of seconds to wait; None for that of the process.

        Raises:
            WorkerError: no line came, or it reports a failure.
        """
        assert self._process.stdout is not None
        limit = self._limit if limit is None else limit
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(limit):
                raise WorkerError(f'no answer within {limit:g} s')
        line = self._process.stdout.readline()
        if not line:
            raise WorkerError(self._died())
        message = json.loads(line)
        if 'error' in message:
            raise WorkerError(message['error'])
        return message

    def close(self) -> None:
        """Ends the process."""
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            try:
                stream.close()
            except OSError:  # the process died before it read everything
                continue
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _died(self) -> str:
        try:
            code = self._process.wait(5)
        except subprocess.TimeoutExpired:
            return 'the worker closed its pipes'
        memory = ', probably because memory ran out' if code == -9 else ''
        return f'the worker died with code {code}{memory}'


class Worker(Process):
    """A worker process and the pipes to it.

    Args:
        job: the work of the process.
        log: file for its standard error stream.
        limit: largest number of seconds for one answer.
    """

    def __init__(self, job: worker.Job, log: pathlib.Path, limit: float) -> None:
        command = [sys.executable, '-m', 'benchmarks.worker', job.to_json()]
        super().__init__(command, log, limit, environment())


def environment() -> dict[str, str]:
    """Returns the environment variables of workers, which must find this repository first."""
    paths = [str(ROOT), os.environ.get('PYTHONPATH', '')]
    env = os.environ | {'PYTHONPATH': os.pathsep.join(filter(None, paths))}
    # Several workers share one GPU, so none may take all of its memory in advance.
    return {'XLA_PYTHON_CLIENT_PREALLOCATE': 'false', **env}
