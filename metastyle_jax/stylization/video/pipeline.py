"""Reads, renders and writes frames at the same time, in three threads joined by bounded queues.

The queues hold a few batches at most, so memory does not grow with the length of a video. This
module knows nothing of files and of FFmpeg.
"""

import contextlib
import fractions
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

QUEUED_BATCHES = 2  # at most, between two threads


class Frame(NamedTuple):
    """One frame of a video.

    Attributes:
        pixels: `[H, W, 3]` uint8, RGB.
        pts: the time at which the frame is shown, in units of the source's `time_base`.
    """

    pixels: np.ndarray
    pts: int


class FrameSource(Protocol):
    """A file, a camera or a pipe whose frames are read one after another.

    Attributes:
        name: name of the source in messages.
        size: height and width of the frames in pixels.
        rate: frames per second, on average.
        time_base: seconds per unit of `Frame.pts`.
        start: time in the file, in seconds, at which `Frame.pts` is 0. The same number of seconds
            is subtracted from the times of the file's sound.
        aspect: width of a pixel divided by its height.
        max_size: limit of the frames' longer side in pixels; None for no limit.
        reopenable: whether the source can be opened and read again; a camera and a pipe cannot.
        last_duration: how long the most recently read frame is shown, in units of `time_base`.
        audio_streams: PyAV's streams of sound.
        frame_count: estimated number of frames; 0 if it is unknown.
        bytes_left_over: number of bytes after the last whole frame; above 0 if raw frames were cut
            off.
    """

    name: str
    size: tuple[int, int]
    rate: fractions.Fraction
    time_base: fractions.Fraction
    start: fractions.Fraction
    aspect: fractions.Fraction
    max_size: int | None
    reopenable: bool
    bytes_left_over: int

    @property
    def last_duration(self) -> int:
        """How long the most recently read frame is shown, in units of `time_base`."""

    @property
    def audio_streams(self) -> Sequence[Any]:
        """PyAV's streams of sound."""

    @property
    def frame_count(self) -> int:
        """Estimated number of frames; 0 if it is unknown."""

    def skipped_times(self) -> Iterator[int]:
        """Yields the time of one frame after another without converting it to RGB.

        `frames` continues after the last frame whose time was taken here.
        """

    def frames(self) -> Iterator[Frame]:
        """Yields the frames that follow those that `skipped_times` has already passed."""


class FrameRenderer(Protocol):
    """Renders a batch of consecutive frames.

    A renderer that remembers earlier frames also has the methods `state` and `restore`, see
    `deflicker.Deflicker`.
    """

    def __call__(self, pixels: np.ndarray, /) -> np.ndarray:
        """Maps `[N, H, W, 3]` float32 in 0..1 to an array of the same shape, type and range."""


WriteFrames = Callable[[list[Frame], dict[str, np.ndarray]], None]


def render_frames(
    frames: Iterator[Frame],
    render: FrameRenderer,
    write: WriteFrames,
    *,
    batch: int,
    ended: threading.Event,
    newest_only: bool = False,
    stopped: Callable[[], bool] = lambda: False,
) -> int:
    """Reads, renders and writes frames until there are no more.

    The network runs in the calling thread; one thread reads frames and another writes them.

    Args:
        frames: the frames to render; the reading thread iterates over them.
        render: renders one batch.
        write: called in the writing thread with rendered frames and the renderer's state after
            them.
        batch: number of frames that are rendered at once; the last batch may be smaller.
        ended: an event that this function sets when all threads must end. Readers and writers that
            wait for a pipe check it regularly.
        newest_only: whether to drop all frames but the newest when frames arrive faster than they
            are rendered.
        stopped: returns True to end early; the frames rendered so far are still written.

    Returns:
        The number of dropped frames.

    Raises:
        BaseException: the first error that any of the threads raised.
    """
    decoded = _Queue(1 if newest_only else QUEUED_BATCHES * batch, ended)
    rendered = _Queue(QUEUED_BATCHES, ended)
    errors: list[BaseException] = []

    def read_all() -> None:
        for frame in frames:
            if not decoded.put(frame, replace=newest_only):
                return
        decoded.put(None)  # the end

    def write_all() -> None:
        while (item := rendered.get()) is not None:
            write(*item)

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # raised again in the calling thread
            errors.append(error)
            ended.set()

    threads = [
        threading.Thread(target=guarded, args=(work,), daemon=True)
        for work in (read_all, write_all)
    ]
    for thread in threads:
        thread.start()
    try:
        for waiting in _batches(decoded, batch, stopped):
            rendered.put((_render_batch(render, waiting), getattr(render, 'state', dict)()))
        rendered.put(None)
        threads[1].join()
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    if errors:
        raise errors[0]
    return decoded.dropped


def _batches(decoded: '_Queue', batch: int, stopped: Callable[[], bool]) -> Iterator[list[Frame]]:
    """Yields lists of `batch` frames from a queue; the last list may be shorter."""
    waiting: list[Frame] = []
    while not stopped() and (frame := decoded.get(stopped)) is not None:
        waiting.append(frame)
        if len(waiting) == batch:
            yield waiting
            waiting = []
    if waiting and not decoded.ended.is_set():
        yield waiting


def _render_batch(render: FrameRenderer, frames: list[Frame]) -> list[Frame]:
    """Renders frames in one call; their times do not change."""
    pixels = np.stack([frame.pixels for frame in frames]).astype(np.float32) / 255
    outputs = np.round(np.clip(render(pixels), 0, 1) * 255).astype(np.uint8)
    return [frame._replace(pixels=output) for frame, output in zip(frames, outputs, strict=True)]


class _Queue:
    """A bounded queue whose users stop waiting as soon as an event is set."""

    # A thread that waits looks at the event this often. Python's queues cannot wait for both.
    _SECONDS = 0.1

    def __init__(self, size: int, ended: threading.Event) -> None:
        self._queue: queue.Queue[Any] = queue.Queue(size)
        self.ended = ended
        self.dropped = 0

    def put(self, item: Any, *, replace: bool = False) -> bool:
        """Adds an item, and waits while the queue is full; with `replace` drops the oldest instead.

        Returns:
            Whether the item was added; False once the event is set.
        """
        while not self.ended.is_set():
            with contextlib.suppress(queue.Full):
                self._queue.put(item, timeout=0 if replace else self._SECONDS)
                return True
            if replace:
                with contextlib.suppress(queue.Empty):
                    self._queue.get_nowait()
                    self.dropped += 1
        return False

    def get(self, stopped: Callable[[], bool] = lambda: False) -> Any:
        """Takes the next item; returns None once the event is set or `stopped` returns True."""
        while not self.ended.is_set() and not stopped():
            with contextlib.suppress(queue.Empty):
                return self._queue.get(timeout=self._SECONDS)
        return None
