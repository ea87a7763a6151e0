"""Reads and writes frames on the standard streams, for pipes between programs.

There are two formats. Raw RGB frames follow each other without a header, so the user must give
their size and rate. A YUV4MPEG2 stream names both in its header. Neither format has frame times, so
the frames are evenly spaced.
"""

import contextlib
import fractions
import os
import select
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from metastyle_jax.data.images import resizing
from metastyle_jax.stylization.video import ffmpeg, pipeline

_WRITE_SIZE = 2**16  # bytes per write on Windows
_READ_SIZE = 2**20  # bytes per read, at most
_POLL_SECONDS = 0.2  # how often a thread that waits for a pipe looks whether it shall end


class Pipe:
    """Reads from or writes to a file descriptor, and stops waiting once an event is set.

    Args:
        descriptor: file descriptor of a pipe, a file or a terminal.
        ended: the event; usually set by another thread.
    """

    def __init__(self, descriptor: int, ended: threading.Event) -> None:
        self._descriptor, self._ended = descriptor, ended

    def read(self, size: int) -> bytes:
        """Reads at most `size` bytes.

        Returns:
            The bytes; empty at the end of the data, or once the event is set.
        """
        # On Windows, `select` takes sockets alone, so reading may wait there.
        while sys.platform != 'win32' and not self._ended.is_set():
            if select.select([self._descriptor], [], [], _POLL_SECONDS)[0]:
                break
        return b'' if self._ended.is_set() else os.read(self._descriptor, size)

    def write(self, data: bytes | memoryview) -> None:
        """Writes all bytes; gives up the rest as soon as the event is set.

        Raises:
            BrokenPipeError: the program at the other end has stopped reading.
        """
        unwritten = memoryview(data)
        while unwritten and not self._ended.is_set():
            if sys.platform != 'win32':
                if not select.select([], [self._descriptor], [], _POLL_SECONDS)[1]:
                    continue
                # A pipe that is ready takes PIPE_BUF bytes without waiting; more may block.
                unwritten = unwritten[os.write(self._descriptor, unwritten[: select.PIPE_BUF]) :]
            else:
                unwritten = unwritten[os.write(self._descriptor, unwritten[:_WRITE_SIZE]) :]


class RawFrameReader:
    """Reads raw RGB frames from a pipe; it is a `pipeline.FrameSource`.

    Args:
        pipe: the pipe to read from.
        size: height and width of the frames in the pipe, in pixels.
        rate: frames per second.
        max_size: limit of the longer side of the returned frames in pixels; None for no limit.

    Attributes:
        size: height and width of the returned frames in pixels.
        bytes_left_over: number of bytes after the last whole frame; known once all frames are read.

    Raises:
        VideoError: the pipe ends before the first frame is complete.
    """

    name = 'standard input'
    reopenable = False
    audio_streams: Sequence[Any] = ()
    aspect = fractions.Fraction(1)
    start = fractions.Fraction(0)
    frame_count = 0
    last_duration = 1

    def __init__(
        self,
        pipe: Pipe,
        size: tuple[int, int],
        *,
        rate: fractions.Fraction,
        max_size: int | None = None,
    ) -> None:
        self._pipe, self._shape, self.max_size = pipe, (*size, 3), max_size
        self.rate, self.time_base, self.bytes_left_over = rate, 1 / rate, 0
        first = self._next()
        if first is None:
            raise ffmpeg.VideoError(
                f'standard input has {self.bytes_left_over} bytes, which is no whole frame of '
                f'{size[1]} x {size[0]} pixels: is frame_size={size[1]}x{size[0]} right?'
            )
        self._first: np.ndarray = first
        self.size = (first.shape[0], first.shape[1])

    def skipped_times(self) -> Iterator[int]:
        """Yields nothing: a pipe cannot be read again, so no frame is skipped."""
        return iter(())

    def frames(self) -> Iterator[pipeline.Frame]:
        """Yields all frames of the pipe; the time of a frame is its number, from 0."""
        pixels: np.ndarray | None = self._first
        pts = 0
        while pixels is not None:
            yield pipeline.Frame(pixels, pts)
            pts += 1
            pixels = self._next()

    def _next(self) -> np.ndarray | None:
        """Reads one frame, `[H, W, 3]` uint8; returns None at the end."""
        size = int(np.prod(self._shape))
        data = bytearray()
        while len(data) < size:
            part = self._pipe.read(min(size - len(data), _READ_SIZE))
            if not part:
                self.bytes_left_over = len(data)
                return None
            data += part
        pixels = np.frombuffer(data, np.uint8).reshape(self._shape)
        return reduce_frame(pixels, self.max_size)


def reduce_frame(pixels: np.ndarray, max_size: int | None) -> np.ndarray:
    """Reduces a frame so that its longer side has at most `max_size` pixels.

    Both sides of a reduced frame are even, because many players require that for H.264.

    Args:
        pixels: `[H, W, 3]` uint8.
        max_size: limit of the longer side in pixels; None for no limit.

    Returns:
        `[H', W', 3]` uint8; `pixels` itself if it is small enough.
    """
    height, width, _ = pixels.shape
    if max_size is None or max(height, width) <= max_size:
        return pixels
    scale = (max_size - max_size % 2) / max(height, width)
    even = (max(2, 2 * round(side * scale / 2)) for side in (height, width))
    return resizing.resize(pixels, *even)


class RawFrameWriter:
    """Writes frames to a pipe, as raw RGB or as YUV4MPEG2.

    Args:
        pipe: the pipe to write to.
        size: height and width of the frames in pixels.
        rate: frames per second, for the header of YUV4MPEG2.
        pixel_format: 'rgb24', or 'y4m' for YUV4MPEG2.
        aspect: width of a pixel divided by its height, for the header of YUV4MPEG2.

    Attributes:
        written: number of frames written so far.
    """

    def __init__(
        self,
        pipe: Pipe,
        size: tuple[int, int],
        *,
        rate: fractions.Fraction,
        pixel_format: str,
        aspect: fractions.Fraction = fractions.Fraction(1),
    ) -> None:
        self._pipe, self._pixel_format = pipe, pixel_format
        self._header = b''
        if pixel_format == 'y4m':
            stream = f'YUV4MPEG2 W{size[1]} H{size[0]} F{rate.numerator}:{rate.denominator}'
            pixel_aspect = f'A{aspect.numerator}:{aspect.denominator}'
            self._header = f'{stream} Ip {pixel_aspect} C444\n'.encode()
        self.written = 0

    def write(self, frames: list[pipeline.Frame], state: dict[str, np.ndarray]) -> None:
        """Writes frames; ignores the renderer's state, since a pipe cannot be resumed."""
        del state
        for frame in frames:
            self._pipe.write(self._header + self._encoded(frame.pixels))
            self._header = b''  # the header stands before the first frame alone
            self.written += 1

    def _encoded(self, pixels: np.ndarray) -> bytes:
        """Returns the bytes of one frame in the format of the pipe."""
        if self._pixel_format == 'rgb24':
            return pixels.tobytes()
        import av

        picture = av.VideoFrame.from_ndarray(pixels, format='rgb24')
        # The stream cannot name its colour matrix, so it gets the one that players assume.
        matrix = ffmpeg.default_matrix(*pixels.shape[:2])
        return b'FRAME\n' + picture.to_ndarray(format='yuv444p', dst_colorspace=matrix).tobytes()


@contextlib.contextmanager
def standard_output() -> Iterator[int]:
    """Reserves the standard output for frames, and yields a file descriptor to write them to.

    Inside the block, text that is printed to the standard output goes to the standard error stream
    instead, so that it cannot get between the frames.

    Raises:
        VideoError: the standard output is a terminal.
    """
    if os.isatty(1):
        raise ffmpeg.VideoError(
            'output=- writes raw frames, which a terminal cannot show: pipe them into another '
            'program, for instance ffplay'
        )
    sys.stdout.flush()
    reserved = os.dup(1)
    os.dup2(2, 1)
    try:
        yield reserved
    finally:
        os.dup2(reserved, 1)
        os.close(reserved)


def check_standard_input() -> None:
    """Raises VideoError if the standard input is a terminal."""
    if os.isatty(0):
        raise ffmpeg.VideoError(
            'input=- reads raw frames: pipe them in from another program, for instance ffmpeg'
        )


def parse_size(text: str) -> tuple[int, int]:
    """Parses `WIDTHxHEIGHT`, and returns height and width.

    Raises:
        VideoError: the text has another form, or a side is 0.
    """
    width, _, height = text.lower().partition('x')
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise ffmpeg.VideoError(f'frame_size={text}: write WIDTHxHEIGHT, for example 1280x720')
    return int(height), int(width)


def parse_rate(text: Any) -> fractions.Fraction:
    """Parses a number of frames per second, such as 25, 29.97 or 30000/1001.

    Raises:
        VideoError: the text is not a number above 0 and at most 1000.
    """
    with contextlib.suppress(ValueError, ZeroDivisionError):
        # FFmpeg takes fractions of small integers; broadcast rates have the denominator 1001.
        rate = fractions.Fraction(text).limit_denominator(1001)
        if 0 < rate <= 1000:
            return rate
    raise ffmpeg.VideoError(
        f'frame_rate={text}: write frames per second, for example 25 or 30000/1001'
    )
