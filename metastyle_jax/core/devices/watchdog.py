"""Several processes that end together: when one fails, dies or hangs, the others say so and end.

JAX has heartbeats too, but they end a process without a word on who is missing, and a failure in
one process would leave the others waiting for it.
"""

import contextlib
import json
import os
import queue
import sys
import threading
import time
from typing import Any, NoReturn

EXIT_LOST = 75  # another process was lost: the same command may well succeed
_END, _FIRST, _OTHERS = (f'metastyle/{name}' for name in ('end', 'first', 'others'))


class Watch:
    """A thread that ends this process when another one fails, dies or hangs.

    Each process counts up in a store that they share, once a second or so. The first process
    reads the counters of all others, the others read its own.

    Args:
        store: the client of JAX's coordinator, which lives in the first process.
        process: number of this process.
        processes: how many there are.
        patience: seconds after which a counter that stands still means a lost process.
    """

    def __init__(self, store: Any, process: int, processes: int, *, patience: float) -> None:
        self._store = store
        self._process = process
        self._patience = patience
        self._pause = min(1.0, patience / 10)
        self._others = range(1, processes) if process == 0 else range(1)
        self._done = threading.Event()
        self._answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, daemon=True, name='watch')
        # Where process 0 hangs, so does who asks it: that is a thread of its own.
        self._asking = threading.Thread(target=self._ask, daemon=True, name='watch asks')
        for thread in (self._thread, self._asking):
            thread.start()

    def tell(self, text: str, *, code: int) -> None:
        """Lets the other processes end with a message and exit code, while this one waits."""
        self._done.set()
        self._publish(f'process {self._process} ended: {" ".join(text.split())}', code)

    def wait(self) -> None:
        """Waits for as long as it takes to find out that another process is lost."""
        self._thread.join(self._patience + 5 * self._pause)

    def close(self) -> None:
        """Ends the thread."""
        self._done.set()
        self._thread.join()
        self._asking.join(self._patience)

    def _publish(self, text: str, code: int) -> None:
        """Writes the end of the run where the others look; the first to do so is right."""
        with contextlib.suppress(Exception):  # no store any more: the others see that too
            self._store.key_value_set(_END, json.dumps([text, code]))
        time.sleep(3 * self._pause)  # the store may go with this process

    def _run(self) -> None:
        seen = {other: ('', time.monotonic()) for other in self._others}
        heard = time.monotonic()
        while not self._done.is_set():
            try:
                answer = self._answers.get(timeout=self._pause)
            except queue.Empty:
                silent = time.monotonic() - heard
                if silent > self._patience + self._pause and not self._done.is_set():
                    self._end(f'process 0 was lost: no answer for {silent:.0f} s', EXIT_LOST)
                continue
            if isinstance(answer, Exception):
                if not self._done.is_set():
                    line = str(answer).strip().splitlines()[0]
                    self._end(f'process 0 was lost: it does not answer ({line})', EXIT_LOST)
                return
            ended, found = answer
            now = heard = time.monotonic()
            for other, (counter, since) in seen.items():
                if found.get(other, '') != counter:
                    seen[other] = (found.get(other, ''), now)
                elif now - since > self._patience and not ended:
                    ended = [f'process {other} was lost: silent for {now - since:.0f} s', EXIT_LOST]
                    self._publish(*ended)
            if ended and not self._done.is_set():
                self._end(*ended)

    def _ask(self) -> None:
        """Puts what `_exchange` finds, once each pause, and at last the error that ends it."""
        tick = 0
        while not self._done.wait(self._pause):
            tick += 1
            try:
                self._answers.put(self._exchange(tick))
            except Exception as error:  # of whatever kind
                self._answers.put(error)
                return

    def _exchange(self, tick: int) -> tuple[list | None, dict[int, str]]:
        """Counts up; returns how the run ended, if it did, and the counters of other processes."""
        own, others = (_FIRST, _OTHERS) if self._process == 0 else (_OTHERS, _FIRST)
        self._store.key_value_set(f'{own}/{self._process}', str(tick), allow_overwrite=True)
        ended = self._store.key_value_dir_get('metastyle')
        counters = self._store.key_value_dir_get(others)
        end = next((json.loads(value) for key, value in ended if key == _END), None)
        return end, {int(key.rpartition('/')[2]): value for key, value in counters}

    def _end(self, text: str, code: int) -> NoReturn:
        """Ends the process, whatever its main thread waits for."""
        advice = '; the last checkpoint is whole, and the same command resumes'
        print(f'metastyle: {text}{advice if code == EXIT_LOST else ""}', file=sys.stderr)
        sys.stderr.flush()
        if self._process == 0:  # the store ends with it, and JAX aborts who still needs that
            time.sleep(5 * self._pause)
        os._exit(code)
