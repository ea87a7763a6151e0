"""Joins encoded segments into one file, with the original's sound.

Joining encodes nothing again: packets are copied, and only their times are set anew. The times come
from the original video, frame by frame, so uneven frame rates are kept.
"""

import contextlib
import fractions
import heapq
import os
import pathlib
from collections.abc import Iterator
from typing import Any

from metastyle_jax.stylization.video import ffmpeg
from metastyle_jax.stylization.video.encoding import sound


def join(
    segments: list[pathlib.Path],
    target: pathlib.Path,
    times: list[int],
    video_format: ffmpeg.VideoFormat,
    audio_file: pathlib.Path | None,
    *,
    start: fractions.Fraction,
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
        start: the second of the clock of the sound that becomes time 0.
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
                sources.append(sound.audio_packets(audio, output, start, end))
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
