"""Frames without a file: raw RGB or YUV4MPEG2 on the standard streams, as other programs pipe them.

Raw frames follow each other without a header, so size and rate must be told; YUV4MPEG2 tells them.
Neither has times: a frame follows the other at the rate.
"""

import contextlib
import fractions
import os
import select
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

from metastyle_jax.data import image_files
from metastyle_jax.stylization.video import pipeline, segments
from metastyle_jax.stylization.video.segments import VideoError

FORMATS = ('rgb24', 'y4m')
_CHUNK = 2**16
_POLL = 0.2  # seconds


class Pipe:
    """A file descriptor that is waited for only until all is over.

    Args:
        descriptor: of a pipe, a file or a terminal.
        over: set when nobody is to wait any longer.
    """

    def __init__(self, descriptor: int, over: threading.Event) -> None:
        self._descriptor, self._over = descriptor, over

    def read(self, size: int) -> bytes:
        """At most so many bytes; none at the end, or when all is over."""
        # Windows can ask whether sockets are ready, but not pipes.
        while sys.platform != 'win32' and not self._over.is_set():
            if select.select([self._descriptor], [], [], _POLL)[0]:
                break
        return b'' if self._over.is_set() else os.read(self._descriptor, size)

    def write(self, data: bytes | memoryview) -> None:
        """All bytes, unless all is over before.

        Raises:
            BrokenPipeError: nobody reads any more.
        """
        rest = memoryview(data)
        while rest and not self._over.is_set():
            if sys.platform != 'win32':
                if not select.select([], [self._descriptor], [], _POLL)[1]:
                    continue
                # That it is ready promises only that so much can be written without waiting.
                rest = rest[os.write(self._descriptor, rest[: select.PIPE_BUF]) :]
            else:
                rest = rest[os.write(self._descriptor, rest[:_CHUNK]) :]


class RawFrames:
    """Raw RGB frames from a pipe, with what a `reader.Clip` has.

    Args:
        pipe: to read from.
        size: height and width of the frames in it.
        rate: frames a second.
        max_size: reduces the longer side.

    Attributes:
        size: height and width of the frames that come out.
        rest: bytes behind the last whole frame, at the end.

    Raises:
        VideoError: there is no whole frame.
    """

    name, again, sound, aspect = 'standard input', False, (), fractions.Fraction(1)

    def __init__(
        self,
        pipe: Pipe,
        size: tuple[int, int],
        *,
        rate: fractions.Fraction,
        max_size: int | None = None,
    ) -> None:
        self._pipe, self._shape, self.max_size = pipe, (*size, 3), max_size
        self.rate, self.time_base, self.rest = rate, 1 / rate, 0
        first = self._next()
        if first is None:
            raise VideoError(
                f'standard input has {self.rest} bytes and no whole frame of '
                f'{size[1]} x {size[0]} pixels: is --frame_size right?'
            )
        self._first: np.ndarray = first
        self.size = first.shape[:2]

    def times(self) -> Iterator[int]:
        """None are passed over."""
        return iter(())

    def frames(self) -> Iterator[pipeline.Frame]:
        """All frames."""
        pixels: np.ndarray | None = self._first
        pts = 0
        while pixels is not None:
            yield pipeline.Frame(pixels, pts)
            pts += 1
            pixels = self._next()

    def _next(self) -> np.ndarray | None:
        """`[H, W, 3] uint8`; None at the end."""
        wanted = int(np.prod(self._shape))
        data = bytearray()
        while len(data) < wanted:
            more = self._pipe.read(min(wanted - len(data), 2**20))
            if not more:
                self.rest = len(data)
                return None
            data += more
        pixels = np.frombuffer(data, np.uint8).reshape(self._shape)
        return reduced(pixels, self.max_size)


def reduced(pixels: np.ndarray, max_size: int | None) -> np.ndarray:
    """A frame whose longer side has at most `max_size` pixels, `[H, W, 3] uint8`.

    Sides of one that is reduced are even, as many players demand of H.264.
    """
    height, width, _ = pixels.shape
    if max_size is None or max(height, width) <= max_size:
        return pixels
    scale = (max_size - max_size % 2) / max(height, width)
    return image_files.resize(
        pixels, *(max(2, 2 * round(side * scale / 2)) for side in (height, width))
    )


class Writer:
    """Writes frames to a pipe.

    Args:
        pipe: to write to.
        size: height and width.
        rate: frames a second, for YUV4MPEG2; so is the aspect.
        form: one of `FORMATS`.
        aspect: width of a pixel over its height.
    """

    def __init__(
        self,
        pipe: Pipe,
        size: tuple[int, ...],
        *,
        rate: fractions.Fraction,
        form: str,
        aspect: fractions.Fraction = fractions.Fraction(1),
    ) -> None:
        self._pipe, self._form = pipe, form
        self._head = b''
        if form == 'y4m':
            words = f'YUV4MPEG2 W{size[1]} H{size[0]} F{rate.numerator}:{rate.denominator}'
            pixel = f'A{aspect.numerator}:{aspect.denominator}'
            self._head = f'{words} Ip {pixel} C444\n'.encode()
        self.done = 0

    def write(self, frames: list[pipeline.Frame], state: dict[str, np.ndarray]) -> None:
        """Writes frames; the state of what makes them is of no use here."""
        del state
        for frame in frames:
            self._pipe.write(self._head + self._bytes(frame.pixels))
            self._head = b''
            self.done += 1

    def _bytes(self, pixels: np.ndarray) -> bytes:
        if self._form == 'rgb24':
            return pixels.tobytes()
        import av

        picture = av.VideoFrame.from_ndarray(pixels, format='rgb24')
        colours = segments.matrix(*pixels.shape[:2])  # the format has no tag
        return b'FRAME\n' + picture.to_ndarray(format='yuv444p', dst_colorspace=colours).tobytes()


@contextlib.contextmanager
def standard_output() -> Iterator[int]:
    """A descriptor of the standard output that nothing else writes to.

    Whatever else is written to the standard output goes to the standard error stream instead.

    Raises:
        VideoError: it is a terminal.
    """
    if os.isatty(1):
        raise VideoError('--output=- writes raw frames: pipe them, for instance into ffplay')
    sys.stdout.flush()
    own = os.dup(1)
    os.dup2(2, 1)
    try:
        yield own
    finally:
        os.dup2(own, 1)
        os.close(own)


def check_input() -> None:
    """Raises VideoError if the standard input is a terminal."""
    if os.isatty(0):
        raise VideoError('--input=- reads raw frames: pipe them in, for instance from ffmpeg')


def parse_size(text: str) -> tuple[int, int]:
    """Height and width of `WIDTHxHEIGHT`."""
    width, _, height = text.lower().partition('x')
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise VideoError(f'--frame_size={text}: write WIDTHxHEIGHT, as 1280x720')
    return int(height), int(width)


def parse_rate(text: Any) -> fractions.Fraction:
    """A rate such as 25, 29.97 or 30000/1001."""
    with contextlib.suppress(ValueError, ZeroDivisionError):
        rate = fractions.Fraction(text).limit_denominator(1001)
        if 0 < rate <= 1000:
            return rate
    raise VideoError(f'--frame_rate={text}: write frames a second, as 25 or 30000/1001')
