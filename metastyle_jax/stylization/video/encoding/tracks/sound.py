"""Encodes sound that cannot be copied to a container, and keeps it in step with the picture."""

import contextlib
import fractions
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from metastyle_jax.stylization.video import ffmpeg
from metastyle_jax.stylization.video.encoding.tracks import packets

ENCODERS = {'aac': 'aac', 'opus': 'libopus', 'mp3': 'libmp3lame'}  # FFmpeg's, of each codec
# Bits per second and channel at which the result sounds like the original.
_CHANNEL_BIT_RATES = {'aac': 64_000, 'libopus': 64_000, 'libmp3lame': 96_000, 'ac3': 96_000}
# Fills gaps with silence and cuts overlaps, so that each sound comes at its time.
_RESAMPLING = 'async=1'


class SoundFormat(NamedTuple):
    """Settings of a sound encoder.

    Attributes:
        encoder: FFmpeg's name.
        rate: samples per second.
        layout: FFmpeg's name of the channels, such as 'stereo'.
        bit_rate: bits per second.
    """

    encoder: str
    rate: int
    layout: str
    bit_rate: int


def choose_format(stream: Any, encoders: Sequence[str], muxer: str) -> SoundFormat | None:
    """Chooses the first encoder that works in a container, and its settings.

    Each candidate is tested by a short trial. The sample rate and the channels of the source are
    kept if the encoder supports them.

    Args:
        stream: PyAV's stream of the sound.
        encoders: FFmpeg's names of encoders, in the order of preference.
        muxer: FFmpeg's name of the container.

    Returns:
        The settings; None if no encoder works, or the sound cannot be decoded.
    """
    import av

    context = stream.codec_context
    if context is None or not context.sample_rate or not context.layout.nb_channels:
        return None
    for encoder in encoders:
        with contextlib.suppress(ValueError):  # this build has no such encoder
            rates = sorted(av.codec.Codec(encoder, 'w').audio_rates or [context.sample_rate])
            rate = next((rate for rate in rates if rate >= context.sample_rate), rates[-1])
            layouts = [context.layout.name, _usual_layout(context.layout.nb_channels), 'stereo']
            for layout in dict.fromkeys(layouts):
                channels = av.AudioLayout(layout).nb_channels
                # Low rates of samples need fewer bits, and encoders refuse more.
                bit_rate = channels * min(_CHANNEL_BIT_RATES[encoder], 4 * rate)
                found = SoundFormat(encoder, rate, layout, bit_rate)
                if can_encode(found, muxer):
                    return found
    return None


def _usual_layout(channels: int) -> str:
    """The most common layout of a number of channels."""
    usual = {1: 'mono', 2: 'stereo', 3: '3.0', 4: 'quad', 5: '5.0', 6: '5.1', 7: '6.1', 8: '7.1'}
    return usual.get(channels, 'stereo')


def can_encode(sound_format: SoundFormat, muxer: str) -> bool:
    """Tries whether a container accepts sound of an encoder with these settings."""
    import io

    import av

    try:
        with av.open(io.BytesIO(), 'w', format=muxer) as trial:
            _add_stream(trial, sound_format)
            trial.start_encoding()
    except (av.error.FFmpegError, ValueError):
        return False
    return True


def _add_stream(output: Any, sound_format: SoundFormat) -> Any:
    """Adds a stream for encoded sound to a container."""
    return output.add_stream(
        sound_format.encoder, rate=sound_format.rate, layout=sound_format.layout,
        bit_rate=sound_format.bit_rate,
    )  # fmt: skip


class SoundEncoder(packets.TrackConverter):
    """Decodes a track of sound and encodes it in another format.

    Args:
        source: PyAV's stream of the source.
        sound_format: settings of the encoder, from `choose_format`.
        target: where the packets are written.
    """

    consequence = 'there is silence in its place'

    def __init__(self, source: Any, sound_format: SoundFormat, target: packets.TrackTarget) -> None:
        super().__init__(_add_stream(target.container, sound_format), target)
        self._decoder, self._wanted = source.codec_context, sound_format
        self._graph: Any = None
        self._form: tuple[Any, ...] = ()
        self._sent = 0  # samples that the encoder was given
        self._next = 0.0  # second of a frame that has no time of its own

    def convert(self, packet: Any) -> Iterable[Any]:
        """Encodes the sound of a packet; None encodes what the decoder and encoder still hold."""
        import av

        try:
            # At the end, the decoder gives the frames that it still holds.
            frames = self._decoder.decode(packet)
        except (av.error.FFmpegError, ValueError):
            frames = []
            time = self._next if packet is None else float(packet.dts * packet.time_base)
            self._target.damage.add(time)
        for frame in frames:
            yield from self._frame(frame)
        if packet is None and self._graph is not None:
            self._graph.push(None)
            yield from self._encoded()
            yield from self.stream.encode(None)

    def _frame(self, frame: Any) -> Iterator[Any]:
        """Filters and encodes one frame of sound, and yields the finished packets."""
        time = self._next if frame.pts is None else frame.time
        self._next = time + frame.samples / frame.sample_rate
        if not frame.samples or self._target.is_ended(time):
            return
        form = (frame.format.name, frame.layout.name, frame.sample_rate)
        if form != self._form:
            if self._graph is not None:
                self._graph.push(None)
                yield from self._encoded()
            self._form, self._graph = form, self._new_graph(frame)
        frame.time_base = fractions.Fraction(1, frame.sample_rate)
        frame.pts = round(time * frame.sample_rate)
        self._graph.push(frame)
        yield from self._encoded()

    def _new_graph(self, frame: Any) -> Any:
        """Makes FFmpeg's filters, which convert frames like this one to the encoder's format."""
        import av

        graph = av.filter.Graph()
        wanted = self._wanted
        nodes = [
            graph.add_abuffer(
                format=frame.format.name, layout=frame.layout.name, sample_rate=frame.sample_rate,
                time_base=fractions.Fraction(1, frame.sample_rate),
            ),
            graph.add('aresample', f'{wanted.rate}:{_RESAMPLING}:first_pts={self._sent}'),
            graph.add(
                'aformat', f'sample_fmts={self.stream.format.name}:sample_rates={wanted.rate}:'
                f'channel_layouts={wanted.layout}'
            ),
            graph.add('abuffersink'),
        ]  # fmt: skip
        graph.link_nodes(*nodes).configure()
        return graph

    def _encoded(self) -> Iterator[Any]:
        """Encodes the frames that the filters have completed, and yields their packets."""
        for frame in ffmpeg.pull_frames(self._graph):
            self._sent += frame.samples
            yield from self.stream.encode(frame)
