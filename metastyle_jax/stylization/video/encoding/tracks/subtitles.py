"""Converts subtitles that are text from one format to another."""

import fractions
from collections.abc import Iterable
from typing import Any

from metastyle_jax.stylization.video.encoding.tracks import packets

_USUAL_SECONDS = 4.0  # for which a text without an end is shown
_TIME_BASE = fractions.Fraction(1, 1000)  # subtitles are timed in milliseconds


class SubtitleConverter:
    """Decodes the texts of one track and encodes them anew.

    Args:
        stream: of the source.
        encoder: FFmpeg's name.
        output: the container to write.
        end: second of the output at which the track ends; None for its own end.
        damage: receives the times of texts that cannot be read.

    Attributes:
        stream: of the output.
    """

    def __init__(
        self,
        stream: Any,
        encoder: str,
        output: Any,
        end: float | None,
        damage: packets.Damage,
    ) -> None:
        self._decoder = stream.codec_context
        self._decoder.open(strict=False)
        self.stream = output.add_stream(encoder)
        # Encoders need the header with the styles, which the decoder makes when it is opened.
        self.stream.codec_context.subtitle_header = self._decoder.subtitle_header
        self.stream.codec_context.time_base = self.stream.time_base = _TIME_BASE
        self._end, self._damage = end, damage
        self._last = 0

    def convert(self, packet: Any) -> Iterable[Any]:
        """Converts one text; None, the end of the track, gives no packet."""
        import av

        if packet is None or not packet.size:
            return
        time = float(packet.pts * packet.time_base)
        lasts = float((packet.duration or 0) * packet.time_base)
        until = time + (lasts if 0 < lasts < packets.LONGEST else _USUAL_SECONDS)
        if self._end is not None:
            until = min(until, self._end)
            if time >= self._end:
                return
        try:
            texts = self._decoder.decode2(packet)
            made = None if texts is None else self.stream.codec_context.encode_subtitle(texts)
        except (av.error.FFmpegError, ValueError):
            self._damage.add(time)
            return
        if made is None or until <= 0:
            return
        made.stream, made.time_base = self.stream, _TIME_BASE
        # Containers refuse times that decrease.
        made.pts = made.dts = self._last = max(self._last, round(time / _TIME_BASE))
        made.duration = max(1, round(until / _TIME_BASE) - made.pts)
        yield made

    def report(self) -> None:
        """Tells how many texts could not be read."""
        self._damage.report('the damaged texts are left out')
