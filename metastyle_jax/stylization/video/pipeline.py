"""Decoding, network and encoding at the same time, each a few batches ahead of the next.

Memory does not grow with the length of a video, since the queues between the stages are bounded.
Knows nothing of files or FFmpeg.
"""

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np

AHEAD = 2  # batches that wait between two stages


class Frame(NamedTuple):
    """One picture: `[H, W, 3] uint8`, and when it is shown, in units of its stream."""

    pixels: np.ndarray
    pts: int


class Render(Protocol):
    """`[N, H, W, 3]` float32 in 0..1 to the same, for frames that follow each other.

    One that remembers earlier frames has `state` and `restore` too, see `deflicker.Steady`.
    """

    def __call__(self, pixels: np.ndarray, /) -> np.ndarray:
        """Renders frames."""


Write = Callable[[list[Frame], dict[str, np.ndarray]], None]


def run(
    frames: Iterator[Frame],
    render: Render,
    write: Write,
    *,
    batch: int,
    over: threading.Event,
    latest: bool = False,
    stopped: Callable[[], bool] = lambda: False,
) -> int:
    """Renders frames until there are no more; the network runs in the calling thread.

    Args:
        frames: to render; read in a thread.
        render: what to do with a batch.
        write: is given rendered frames and the state of `render` after them, in another thread.
        batch: N; the last one may be smaller.
        over: set when all stages are to end, so that who waits outside can look at it.
        latest: if frames come faster than they can be rendered, leave out all but the newest.
        stopped: whether to end early, with what is done.

    Returns:
        How many frames were left out.

    Raises:
        BaseException: whatever a stage raised.
    """
    decoded = _Line(1 if latest else AHEAD * batch, over)
    rendered = _Line(AHEAD, over)
    failed: list[BaseException] = []

    def decode() -> None:
        for frame in frames:
            if not decoded.put(frame, replace=latest):
                return
        decoded.put(None)

    def encode() -> None:
        while (item := rendered.get()) is not None:
            write(*item)

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # told in the calling thread
            failed.append(error)
            over.set()

    threads = [
        threading.Thread(target=guarded, args=(work,), daemon=True) for work in (decode, encode)
    ]
    for thread in threads:
        thread.start()
    try:
        for waiting in _batches(decoded, batch, stopped):
            rendered.put((_rendered(render, waiting), getattr(render, 'state', dict)()))
        rendered.put(None)
        threads[1].join()
    finally:
        over.set()
        for thread in threads:
            thread.join()
    if failed:
        raise failed[0]
    return decoded.left_out


def _batches(line: '_Line', batch: int, stopped: Callable[[], bool]) -> Iterator[list[Frame]]:
    """Groups frames; the last group may be smaller."""
    waiting: list[Frame] = []
    while not stopped() and (frame := line.get(stopped)) is not None:
        waiting.append(frame)
        if len(waiting) == batch:
            yield waiting
            waiting = []
    if waiting and not line.over.is_set():
        yield waiting


def _rendered(render: Render, frames: list[Frame]) -> list[Frame]:
    """The frames with other pixels."""
    pixels = np.stack([frame.pixels for frame in frames]).astype(np.float32) / 255
    made = np.round(np.clip(render(pixels), 0, 1) * 255).astype(np.uint8)
    return [frame._replace(pixels=one) for frame, one in zip(frames, made, strict=True)]


class _Line:
    """A queue that nobody waits at once all is over."""

    def __init__(self, size: int, over: threading.Event) -> None:
        self._queue: queue.Queue[Any] = queue.Queue(size)
        self.over = over
        self.left_out = 0

    def put(self, item: Any, *, replace: bool = False) -> bool:
        """Puts an item in, instead of the oldest if asked to; False when all is over."""
        while not self.over.is_set():
            with contextlib.suppress(queue.Full):
                self._queue.put(item, timeout=0 if replace else 0.1)
                return True
            if replace:
                with contextlib.suppress(queue.Empty):
                    self._queue.get_nowait()
                    self.left_out += 1
        return False

    def get(self, stopped: Callable[[], bool] = lambda: False) -> Any:
        """The next item; None when all is over, or stopped."""
        while not self.over.is_set() and not stopped():
            with contextlib.suppress(queue.Empty):
                return self._queue.get(timeout=0.1)
        return None
