"""A worker process as its parent sees it."""

import json
import os
import pathlib
import selectors
import subprocess
import sys
from typing import Any

from benchmarks import worker

ROOT = pathlib.Path(__file__).parents[1]


class WorkerError(RuntimeError):
    """A worker failed, died or took too long; the message is a reason for the table."""


class Worker:
    """A worker process and the pipes to it.

    Args:
        job: what it is to do.
        log: file that its standard error stream goes to.
        limit: seconds that it may take for one answer.
    """

    def __init__(self, job: worker.Job, log: pathlib.Path, limit: float) -> None:
        paths = [str(ROOT), os.environ.get('PYTHONPATH', '')]
        env = os.environ | {'PYTHONPATH': os.pathsep.join(filter(None, paths))}
        # Several workers share one GPU.
        env.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')
        self._limit = limit
        with log.open('wb') as stream:
            self._process = subprocess.Popen(
                [sys.executable, '-m', 'benchmarks.worker', job.to_json()],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stream, env=env,
            )  # fmt: skip

    def ask(self, **command: Any) -> dict[str, Any]:
        """Sends a command and waits for the answer."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(command).encode() + b'\n')
            self._process.stdin.flush()
        except OSError:
            raise WorkerError(self._died()) from None
        return self.answer()

    def answer(self) -> dict[str, Any]:
        """Waits for one line of JSON.

        Raises:
            WorkerError: none came, or it tells of a failure.
        """
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(self._limit):
                raise WorkerError(f'no answer within {self._limit:g} s')
        line = self._process.stdout.readline()
        if not line:
            raise WorkerError(self._died())
        found = json.loads(line)
        if 'error' in found:
            raise WorkerError(found['error'])
        return found

    def close(self) -> None:
        """Ends the process."""
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            try:
                stream.close()
            except OSError:  # it died before it read everything
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
        memory = ', as for want of memory' if code == -9 else ''
        return f'the worker died with code {code}{memory}'
