"""Ends all processes of a run together when one of them fails, dies or hangs.

JAX has heartbeats too. But they end a process without saying which other process is missing, and
they do not detect an error inside a process, so the others would wait for it.
"""

import contextlib
import json
import os
import queue
import sys
import threading
import time
from typing import Any

from metastyle_jax.core import files

EXIT_LOST = 75  # another process was lost: the same command may well succeed if started again
HEARTBEAT = 60  # seconds of silence after which a process counts as lost

# Keys in the store: how the run ended, the first process's counter, and all other counters.
_END, _FIRST, _OTHERS = (f'metastyle/{name}' for name in ('end', 'first', 'others'))


class Watch:
    """Runs background threads that end this process when another one fails, dies or hangs.

    Each process increases its own counter in a shared store, about once a second. The first
    process reads the counters of all others; each other process reads the first one's.

    Args:
        store: client of JAX's coordinator, which runs in the first process.
        process: index of this process.
        processes: number of processes.
        patience: seconds without a change of its counter after which a process counts as lost.
    """

    def __init__(self, store: Any, process: int, processes: int, *, patience: float) -> None:
        self._store = store
        self._process = process
        self._patience = patience
        self._pause = min(1.0, patience / 10)
        self._others = range(1, processes) if process == 0 else range(1)
        self._done = threading.Event()
        self._answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._watching = threading.Thread(target=self._watch, daemon=True, name='watch')
        # A request to the store hangs if process 0 hangs. With a thread of its own for requests,
        # the other thread can notice that no answer comes.
        self._asking = threading.Thread(target=self._ask, daemon=True, name='watch asks')
        for thread in (self._watching, self._asking):
            thread.start()

    def tell(self, text: str, *, code: int) -> None:
        """Makes the other processes end with a message and an exit code; this process continues."""
        self._done.set()
        self._publish(f'process {self._process} ended: {" ".join(text.split())}', code)

    def wait(self) -> None:
        """Waits as long as the threads may need to detect that another process is lost."""
        self._watching.join(self._patience + 5 * self._pause)

    def close(self) -> None:
        """Ends the threads."""
        self._done.set()
        self._watching.join()
        self._asking.join(self._patience)

    def _publish(self, text: str, code: int) -> None:
        """Writes the reason for the end into the store; only the first such entry counts."""
        with contextlib.suppress(Exception):  # if the store is gone, the others notice that too
            self._store.key_value_set(_END, json.dumps([text, code]))
        # The store lives in process 0. If this is process 0, the others need time to read it.
        time.sleep(3 * self._pause)

    def _watch(self) -> None:
        """Ends the process if a counter stops, a reason is published, or the store is silent."""
        last_change = {other: ('', time.monotonic()) for other in self._others}
        last_answer = time.monotonic()
        while not self._done.is_set():
            try:
                answer = self._answers.get(timeout=self._pause)
            except queue.Empty:
                silent = time.monotonic() - last_answer
                if silent > self._patience + self._pause:
                    self._end(f'process 0 was lost: no answer for {silent:.0f} s', EXIT_LOST)
                continue
            if isinstance(answer, Exception):
                reason = files.first_line(answer)
                self._end(f'process 0 was lost: it does not answer ({reason})', EXIT_LOST)
                return
            ended, counters = answer
            last_answer = time.monotonic()
            silent_process = self._silent_process(counters, last_change)
            if silent_process and not ended:
                process, seconds = silent_process
                ended = [f'process {process} was lost: silent for {seconds:.0f} s', EXIT_LOST]
                self._publish(*ended)
            if ended:
                self._end(*ended)

    def _silent_process(
        self, counters: dict[int, str], last_change: dict[int, tuple[str, float]]
    ) -> tuple[int, float] | None:
        """Finds a process whose counter has not changed for too long.

        Args:
            counters: the newest counter of each process that has one.
            last_change: the counter of each process, and the time of its last change; updated here.

        Returns:
            The process and the seconds since its last change; None if there is no such process.
        """
        now = time.monotonic()
        for process, (counter, since) in last_change.items():
            newest = counters.get(process, '')
            if newest != counter:
                last_change[process] = (newest, now)
            elif now - since > self._patience:
                return process, now - since
        return None

    def _ask(self) -> None:
        """Puts the store's answer into the queue after each pause; ends after the first error."""
        tick = 0
        while not self._done.wait(self._pause):
            tick += 1
            try:
                self._answers.put(self._exchange(tick))
            except Exception as error:  # the client's error classes are not public
                self._answers.put(error)
                return

    def _exchange(self, tick: int) -> tuple[list | None, dict[int, str]]:
        """Writes this process's counter and reads the others.

        Returns:
            The published reason and exit code, or None; and the counter of each other process.
        """
        own, others = (_FIRST, _OTHERS) if self._process == 0 else (_OTHERS, _FIRST)
        self._store.key_value_set(f'{own}/{self._process}', str(tick), allow_overwrite=True)
        entries = self._store.key_value_dir_get('metastyle')
        counters = self._store.key_value_dir_get(others)
        ended = next((json.loads(value) for key, value in entries if key == _END), None)
        return ended, {int(key.rpartition('/')[2]): value for key, value in counters}

    def _end(self, text: str, code: int) -> None:
        """Ends the process at once, even if its main thread waits; does nothing after `close`."""
        if self._done.is_set():
            return
        advice = '; the last checkpoint is whole, and the same command resumes'
        print(f'metastyle: {text}{advice if code == EXIT_LOST else ""}', file=sys.stderr)
        sys.stderr.flush()
        if self._process == 0:
            # The store ends with this process, and JAX aborts every process that still asks it.
            time.sleep(5 * self._pause)
        os._exit(code)
