"""Encodes segments of a video as H.264, and joins them into one file with the original's sound.

Joining encodes nothing again: packets are copied, and only their times are set anew. The times come
from the original video, frame by frame, so uneven frame rates are kept.
"""

import contextlib
import heapq
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from metastyle_jax.stylization.video import ffmpeg

# Options of libx264. Without B-frames (`bf`), packets have the order of frames, and there is one
# packet per frame: `join` relies on both.
_X264_OPTIONS = {'crf': '18', 'preset': 'medium', 'bf': '0'}
_LIMITED_RANGE = 1  # FFmpeg's number of luma in 16..235, the usual range of video


class SegmentEncoder:
    """Encodes the frames of one segment as H.264.

    Args:
        path: the file to write.
        video_format: of the frames.

    Attributes:
        count: number of frames encoded so far.
    """

    def __init__(self, path: pathlib.Path, video_format: ffmpeg.VideoFormat) -> None:
        import av

        self._path, self.count = path, 0
        self._container = av.open(str(path), 'w')
        rate = video_format.rate
        self._stream = self._container.add_stream('libx264', rate=rate, options=_X264_OPTIONS)
        self._stream.height, self._stream.width = video_format.height, video_format.width
        # Halved colour resolution needs even sides.
        odd = video_format.height % 2 or video_format.width % 2
        self._stream.pix_fmt = 'yuv444p' if odd else 'yuv420p'
        context = self._stream.codec_context
        # The true times are set when the segments are joined. Here the time base must be 1/rate,
        # because x264 writes the rate that it implies into the stream.
        self._time_base = context.time_base = 1 / rate
        context.sample_aspect_ratio = video_format.aspect
        # Of untagged video, players guess the colour matrix from the size of the frames.
        context.color_primaries = context.color_trc = context.colorspace = ffmpeg.BT709
        context.color_range = _LIMITED_RANGE

    def write(self, pixels: np.ndarray) -> None:
        """Encodes one frame, `[H, W, 3]` uint8."""
        import av

        picture = av.VideoFrame.from_ndarray(pixels, format='rgb24')
        picture = picture.reformat(format=self._stream.pix_fmt, dst_colorspace='ITU709')
        picture.pts, picture.time_base = self.count, self._time_base
        self._container.mux(self._stream.encode(picture))
        self.count += 1

    def close(self) -> None:
        """Encodes what the encoder still holds, and makes sure that it is on the disk."""
        with self._container as container:
            container.mux(self._stream.encode())
        with self._path.open('rb+') as opened:
            os.fsync(opened.fileno())

    def abandon(self) -> None:
        """Closes the file without completing it."""
        self._container.close()


def count_frames(path: pathlib.Path) -> int:
    """Counts the frames of a file; 0 if there is no such file or it cannot be read."""
    import av

    try:
        with av.open(str(path)) as opened:
            return sum(1 for packet in opened.demux(video=0) if packet.size)
    except (av.error.FFmpegError, OSError, IndexError):
        return 0


def check_audio(target: pathlib.Path, audio_streams: Sequence[Any]) -> None:
    """Raises VideoError if the container of a file cannot hold some sound.

    Args:
        target: the file to be written later; its suffix names the container.
        audio_streams: PyAV's streams of the sound.
    """
    import av

    container_name = ffmpeg.container_name(target)
    for stream in audio_streams:
        with av.open(os.devnull, 'w', format=container_name) as container:
            try:
                container.add_stream_from_template(stream)
                container.start_encoding()
            except (av.error.FFmpegError, ValueError) as error:
                raise ffmpeg.VideoError(
                    f'{target}: a {target.suffix} file cannot hold sound of the kind '
                    f'{stream.codec_context.name}: choose .mkv'
                ) from error


def join(
    segments: list[pathlib.Path],
    target: pathlib.Path,
    times: list[int],
    video_format: ffmpeg.VideoFormat,
    audio_file: pathlib.Path | None,
    *,
    all_audio: bool,
    comment: str,
) -> None:
    """Joins segments into one file, which appears complete or not at all.

    Args:
        segments: the files of the segments, in order.
        target: the file to write.
        times: time of each frame, in units of the format's time base.
        video_format: of the frames.
        audio_file: the file whose sound is copied; None for a silent video.
        all_audio: whether to copy all sound, or only up to the end of the last frame.
        comment: written to the file's metadata.
    """
    import av

    part = target.with_name(f'.{target.name}.{os.getpid()}.part')
    container_name = ffmpeg.container_name(target)
    # MP4 and MOV have their index at the end by default. At the front, a browser can begin to play
    # before it has received the whole file.
    options = {} if container_name == 'matroska' else {'movflags': 'faststart'}
    try:
        with (
            contextlib.ExitStack() as stack,
            av.open(str(part), 'w', format=container_name, options=options) as output,
        ):
            output.metadata['comment'] = comment
            first = stack.enter_context(av.open(str(segments[0])))
            stream = output.add_stream_from_template(first.streams.video[0])
            stream.time_base = video_format.time_base
            sources = [_video_packets(segments, times, video_format, stream)]
            if audio_file is not None:
                audio = stack.enter_context(av.open(str(audio_file)))
                last = times[-1] * video_format.time_base
                end = None if all_audio else float(last + 1 / video_format.rate)
                sources.append(_audio_packets(audio, output, end))
            # Containers want the packets of all streams in the order of their times.
            for _, packet in heapq.merge(*sources, key=lambda item: item[0]):
                output.mux(packet)
        with part.open('rb+') as opened:
            os.fsync(opened.fileno())
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


def _video_packets(
    segments: list[pathlib.Path],
    times: list[int],
    video_format: ffmpeg.VideoFormat,
    stream: Any,
) -> Iterator[tuple[float, Any]]:
    """Yields the time in seconds and the packet of each frame."""
    import av

    intervals = iter(zip(times, times[1:], strict=False))
    usual = max(1, round(1 / video_format.rate / video_format.time_base))
    for segment in segments:
        with av.open(str(segment)) as opened:
            for packet in opened.demux(video=0):
                if packet.size:  # the last packet of a file is empty
                    begin, end = next(intervals, (times[-1], times[-1] + usual))
                    packet.stream, packet.time_base = stream, video_format.time_base
                    packet.pts = packet.dts = begin
                    packet.duration = end - begin
                    yield float(begin * video_format.time_base), packet


def _audio_packets(audio: Any, output: Any, end: float | None) -> Iterator[tuple[float, Any]]:
    """Yields the time in seconds and the packet of each piece of sound before `end`."""
    import av

    # The streams must be added now, before the first packet is written: hence the second function.
    copies = {
        stream.index: output.add_stream_from_template(stream) for stream in audio.streams.audio
    }
    return _copied_packets(audio, copies, end, av.error.FFmpegError) if copies else iter(())


def _copied_packets(
    audio: Any, copies: dict[int, Any], end: float | None, damage: type[Exception]
) -> Iterator[tuple[float, Any]]:
    """Yields packets of sound up to the first damage."""
    latest = 0.0
    with contextlib.suppress(damage):
        for packet in audio.demux(*audio.streams.audio):
            if packet.dts is None:
                continue
            time = float(packet.dts * packet.time_base)
            if end is not None and time >= end:
                continue
            packet.stream = copies[packet.stream.index]
            # Packets of several streams need not be in order, but merging requires it.
            latest = max(latest, time)
            yield latest, packet
