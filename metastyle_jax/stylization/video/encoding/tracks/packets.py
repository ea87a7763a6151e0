"""Packets of sound and subtitles: reads them with new times, despite damage, and copies them."""

import contextlib
import fractions
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from absl import logging

from metastyle_jax.stylization.video.decoding import timing

# Some files give subtitles without an end a duration of months, which containers refuse.
LONGEST = 24 * 3600  # seconds


class Damage:
    """Collects the places where a track is damaged, and reports them in one line.

    Args:
        name: what the message calls the track.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._times: list[float] = []

    def add(self, time: float) -> None:
        """Records damage at a time in seconds."""
        self._times.append(time)

    def report(self, consequence: str) -> None:
        """Warns if there was damage; `consequence` says what became of the damaged parts."""
        if self._times:
            places = f'{len(self._times)} places' if len(self._times) > 1 else 'one place'
            logging.warning(
                '%s is damaged in %s, first at about %.2f s: %s',
                self._name, places, max(0.0, min(self._times)), consequence,
            )  # fmt: skip


class TrackConverter(Protocol):
    """Turns the packets of one track of the source into packets of the output.

    Attributes:
        stream: of the output.
    """

    stream: Any

    def convert(self, packet: Any) -> Iterable[Any]:
        """Packets of the output for one packet of `demux`; None ends the track."""

    def report(self) -> None:
        """Tells what was damaged."""


def demux(
    container: Any, streams: list[Any], start: fractions.Fraction, damage: Damage
) -> Iterator[Any]:
    """Yields the packets of some streams, with the times of the output; continues after damage.

    Args:
        container: opened by PyAV.
        streams: of that container.
        start: the second of the source's clock that becomes time 0.
        damage: receives the time of each place where reading failed.
    """
    import av

    read = timing.Timeline(container).packets(
        streams,
        damaged=lambda time: damage.add(time - float(start)),
        errors=(av.error.FFmpegError, OSError),
    )
    for packet in read:
        dts = packet.pts if packet.dts is None else packet.dts
        pts = packet.dts if packet.pts is None else packet.pts
        if dts is None:
            continue  # the last packet of a stream is empty
        moved = round(start / packet.time_base)
        packet.dts, packet.pts = dts - moved, pts - moved
        yield packet


class PacketCopier:
    """Copies the packets of one track; damaged packets of sound are left out.

    A player may stop at sound that it cannot decode. So every packet of sound is decoded once,
    which is fast, and copied only if that succeeds.

    Args:
        stream: of the source.
        output: the container to write.
        end: second of the output at which the track ends; None for its own end.
        damage: receives the times of damaged packets.

    Attributes:
        stream: of the output.
    """

    def __init__(self, stream: Any, output: Any, end: float | None, damage: Damage) -> None:
        self.stream = output.add_stream_from_template(stream, opaque=True)
        self._end, self._damage = end, damage
        self._decoded = stream.type == 'audio'
        self._last: int | None = None

    def convert(self, packet: Any) -> Iterable[Any]:
        """Copies a packet; None, the end of the track, gives no packet."""
        import av

        if packet is None or not packet.size:
            return
        time = float(packet.dts * packet.time_base)
        if self._end is not None and time >= self._end:
            return
        if packet.duration and packet.duration * packet.time_base > LONGEST:
            packet.duration = 0
        if self._decoded:
            try:
                packet.decode()
            except (av.error.FFmpegError, ValueError):
                self._damage.add(time)
                return
        # Containers refuse sound whose times do not increase, and subtitles whose times decrease.
        least = packet.dts if self._last is None else self._last + self._decoded
        packet.pts += max(0, least - packet.dts)
        self._last = packet.dts = max(least, packet.dts)
        packet.stream = self.stream
        yield packet

    def report(self) -> None:
        """Tells how many packets were damaged."""
        self._damage.report('the damaged parts are left out')


def probe_copy(path: Any, index: int, muxer: str, *, packets: int) -> bool:
    """Tries whether a container can hold a track as it is.

    Args:
        path: the file with the track.
        index: number of its stream.
        muxer: FFmpeg's name of the container.
        packets: number of packets that are written for the trial.
    """
    import io

    import av

    with contextlib.suppress(av.error.FFmpegError, ValueError, OSError):
        with av.open(str(path)) as source, av.open(io.BytesIO(), 'w', format=muxer) as trial:
            stream = source.streams[index]
            copier = PacketCopier(stream, trial, None, Damage(''))
            trial.start_encoding()
            read = demux(source, [stream], fractions.Fraction(0), Damage(''))
            for packet in (packet for packet, _ in zip(read, range(packets), strict=False)):
                trial.mux(list(copier.convert(packet)))
        return True
    return False
