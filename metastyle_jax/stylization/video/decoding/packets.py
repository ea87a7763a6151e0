"""Decodes the video stream of a file; damaged parts are skipped and reported."""

import contextlib
from collections.abc import Iterator
from typing import Any

from absl import logging

from metastyle_jax.stylization.video.decoding import timing

# A video whose last frame comes this many seconds before the end that its header names is reported
# as cut off. Headers count the last frame's duration in different ways, so some slack is needed.
_END_SLACK = 0.25


class FrameDecoder:
    """Decodes one video stream; damaged parts are skipped and reported in the log.

    Args:
        container: the file, opened by PyAV.
        stream: the video stream of this container to decode.
        name: name of the file in messages.
    """

    def __init__(self, container: Any, stream: Any, name: str) -> None:
        self._container, self._stream, self._name = container, stream, name
        self._timeline = timing.Timeline(container)
        self._codec = _transparency_decoder(stream)
        self._damage_times: list[float] = []  # seconds
        self._packets_read = 0

    def frames(self) -> Iterator[Any]:
        """Yields PyAV's frames; packets that cannot be decoded are skipped."""
        import av

        time, duration = 0.0, 0.0
        usual = 1 / float(self._stream.average_rate or 25)
        for packet in self._timeline.packets(
            [self._stream], damaged=self._report_damage, errors=(av.error.InvalidDataError,)
        ):
            self._packets_read += packet.size > 0
            try:
                frames = self._codec.decode(packet) if self._codec else packet.decode()
            except (av.error.InvalidDataError, av.error.PatchWelcomeError):
                known = packet.pts is not None
                self._report_damage(float(packet.pts * packet.time_base) if known else time)
                continue
            for frame in frames:
                time = time if frame.time is None else frame.time
                duration = max(usual, float((frame.duration or 0) * self._stream.time_base))
                if frame.is_corrupt:
                    self._report_damage(time)
                yield frame
        self._report_at_end(time + duration)

    def _report_damage(self, time: float) -> None:
        """Records damage, and warns the first time."""
        if not self._damage_times:
            logging.warning(
                '%s is damaged at about %.2f s: the damaged parts are left out', self._name, time
            )
        self._damage_times.append(time)

    def _report_at_end(self, time: float) -> None:
        """Warns if the clock jumped, several places were damaged, or the video ends too early.

        Args:
            time: second at which the last frame ends.
        """
        if jumps := self._timeline.jumps:
            logging.warning(
                '%s: its clock jumps (%d x): the parts before and after are joined without a gap',
                self._name, jumps,
            )  # fmt: skip
        if len(self._damage_times) > 1:
            logging.warning(
                '%s is damaged in %d places, from %.2f s to %.2f s',
                self._name, len(self._damage_times),
                min(self._damage_times), max(self._damage_times),
            )  # fmt: skip
        # After a jump of the clock, its header's end means nothing.
        end = None if jumps else _end_in_header(self._container, self._stream)
        complete = not self._stream.frames or self._packets_read >= self._stream.frames
        if not complete or (end is not None and time < end - _END_SLACK):
            promised = f'{self._stream.frames} frames' if end is None else f'{end:.2f} s'
            logging.warning(
                '%s ends at %.2f s, though its header says %s: the rest cannot be read',
                self._name, time, promised,
            )  # fmt: skip


def _transparency_decoder(stream: Any) -> Any:
    """Returns a decoder for VP8 or VP9 with transparency; None if the stream does not need it.

    FFmpeg's own decoders ignore the transparency.
    """
    import av

    name = {'vp8': 'libvpx', 'vp9': 'libvpx-vp9'}.get(stream.codec_context.name, '')
    metadata = {key.lower(): value for key, value in stream.metadata.items()}
    if metadata.get('alpha_mode') != '1' or name not in av.codecs_available:
        return None
    return av.CodecContext.create(name, 'r')


def _end_in_header(container: Any, stream: Any) -> float | None:
    """Returns the second at which the picture ends according to the header; None if unknown."""
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
