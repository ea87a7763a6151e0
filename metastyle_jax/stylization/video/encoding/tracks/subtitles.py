"""Converts text subtitles from one format to another."""

import fractions
from collections.abc import Iterable
from typing import Any

from metastyle_jax.stylization.video.encoding.tracks import packets

_USUAL_SECONDS = 4.0  # for which a text without an end is shown
_TIME_BASE = fractions.Fraction(1, 1000)  # subtitles are timed in milliseconds


class SubtitleConverter(packets.TrackConverter):
    """Decodes the subtitles of one track and encodes them in another text format.

    Args:
        source: PyAV's stream of the source.
        encoder: FFmpeg's name of the encoder.
        target: where the packets are written.
    """

    consequence = 'the damaged texts are left out'

    def __init__(self, source: Any, encoder: str, target: packets.TrackTarget) -> None:
        super().__init__(target.container.add_stream(encoder), target)
        self._decoder = source.codec_context
        self._decoder.open(strict=False)
        # Encoders need the header with the styles, which the decoder makes when it is opened.
        self.stream.codec_context.subtitle_header = self._decoder.subtitle_header
        self.stream.codec_context.time_base = self.stream.time_base = _TIME_BASE
        self._last = 0

    def convert(self, packet: Any) -> Iterable[Any]:
        """Converts one subtitle; yields nothing for damaged or empty subtitles and for None."""
        import av

        if packet is None or not packet.size:
            return
        time = float(packet.pts * packet.time_base)
        lasts = float((packet.duration or 0) * packet.time_base)
        until = time + (lasts if 0 < lasts < packets.LONGEST else _USUAL_SECONDS)
        if self._target.is_ended(time):
            return
        if self._target.end is not None:
            until = min(until, self._target.end)
        try:
            texts = self._decoder.decode2(packet)
            made = None if texts is None else self.stream.codec_context.encode_subtitle(texts)
        except (av.error.FFmpegError, ValueError):
            self._target.damage.add(time)
            return
        if made is None or until <= 0:
            return
        made.stream, made.time_base = self.stream, _TIME_BASE
        # Containers refuse times that decrease.
        made.pts = made.dts = self._last = max(self._last, round(time / _TIME_BASE))
        made.duration = max(1, round(until / _TIME_BASE) - made.pts)
        yield made
