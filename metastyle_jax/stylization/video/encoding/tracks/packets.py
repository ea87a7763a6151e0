"""Reads packets of sound and subtitles, gives them the times of the output, and copies them."""

import abc
import contextlib
import fractions
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from absl import logging

from metastyle_jax.stylization.video.decoding import timing

# Some files give subtitles without an end a duration of months, which containers refuse.
LONGEST = 24 * 3600  # seconds


class Damage:
    """Collects the times at which a track is damaged, and reports all of them in one line.

    Args:
        name: name of the track in the message.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._times: list[float] = []

    def add(self, time: float) -> None:
        """Records damage at a time in seconds."""
        self._times.append(time)

    def report(self, consequence: str) -> None:
        """Logs a warning if there was damage.

        Args:
            consequence: end of the message, such as 'the damaged parts are left out'.
        """
        if self._times:
            places = f'{len(self._times)} places' if len(self._times) > 1 else 'one place'
            logging.warning(
                '%s is damaged in %s, first at about %.2f s: %s',
                self._name, places, max(0.0, min(self._times)), consequence,
            )  # fmt: skip


class TrackTarget(NamedTuple):
    """Where the packets of one track are written.

    Attributes:
        container: PyAV's container to write.
        end: time of the output in seconds at which the track ends; None to write all of it.
        damage: receives the times of parts that cannot be read.
    """

    container: Any
    end: float | None
    damage: Damage

    def is_ended(self, time: float) -> bool:
        """Whether a time of the output in seconds is at or after the end of the track."""
        return self.end is not None and time >= self.end


class TrackConverter(abc.ABC):
    """Turns the packets of one track of the source into packets of the output.

    Args:
        stream: PyAV's new stream of the output.
        target: where the packets are written.

    Attributes:
        stream: PyAV's stream of the output.
        consequence: end of the message of `report`, such as 'the damaged parts are left out'.
    """

    consequence: str

    def __init__(self, stream: Any, target: TrackTarget) -> None:
        self.stream, self._target = stream, target

    @abc.abstractmethod
    def convert(self, packet: Any) -> Iterable[Any]:
        """Makes the packets of the output from one packet of the source.

        Args:
            packet: from `demux`; None after the last packet of the track.

        Returns:
            The packets, which may be none.
        """

    def report(self) -> None:
        """Logs a warning if parts of the track were damaged."""
        self._target.damage.report(self.consequence)


def demux(
    container: Any, streams: list[Any], start: fractions.Fraction, damage: Damage
) -> Iterator[Any]:
    """Yields the packets of some streams with the times of the output; continues after damage.

    Args:
        container: the source file, opened by PyAV.
        streams: the streams of this container to read.
        start: time in the source, in seconds, that becomes time 0 of the output.
        damage: receives each time at which reading failed.
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


class PacketCopier(TrackConverter):
    """Copies the packets of one track; damaged packets of sound are left out.

    A player may stop at sound that it cannot decode. So every packet of sound is decoded once,
    which is fast, and copied only if it could be decoded.

    Args:
        source: PyAV's stream of the source.
        target: where the packets are written.
    """

    consequence = 'the damaged parts are left out'

    def __init__(self, source: Any, target: TrackTarget) -> None:
        super().__init__(target.container.add_stream_from_template(source, opaque=True), target)
        self._decoded = source.type == 'audio'
        self._last: int | None = None

    def convert(self, packet: Any) -> Iterable[Any]:
        """Yields the packet with its new stream; yields nothing for damaged sound and for None."""
        import av

        if packet is None or not packet.size:
            return
        time = float(packet.dts * packet.time_base)
        if self._target.is_ended(time):
            return
        if packet.duration and packet.duration * packet.time_base > LONGEST:
            packet.duration = 0
        if self._decoded:
            try:
                packet.decode()
            except (av.error.FFmpegError, ValueError):
                self._target.damage.add(time)
                return
        # Containers refuse sound whose times do not increase, and subtitles whose times decrease.
        least = packet.dts if self._last is None else self._last + self._decoded
        packet.pts += max(0, least - packet.dts)
        self._last = packet.dts = max(least, packet.dts)
        packet.stream = self.stream
        yield packet


def probe_copy(path: Any, index: int, muxer: str, *, packets: int) -> bool:
    """Tries whether a track can be copied to a container, by writing some packets to memory.

    Args:
        path: the file with the track.
        index: stream number of the track.
        muxer: FFmpeg's name of the container.
        packets: number of packets to write; 0 to try the header of the file only.
    """
    import io

    import av

    with contextlib.suppress(av.error.FFmpegError, ValueError, OSError):
        with av.open(str(path)) as source, av.open(io.BytesIO(), 'w', format=muxer) as trial:
            stream = source.streams[index]
            copier = PacketCopier(stream, TrackTarget(trial, None, Damage('')))
            trial.start_encoding()
            read = demux(source, [stream], fractions.Fraction(0), Damage(''))
            for packet in (packet for packet, _ in zip(read, range(packets), strict=False)):
                trial.mux(list(copier.convert(packet)))
        return True
    return False
