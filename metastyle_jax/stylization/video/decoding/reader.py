"""Reads frames of video files, pipes and cameras with PyAV."""

import contextlib
import fractions
import io
import itertools
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from metastyle_jax.stylization.video import ffmpeg, pipeline, raw_frames
from metastyle_jax.stylization.video.decoding import (
    animations,
    colours,
    film_files,
    interlacing,
    packets,
    shapes,
    streams,
    timing,
)

# Decoded before the size and the rate are known; a file may not name its rate.
_FIRST_FRAMES = 4
_HEAD = 2**20  # bytes that tell the kind of a file


@contextlib.contextmanager
def open_video(
    source: pathlib.Path | raw_frames.Pipe, *, max_size: int | None = None, kind: str | None = None
) -> Iterator[pipeline.FrameSource]:
    """Opens a video file, an animated picture or a pipe, and closes it at the end of the block.

    Args:
        source: the file, or a pipe at the standard input.
        max_size: limit of the longer side of the frames in pixels; None for no limit.
        kind: FFmpeg's name of the container format; None to detect it.

    Yields:
        The source of frames.

    Raises:
        VideoError: the file is missing, is no video, or has no frames.
    """
    if isinstance(source, pathlib.Path) and film_files.is_animation(source):
        yield animations.AnimationReader(source, max_size=max_size)
        return
    ffmpeg.require_pyav()
    import av

    is_file = isinstance(source, pathlib.Path)
    name = str(source) if is_file else 'standard input'
    if isinstance(source, pathlib.Path) and not source.exists():
        raise ffmpeg.VideoError(f'{name}: there is no such file')
    try:
        container = _open_container(source, kind)
    except (av.error.FFmpegError, OSError) as error:
        raise ffmpeg.VideoError(
            f'{name} is no video that can be read, or is cut off ({error}): save or download it '
            'again'
        ) from error
    with container:
        if film_files.holds_picture(container):
            raise ffmpeg.VideoError(f'{name} is one picture and no film: choose a film as input')
        yield VideoReader(container, name, max_size=max_size, reopenable=is_file)


def _open_container(source: pathlib.Path | raw_frames.Pipe, kind: str | None) -> Any:
    """Opens a pipe or a file with PyAV; a file may have a wrong suffix."""
    import av

    if not isinstance(source, pathlib.Path):
        return av.open(source, format=kind)
    container = av.open(str(source), format=kind)
    if not film_files.holds_picture(container):
        return container
    container.close()
    # FFmpeg believes the suffix of a picture more than the content, unless it does not see it.
    with source.open('rb') as file:
        head = io.BytesIO(file.read(_HEAD))
    with av.open(head) as unnamed:
        kind = unnamed.format.name.partition(',')[0]
    return av.open(str(source), format=kind)


class VideoReader:
    """Reads the frames of a video, upright and in display order; it is a `pipeline.FrameSource`.

    Damaged parts are skipped and reported in the log.

    Args:
        container: the video, opened by PyAV.
        name: name of the video in messages.
        max_size: limit of the longer side of the frames in pixels; None for no limit.
        reopenable: whether the video can be opened and read again; a pipe and a camera cannot.
        matrix: PyAV's name of the colour matrix for frames that do not name theirs; None for the
            matrix that players assume, see `ffmpeg.default_matrix`.

    Attributes:
        size: height and width of the frames in pixels, after rotation and reduction.
        rate: frames per second, on average.
        time_base: seconds per unit of a frame's time.
        aspect: width of a pixel divided by its height, after rotation.
        start: time in the file, in seconds, that becomes time 0, see `pipeline.FrameSource`.
        max_size: limit of the longer side of the frames in pixels; None for no limit.
        bytes_left_over: always 0, see `pipeline.FrameSource`.

    Raises:
        VideoError: the video has no frame that can be decoded.
    """

    bytes_left_over = 0

    def __init__(
        self,
        container: Any,
        name: str,
        *,
        max_size: int | None = None,
        reopenable: bool = True,
        matrix: str | None = None,
    ) -> None:
        self.name, self.max_size, self.reopenable = name, max_size, reopenable
        self._container, self._colours = container, colours.ColourConverter(name, matrix)
        self._shapes, self._number = shapes.SizeKeeper(name, max_size), 0
        self._stream = streams.choose_picture(container, name)
        # Decoding several frames at a time is faster, but delays a live picture.
        self._stream.thread_type = 'AUTO' if reopenable else 'SLICE'
        decoded = packets.FrameDecoder(container, self._stream, name).frames()
        decoded = interlacing.deinterlaced(decoded, name)
        with ffmpeg.errors_as_video_errors(name, 'frames'):
            first = list(itertools.islice(decoded, _FIRST_FRAMES if reopenable else 1))
        if not first:
            raise ffmpeg.VideoError(f'{name} has no frame that can be read: is the file complete?')
        self._decoded_frames = itertools.chain(first, decoded)
        sound_start = timing.sound_start(container) if reopenable else None
        self._clock = timing.FrameClock(self._stream, first, sound_start, name)
        self.rate, self.time_base = self._clock.rate, self._clock.time_base
        self.start = self._clock.start
        self._colours.check(self._stream, first[0])
        height, width, _ = self._pixels(first[0]).shape
        self.size = height, width
        aspect = fractions.Fraction(self._stream.sample_aspect_ratio or 1)
        self.aspect = 1 / aspect if shapes.is_turned(first[0]) else aspect

    @property
    def frame_count(self) -> int:
        """Estimated number of frames; 0 if it is unknown."""
        frames = self._stream.frames
        if not frames and self._container.duration:
            frames = round(self._container.duration / 1e6 * self.rate)
        return frames

    @property
    def last_duration(self) -> int:
        """How long the most recently read frame is shown, in units of `time_base`."""
        return self._clock.last_duration

    @property
    def audio_streams(self) -> Sequence[Any]:
        """PyAV's streams of sound."""
        return list(self._container.streams.audio)

    def skipped_times(self) -> Iterator[int]:
        """Yields the time of one frame after another without converting it to RGB."""
        for frame in self._decoded_frames:
            self._number += 1
            yield self._clock.time_of(frame)

    def frames(self) -> Iterator[pipeline.Frame]:
        """Yields the frames that follow those that `skipped_times` has already passed."""
        for frame in self._decoded_frames:
            self._number += 1
            yield pipeline.Frame(self._pixels(frame), self._clock.time_of(frame))

    def _pixels(self, frame: Any) -> np.ndarray:
        """Converts PyAV's frame to `[H, W, 3]` uint8, upright, in the size of the first frame."""
        pixels = shapes.upright(self._colours.to_rgb(frame), frame)
        seconds = None if frame.time is None else frame.time - float(self.start)
        return self._shapes.fit(pixels, self._number, seconds)
