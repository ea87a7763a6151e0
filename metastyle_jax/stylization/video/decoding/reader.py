"""Reads frames of video files, pipes and cameras, through PyAV."""

import contextlib
import fractions
import itertools
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from absl import logging

from metastyle_jax.stylization.video import ffmpeg, pipeline, raw_frames

# A video whose last frame comes this many seconds before the end that its header names is reported
# as cut off. Headers count the last frame's duration in different ways, so some slack is needed.
_END_SLACK = 0.25


@contextlib.contextmanager
def open_video(
    source: pathlib.Path | raw_frames.Pipe, *, max_size: int | None = None, kind: str | None = None
) -> Iterator['VideoReader']:
    """Opens a video file or a pipe, and closes it at the end of the block.

    Args:
        source: the file, or a pipe at the standard input.
        max_size: limit of the longer side of the frames; None for no limit.
        kind: FFmpeg's name of the container; None to detect it.

    Raises:
        VideoError: the file is missing, is no video, or has no frames.
    """
    ffmpeg.require_pyav()
    import av

    is_file = isinstance(source, pathlib.Path)
    name = str(source) if is_file else 'standard input'
    if isinstance(source, pathlib.Path) and not source.exists():
        raise ffmpeg.VideoError(f'{name}: there is no such file')
    try:
        container = av.open(str(source) if is_file else source, format=kind)
    except (av.error.FFmpegError, OSError) as error:
        raise ffmpeg.VideoError(
            f'{name} is no video that can be read, or is cut off ({error}): save or download it '
            'again'
        ) from error
    with container:
        yield VideoReader(container, name, max_size=max_size, reopenable=is_file)


class VideoReader:
    """Frames of a video, upright and in display order, as a `pipeline.FrameSource`.

    Damaged parts are skipped, and reported once in the log.

    Args:
        container: opened by PyAV.
        name: what messages call it.
        max_size: limit of the longer side of the frames; None for no limit.
        reopenable: whether it can be read a second time; a pipe and a camera cannot.
        matrix: PyAV's name of the colour matrix of untagged frames; None for the one that players
            assume, see `ffmpeg.default_matrix`.

    Attributes:
        size: height and width of the frames, after rotation and reduction.
        rate: frames per second, on average.
        time_base: seconds per unit of a frame's time.
        aspect: width of a pixel divided by its height, after rotation.
        start: always 0, see `pipeline.FrameSource`.
        max_size: as given.
        bytes_left_over: always 0, see `pipeline.FrameSource`.

    Raises:
        VideoError: there is no frame.
    """

    bytes_left_over = 0
    start = fractions.Fraction(0)

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
        self._container, self._matrix = container, matrix
        self._damage_times: list[float] = []  # seconds
        self._packets_read = 0
        # Times of a file stay as they are. A camera's clock does not begin at 0, so the first
        # frame's time is subtracted.
        self._start: int | None = 0 if reopenable else None
        self._last_pts: int | None = None
        if not container.streams.video:
            raise ffmpeg.VideoError(f'{name} has no picture, only sound')
        self._stream = container.streams.video[0]
        # Decoding several frames at a time is faster, but delays a live picture.
        self._stream.thread_type = 'AUTO' if reopenable else 'SLICE'
        self.rate = fractions.Fraction(self._stream.average_rate or 25)
        self.time_base = fractions.Fraction(self._stream.time_base)
        self._usual_duration = max(1, round(1 / self.rate / self.time_base))
        self._decoded_frames = self._decode()
        with ffmpeg.errors_as_video_errors(name, 'frames'):
            first = next(self._decoded_frames, None)
        if first is None:
            raise ffmpeg.VideoError(f'{name} has no frame that can be read: is the file complete?')
        self._decoded_frames = itertools.chain([first], self._decoded_frames)
        height, width, _ = self._pixels(first).shape
        self.size = height, width
        aspect = fractions.Fraction(self._stream.sample_aspect_ratio or 1)
        self.aspect = 1 / aspect if _quarter_turns(first) % 2 else aspect

    @property
    def frame_count(self) -> int:
        """About how many frames there are; 0 if that is unknown."""
        frames = self._stream.frames
        if not frames and self._container.duration and self._stream.average_rate:
            frames = round(self._container.duration / 1e6 * self._stream.average_rate)
        return frames

    @property
    def audio_streams(self) -> Sequence[Any]:
        """PyAV's streams of sound."""
        return list(self._container.streams.audio)

    def skipped_times(self) -> Iterator[int]:
        """Skips one frame after another without converting it, and yields its time."""
        for frame in self._decoded_frames:
            yield self._pts(frame)

    def frames(self) -> Iterator[pipeline.Frame]:
        """Yields all frames that `skipped_times` has not skipped.

        Raises:
            VideoError: the size of the frames changes.
        """
        for frame in self._decoded_frames:
            pixels = self._pixels(frame)
            if pixels.shape[:2] != self.size:
                time = 'an unknown time' if frame.time is None else f'{frame.time:.2f} s'
                raise ffmpeg.VideoError(
                    f'{self.name}: the size of the frames changes at {time}, from '
                    f'{self.size[1]} x {self.size[0]} pixels: convert the video to one size first'
                )
            yield pipeline.Frame(pixels, self._pts(frame))

    def _pts(self, frame: Any) -> int:
        """Time of a frame, always later than that of the frame before, as players require."""
        pts = frame.pts
        if pts is not None:
            self._start = pts if self._start is None else self._start
            pts -= self._start
        if self._last_pts is not None and (pts is None or pts <= self._last_pts):
            pts = self._last_pts + (self._usual_duration if pts is None else 1)
        self._last_pts = 0 if pts is None else pts
        return self._last_pts

    def _pixels(self, frame: Any) -> np.ndarray:
        """`[H, W, 3]` uint8, rotated as the file says, and reduced."""
        tagged = frame.colorspace != ffmpeg.UNSPECIFIED_MATRIX
        matrix = self._matrix or ffmpeg.default_matrix(frame.height, frame.width)
        pixels = frame.to_ndarray(format='rgb24', src_colorspace=None if tagged else matrix)
        upright = np.ascontiguousarray(np.rot90(pixels, _quarter_turns(frame)))
        return raw_frames.reduce_frame(upright, self.max_size)

    def _decode(self) -> Iterator[Any]:
        """PyAV's frames; packets that cannot be decoded are reported and skipped."""
        import av

        time, duration = 0.0, 0.0
        usual = float(1 / self.rate)
        for packet in self._packets():
            try:
                frames = packet.decode()
            except av.error.InvalidDataError:
                self._report_damage(time if packet.pts is None else _seconds(packet))
                continue
            for frame in frames:
                time = time if frame.time is None else frame.time
                duration = max(usual, float((frame.duration or 0) * self._stream.time_base))
                if frame.is_corrupt:
                    self._report_damage(time)
                yield frame
        self._report_at_end(time + duration)

    def _packets(self) -> Iterator[Any]:
        """Packets of the picture; continues after damage as long as more packets follow."""
        import av

        time, progressed = 0.0, True
        while progressed:
            progressed = False
            try:
                for packet in self._container.demux(self._stream):
                    progressed = progressed or packet.size > 0
                    self._packets_read += packet.size > 0
                    time = time if packet.pts is None else _seconds(packet)
                    yield packet
                return
            except av.error.InvalidDataError:
                self._report_damage(time)

    def _report_damage(self, time: float) -> None:
        """Records damage, and warns the first time."""
        if not self._damage_times:
            logging.warning(
                '%s is damaged at about %.2f s: the damaged parts are left out', self.name, time
            )
        self._damage_times.append(time)

    def _report_at_end(self, time: float) -> None:
        """Warns if there was damage in several places, or if the video ends too early."""
        if len(self._damage_times) > 1:
            logging.warning(
                '%s is damaged in %d places, from %.2f s to %.2f s',
                self.name, len(self._damage_times),
                min(self._damage_times), max(self._damage_times),
            )  # fmt: skip
        end = _end_in_header(self._container, self._stream)
        complete = not self._stream.frames or self._packets_read >= self._stream.frames
        if not complete or (end is not None and time < end - _END_SLACK):
            promised = f'{self._stream.frames} frames' if end is None else f'{end:.2f} s'
            logging.warning(
                '%s ends at %.2f s, though its header says %s: the rest cannot be read',
                self.name, time, promised,
            )  # fmt: skip


def _seconds(packet: Any) -> float:
    """Presentation time of a packet."""
    return float(packet.pts * packet.time_base)


def _quarter_turns(frame: Any) -> int:
    """Number of counter-clockwise quarter turns that make a frame upright."""
    return round(getattr(frame, 'rotation', 0) / 90)


def _end_in_header(container: Any, stream: Any) -> float | None:
    """Second at which the picture ends according to the file's header; None if it does not say."""
    start = float((stream.start_time or 0) * stream.time_base)
    if stream.duration:
        return start + float(stream.duration * stream.time_base)
    with contextlib.suppress(ValueError):  # Matroska keeps the duration as a text
        hours, minutes, seconds = map(float, stream.metadata.get('DURATION', '').split(':'))
        return 3600 * hours + 60 * minutes + seconds
    # The container's duration may be that of the sound.
    if container.duration and not container.streams.audio:
        return start + container.duration / 1e6
    return None
