"""Makes the packets of all tracks of a plan, in the order of their times."""

import contextlib
import math
from collections.abc import Iterator
from typing import Any

from metastyle_jax.stylization.video.encoding.tracks import (
    packets,
    planning,
    sound,
    subtitles,
    tags,
)


def track_packets(
    plan: planning.Plan, output: Any, stack: contextlib.ExitStack, end: float | None
) -> Iterator[tuple[float, Any]]:
    """Adds the tracks of a plan to a container, and makes their packets.

    It must be called before the first packet is written to the container.

    Args:
        plan: the plan from `planning.make_plan`.
        output: PyAV's container to write.
        stack: the source file stays open until this stack is closed.
        end: time of the output in seconds at which all tracks end; None if they are complete.

    Returns:
        An iterator of (time in seconds, packet).
    """
    import av

    opened = stack.enter_context(av.open(str(plan.source)))
    if plan.chapters:
        output.set_chapters(tags.moved_chapters(opened.chapters(), plan.start, end))
    converters = {
        index: _converter(plan, opened.streams[index], output, end) for index in plan.tracks
    }
    covers = [packet for index in plan.covers for packet in _add_cover(plan, index, output)]
    for index in plan.attachments:
        output.add_stream_from_template(opened.streams[index])
    # All streams must be added now, before the first packet is written: hence the other function.
    return _converted(plan, opened, converters, covers)


def _converter(
    plan: planning.Plan, stream: Any, output: Any, end: float | None
) -> packets.TrackConverter:
    """Adds one track to a container, and returns the converter that makes its packets."""
    how = plan.tracks[stream.index]
    kind = 'sound' if stream.type == 'audio' else 'subtitles'
    damage = packets.Damage(f'{plan.source.name}: {kind} ({planning.describe(stream)})')
    target = packets.TrackTarget(output, end, damage)
    made: packets.TrackConverter
    if how is None:
        made = packets.PacketCopier(stream, target)
    elif isinstance(how, str):
        made = subtitles.SubtitleConverter(stream, how, target)
    else:
        made = sound.SoundEncoder(stream, how, target)
    tags.copy_track_tags(stream, made.stream)
    return made


def _add_cover(plan: planning.Plan, index: int, output: Any) -> list[Any]:
    """Adds a cover picture to a container.

    Returns:
        The packets to write for it. The list is empty for Matroska, which stores a cover as an
        attached file.
    """
    import av

    with av.open(str(plan.source)) as opened:
        stream = opened.streams[index]
        packet = next(packet for packet in opened.demux(stream) if packet.size)
        if output.format.name == 'matroska':
            kind = 'png' if planning.codec_name(stream) == 'png' else 'jpeg'
            name = stream.metadata.get('filename', f'cover.{kind.replace("e", "")}')
            output.add_attachment(name, f'image/{kind}', bytes(packet))
            return []
        made = output.add_stream_from_template(stream, opaque=True)
        made.disposition = av.stream.Disposition.attached_pic
        packet.stream, packet.pts, packet.dts = made, 0, 0
        return [packet]


def _converted(
    plan: planning.Plan,
    opened: Any,
    converters: dict[int, packets.TrackConverter],
    covers: list[Any],
) -> Iterator[tuple[float, Any]]:
    """Yields (time in seconds, packet) of the covers first, then of sound and subtitles."""
    # Packets of several streams need not be in order, but merging requires it.
    latest = -math.inf
    for packet in covers:
        yield latest, packet
    damage = packets.Damage(plan.source.name)
    streams = [opened.streams[index] for index in converters]
    for packet in packets.demux(opened, streams, plan.start, damage) if streams else ():
        for made in converters[packet.stream.index].convert(packet):
            latest = max(latest, float(made.dts * made.time_base))
            yield latest, made
    for converter in converters.values():
        for made in converter.convert(None):
            latest = max(latest, float(made.dts * made.time_base))
            yield latest, made
        converter.report()
    damage.report('what cannot be read of its sound and subtitles is left out')
