"""Joins encoded segments into one file, with the original's sound, subtitles, tags and chapters.

Frames are not encoded again (except for a GIF): packets are copied and get new times. Each frame
gets the time that it has in the original video, so uneven frame rates are kept.
"""

import contextlib
import fractions
import functools
import heapq
import math
import os
import pathlib
import secrets
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from absl import logging

from metastyle_jax.core import files
from metastyle_jax.stylization.video import ffmpeg
from metastyle_jax.stylization.video.encoding import containers, gif
from metastyle_jax.stylization.video.encoding.tracks import planning, tags, writing

# What becomes of a file whose container refuses a packet, see `planning.simpler_plans`.
_SIMPLER = ('the sound is encoded, subtitles are left out', 'only the picture is written')
_MOST_TICKS = 240  # per second, of a container without times


def join(
    segments: list[pathlib.Path],
    target: pathlib.Path,
    times: list[int],
    video_format: ffmpeg.VideoFormat,
    plan: planning.Plan | None,
    *,
    last_duration: int | None = None,
    complete: bool,
    comment: str,
) -> None:
    """Joins segments into one file, which appears complete or not at all.

    Args:
        segments: the files of the segments, in order.
        target: the file to write; its suffix names the container.
        times: time of each frame, in units of the format's time base.
        video_format: format of the frames.
        plan: what is written beside the picture; None to write only the picture.
        last_duration: how long the last frame is shown, in units of the format's time base; None
            for one frame at the average rate.
        complete: whether these are all frames of the video. If not, sound, subtitles and chapters
            end with the last frame.
        comment: text that is added to the file's comment.

    Raises:
        ValueError: FFmpeg cannot write even the picture alone.
    """
    # The name is short, because the target's may have the greatest length that a disk allows.
    part = target.with_name(f'.{secrets.token_hex(8)}.part')
    try:
        if containers.container_of(target).muxer == 'gif':
            written = tags.add_comment(plan.tags if plan else {}, comment)
            gif.write(
                part, segments, times, video_format,
                last_duration=last_duration, comment=written.pop('comment'),
            )  # fmt: skip
            _tell_missing(target, sorted(written))
        else:
            mux = functools.partial(
                _mux, part, segments, target, times, video_format,
                last_duration=last_duration, complete=complete, comment=comment,
            )  # fmt: skip
            _try_plans(mux, plan, target)
        with part.open('rb+') as opened:
            os.fsync(opened.fileno())
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


def _try_plans(
    mux: Callable[[planning.Plan | None], None],
    plan: planning.Plan | None,
    target: pathlib.Path,
) -> None:
    """Writes a file with as much beside the picture as its container accepts.

    `planning.make_plan` tried the first packets of each track only. If the container refuses a
    later packet, the file is written again with encoded instead of copied sound, and without
    copied subtitles. If that fails too, only the picture and the tags are written.
    """
    plans = [plan] if plan is None else planning.simpler_plans(plan, target)
    for number, simpler in enumerate(plans):
        try:
            mux(simpler)
            return
        except ValueError as error:  # of FFmpeg; a full disk is an OSError
            if number == len(plans) - 1:
                raise
            logging.warning(
                '%s cannot hold all of the sound and subtitles (%s): %s',
                target.name, files.reason(error), _SIMPLER[number],
            )  # fmt: skip


def _mux(
    part: pathlib.Path,
    segments: list[pathlib.Path],
    target: pathlib.Path,
    times: list[int],
    video_format: ffmpeg.VideoFormat,
    plan: planning.Plan | None,
    *,
    last_duration: int | None,
    complete: bool,
    comment: str,
) -> None:
    """Writes picture, sound, subtitles and tags to the file `part`; logs tags that got lost."""
    import av

    kind = containers.container_of(target)
    written = tags.add_comment(plan.tags if plan else {}, comment)
    last = times[-1] * video_format.time_base
    end = None if complete else float(last + 1 / video_format.rate)
    with (
        contextlib.ExitStack() as stack,
        av.open(str(part), 'w', format=kind.muxer, options=dict(kind.options)) as output,
    ):
        output.metadata.update(written)
        first = stack.enter_context(av.open(str(segments[0])))
        template = first.streams.video[0]
        stream = output.add_stream_from_template(template)
        if not kind.holds_times:
            times, time_base = even_times(times, video_format)
            video_format = video_format._replace(time_base=time_base, rate=1 / time_base)
            last_duration = None
            stream.codec_context.codec_tag = 'XVID'  # the name under which Windows plays MPEG-4
        stream.time_base = video_format.time_base
        filtered = _bitstream_filter(kind, template, stream)
        usual = max(1, round(1 / video_format.rate / video_format.time_base))
        ends = [*times[1:], times[-1] + (last_duration or usual)]
        intervals = list(zip(times, ends, strict=True))
        sources = [_video_packets(segments, intervals, video_format.time_base, stream, filtered)]
        if plan is not None:
            sources.append(writing.track_packets(plan, output, stack, end))
        # Containers want the packets of all streams in the order of their times.
        for _, packet in heapq.merge(*sources, key=lambda item: item[0]):
            output.mux(packet)
        tracks = [track for track in output.streams if track.type in ('audio', 'subtitle')]
    with av.open(str(part)) as finished:
        _tell_missing(target, tags.missing_tags(written, finished.metadata))
        found = [track for track in finished.streams if track.type in ('audio', 'subtitle')]
        lost = [tags.missing_track_tags(*pair) for pair in zip(tracks, found, strict=False)]
        _tell_missing(target, [f'{name} of a track' for name in sorted(set().union(*lost))])


def _tell_missing(target: pathlib.Path, missing: list[str]) -> None:
    """Warns in one line about the tags that the container of the finished file cannot hold."""
    if missing:
        logging.warning(
            '%s: a %s file has no place for: %s',
            target.name, target.suffix.lower(), ', '.join(missing),
        )  # fmt: skip


def even_times(
    times: Sequence[int], video_format: ffmpeg.VideoFormat
) -> tuple[list[int], fractions.Fraction]:
    """Converts times for a container, such as AVI, that numbers frames at a constant rate.

    A time becomes a frame number. Where a number is left out, a player repeats the frame before.

    Args:
        times: time of each frame, in units of the format's time base.
        video_format: format of the frames.

    Returns:
        The number of each frame, and the seconds per number. If exact times would need more than
        `_MOST_TICKS` numbers per second, times are rounded.
    """
    base = video_format.time_base
    unit = math.gcd(*(time - times[0] for time in times)) * base
    rate = 1 / unit if unit else video_format.rate
    if rate > _MOST_TICKS:
        rate = fractions.Fraction(min(2 * round(video_format.rate), _MOST_TICKS))
    # Containers count from 0, so the time before the first frame is a whole number of units too.
    # Halves are always rounded up, because `round` would turn 2.5 and 3.5 into 2 and 4: a gap.
    half = fractions.Fraction(1, 2)
    even: list[int] = []
    for time in times:
        even.append(max(even[-1] + 1 if even else 0, math.floor(time * base * rate + half)))
    return even, 1 / rate


def _bitstream_filter(
    kind: containers.Container, template: Any, stream: Any
) -> Callable[[Any], list[Any]]:
    """Returns a function that turns a packet of a segment into packets for the container."""
    from av.bitstream import BitStreamFilterContext

    if kind.muxer != 'avi':
        return lambda packet: [packet]
    # Players expect the header of MPEG-4 before each key frame of an AVI.
    return BitStreamFilterContext('dump_extra', template, stream).filter


def _video_packets(
    segments: list[pathlib.Path],
    intervals: Sequence[tuple[int, int]],
    time_base: fractions.Fraction,
    stream: Any,
    filtered: Callable[[Any], list[Any]],
) -> Iterator[tuple[float, Any]]:
    """Yields (time in seconds, packet) of each frame.

    `intervals` holds the time of each frame and the time at which it ends, in units of `time_base`.
    """
    import av

    following = iter(intervals)
    for segment in segments:
        with av.open(str(segment)) as opened:
            for packet in opened.demux(video=0):
                if not packet.size:  # the last packet of a file is empty
                    continue
                begin, end = next(following)
                for ready in filtered(packet):
                    ready.stream, ready.time_base = stream, time_base
                    ready.pts = ready.dts = begin
                    ready.duration = end - begin
                    yield float(begin * time_base), ready
