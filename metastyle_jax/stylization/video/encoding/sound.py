"""The sound of a video, which is copied from the original."""

import contextlib
import fractions
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

from metastyle_jax.stylization.video import ffmpeg


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


def audio_packets(
    audio: Any, output: Any, start: fractions.Fraction, end: float | None
) -> Iterator[tuple[float, Any]]:
    """Yields the time in seconds and the packet of each piece of sound before `end`.

    Args:
        audio: the container of the sound, opened by PyAV.
        output: the container to write.
        start: the second of the clock of the sound that becomes time 0.
        end: time in seconds after `start`; None for the end of the sound.
    """
    import av

    # The streams must be added now, before the first packet is written: hence the second function.
    copies = {
        stream.index: output.add_stream_from_template(stream) for stream in audio.streams.audio
    }
    if not copies:
        return iter(())
    return _copied_packets(audio, copies, start, end, av.error.FFmpegError)


def _copied_packets(
    audio: Any,
    copies: dict[int, Any],
    start: fractions.Fraction,
    end: float | None,
    damage: type[Exception],
) -> Iterator[tuple[float, Any]]:
    """Yields packets of sound up to the first damage."""
    latest = 0.0
    with contextlib.suppress(damage):
        for packet in audio.demux(*audio.streams.audio):
            if packet.dts is None:
                continue
            moved = round(start / packet.time_base)
            packet.dts -= moved
            packet.pts = packet.dts if packet.pts is None else packet.pts - moved
            time = float(packet.dts * packet.time_base)
            if end is not None and time >= end:
                continue
            packet.stream = copies[packet.stream.index]
            # Packets of several streams need not be in order, but merging requires it.
            latest = max(latest, time)
            yield latest, packet
