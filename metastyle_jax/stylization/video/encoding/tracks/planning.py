"""Plans what a video file holds beside its picture: sound, subtitles, covers, tags and chapters.

Before any frame is rendered, `make_plan` finds out by small trials with FFmpeg which tracks the
output file can hold. It logs one line for each kind of track that must be encoded or left out.
"""

import contextlib
import fractions
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from absl import logging

from metastyle_jax.stylization.video import ffmpeg
from metastyle_jax.stylization.video.decoding import streams
from metastyle_jax.stylization.video.encoding import containers
from metastyle_jax.stylization.video.encoding.tracks import packets, sound, tags

_NAMES = {'aac': 'AAC', 'libopus': 'Opus', 'libmp3lame': 'MP3', 'ac3': 'AC-3'}
_TRIAL_PACKETS = 5
# A container without times begins all sound at 0. Sound that begins later is encoded, with silence.
_UNHEARD_DELAY = 0.04  # seconds


class Plan(NamedTuple):
    """Which parts of a source file are written to the output beside the picture, and how.

    Attributes:
        source: the file that the parts are read from.
        tracks: stream number in the source -> how this track of sound or subtitles is written:
            None copies it, a `SoundFormat` encodes sound, and a string is the name of FFmpeg's
            encoder for subtitles. Tracks that are not listed are left out.
        covers: stream numbers of the cover pictures.
        attachments: stream numbers of the attached files.
        tags: name -> value of the tags of the whole file.
        chapters: whether chapters are written.
        start: time in the source, in seconds, that becomes time 0 of the output.
    """

    source: pathlib.Path
    tracks: Mapping[int, sound.SoundFormat | str | None]
    covers: tuple[int, ...]
    attachments: tuple[int, ...]
    tags: Mapping[str, str]
    chapters: bool
    start: fractions.Fraction


def make_plan(
    source: pathlib.Path,
    target: pathlib.Path,
    *,
    start: fractions.Fraction = fractions.Fraction(0),
    sound_choice: str = 'copy',
    keep_location: bool = False,
) -> Plan:
    """Plans which tracks and tags of a file are written beside the picture, and logs what changes.

    Args:
        source: the file to read them from.
        target: the file that will be written later; its suffix names the container.
        start: time in the source, in seconds, that becomes time 0 of the output.
        sound_choice: 'copy' encodes only what cannot be copied, 'none' leaves the sound out, and a
            key of `sound.ENCODERS` encodes all sound with that encoder.
        keep_location: whether to keep tags that say where the video was filmed.

    Raises:
        VideoError: the container cannot hold sound of the encoder `sound_choice`.
    """
    import av

    kind = containers.container_of(target)
    _check_sound(target, kind, sound_choice)
    with av.open(str(source)) as opened:
        planner = _Planner(opened, source, target, kind, start)
        written: dict[int, Any] = {}
        if sound_choice != 'none':
            written |= planner.sound(sound_choice)
        written |= planner.subtitles()
        covers, attachments = planner.files()
        planner.tell_other_tracks()
        kept = tags.kept_tags(opened.metadata, kind, keep_location=keep_location)
        if not keep_location and tags.has_location(opened.metadata):
            logging.info('%s: the place where it was filmed is left out', source.name)
        if opened.chapters() and not kind.holds_chapters:
            logging.warning(
                '%s: its chapters are left out: a %s file cannot hold them',
                source.name, target.suffix.lower(),
            )  # fmt: skip
    return Plan(source, written, covers, attachments, kept, kind.holds_chapters, start)


def simpler_plans(plan: Plan, target: pathlib.Path) -> list[Plan]:
    """Lists the plans to try in turn, because a container may refuse packets late in a file.

    Each plan writes less than the plan before it.

    Args:
        plan: the plan from `make_plan`.
        target: the file to write; its suffix names the container.

    Returns:
        Three plans: `plan` itself; `plan` with all sound encoded and without copied subtitles; a
        plan that keeps only the tags.
    """
    import av

    kind = containers.container_of(target)
    tracks = dict(plan.tracks)
    with av.open(str(plan.source)) as opened:
        for index in [index for index, how in plan.tracks.items() if how is None]:
            stream = opened.streams[index]
            del tracks[index]
            if stream.type == 'audio' and (
                chosen := sound.choose_format(stream, kind.sound_encoders, kind.muxer)
            ):
                tracks[index] = chosen
    return [
        plan,
        plan._replace(tracks=dict(sorted(tracks.items()))),
        plan._replace(tracks={}, covers=(), attachments=(), chapters=False),
    ]


def _check_sound(target: pathlib.Path, kind: containers.Container, choice: str) -> None:
    """Raises VideoError if a trial shows that the container cannot hold sound of this encoder.

    The choices 'copy' and 'none' always pass.
    """
    if choice in ('copy', 'none'):
        return
    works = [name for name in sound.ENCODERS if kind.sound_encoders and _holds(kind, name)]
    if choice not in works:
        others = ', '.join(f'sound={name}' for name in (*works, 'none'))
        raise ffmpeg.VideoError(
            f'sound={choice}: a {target.suffix} file cannot hold that sound: choose '
            f'sound=copy (which encodes what cannot be copied), {others}'
        )


def _holds(kind: containers.Container, choice: str) -> bool:
    """Whether a container can hold sound of an encoder, and its usual players can play it."""
    played = kind.played_sound is None or choice in kind.played_sound
    usual = sound.SoundFormat(sound.ENCODERS[choice], 48_000, 'stereo', 128_000)
    return played and sound.can_encode(usual, kind.muxer)


class _Planner:
    """Decides for each track of one source file how it is written.

    Args:
        opened: the source file, opened by PyAV.
        source: path of the source file.
        target: the file that will be written.
        kind: kind of the target.
        start: time in the source, in seconds, that becomes time 0 of the output.
    """

    def __init__(
        self,
        opened: Any,
        source: pathlib.Path,
        target: pathlib.Path,
        kind: containers.Container,
        start: fractions.Fraction,
    ) -> None:
        self._opened, self._source, self._target = opened, source, target
        self._kind, self._start = kind, start

    def sound(self, choice: str) -> dict[int, sound.SoundFormat | None]:
        """Returns stream number -> format, or None to copy; logs what is encoded or left out."""
        kind = self._kind
        written: dict[int, sound.SoundFormat | None] = {}
        left_out = []
        encoders = kind.sound_encoders if choice == 'copy' else (sound.ENCODERS[choice],)
        for stream in self._opened.streams.audio:
            if choice == 'copy' and self._can_copy_sound(stream):
                written[stream.index] = None
            elif kind.sound_encoders and (
                chosen := sound.choose_format(stream, encoders, kind.muxer)
            ):
                written[stream.index] = chosen
            else:
                left_out.append(stream)
        encoded = [self._opened.streams[i] for i, made in written.items() if made is not None]
        if encoded and choice == 'copy':
            formats = {
                f'{_NAMES[made.encoder]} of {made.bit_rate // 1000} kbit/s': None
                for made in written.values()
                if made is not None
            }
            self._tell(
                'sound', encoded, f'encoded as {", ".join(formats)}: a {self._suffix} file cannot '
                'hold this kind', warn=False,
            )  # fmt: skip
        reason = f'a {self._suffix} file has no sound'
        if kind.sound_encoders:
            reason = 'it cannot be decoded'
        self._tell('sound', left_out, f'left out: {reason}')
        return written

    def _can_copy_sound(self, stream: Any) -> bool:
        """Whether a track of sound can be copied to the output without encoding it."""
        kind, context = self._kind, stream.codec_context
        if context is None or not kind.sound_encoders:
            return False
        if kind.played_sound is not None and codec_name(stream) not in kind.played_sound:
            return False
        if not kind.holds_times and stream.start_time is not None:
            delay = float(stream.start_time * stream.time_base - self._start)
            if abs(delay) > _UNHEARD_DELAY:
                return False
        return packets.probe_copy(self._source, stream.index, kind.muxer, packets=_TRIAL_PACKETS)

    def subtitles(self) -> dict[int, str | None]:
        """Returns stream number -> encoder, or None to copy; logs what is left out."""
        written: dict[int, str | None] = {}
        left_out = []
        for stream in self._opened.streams.subtitles:
            context, text = stream.codec_context, self._kind.text_encoder
            if context is None:
                left_out.append(stream)
            elif codec_name(stream) in self._kind.copied_subtitles and packets.probe_copy(
                self._source, stream.index, self._kind.muxer, packets=0
            ):
                written[stream.index] = None
            elif text and context.codec.text_sub and _has_encoder(text):
                written[stream.index] = text
            else:
                left_out.append(stream)
        self._tell('subtitles', left_out, f'left out: a {self._suffix} file cannot hold them')
        return written

    def files(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Returns the stream numbers of the covers and of the attached files to write."""
        covers = [s for s in self._opened.streams.video if streams.is_cover(s)]
        attachments = [s for s in self._opened.streams if s.type == 'attachment']
        if covers and not self._kind.holds_cover:
            self._tell('cover picture', covers, f'left out: a {self._suffix} file cannot hold it')
            covers = []
        if attachments and not self._kind.holds_attachments:
            self._tell(
                'attached file', attachments, f'left out: a {self._suffix} file cannot hold it'
            )
            attachments = []
        return tuple(s.index for s in covers), tuple(s.index for s in attachments)

    def tell_other_tracks(self) -> None:
        """Logs that tracks of other kinds, such as timecodes, are left out."""
        others = [s for s in self._opened.streams if s.type in ('data', 'unknown')]
        # MP4 stores the titles of chapters as a track, which FFmpeg gives as chapters too.
        if self._opened.chapters():
            others = [s for s in others if s.name != 'bin_data']
        self._tell('data track', others, 'left out: only film, sound and subtitles are written')

    @property
    def _suffix(self) -> str:
        return self._target.suffix.lower()

    def _tell(self, what: str, tracks: list[Any], happens: str, *, warn: bool = True) -> None:
        """Logs in one line what happens to some tracks; logs nothing if there are none."""
        if tracks:
            names = ', '.join(dict.fromkeys(describe(track) for track in tracks))
            count = '' if len(tracks) == 1 else f'{len(tracks)} tracks of '
            verb = 'is' if len(tracks) == 1 and not what.endswith('s') else 'are'
            log = logging.warning if warn else logging.info
            log('%s: %s%s (%s) %s %s', self._source.name, count, what, names, verb, happens)


def codec_name(stream: Any) -> str:
    """FFmpeg's name of a stream's codec; it is the same for all decoders of that codec."""
    return stream.codec_context.codec.canonical_name


def _has_encoder(name: str) -> bool:
    """Whether this build of PyAV has an encoder."""
    import av

    with contextlib.suppress(ValueError):
        return bool(av.codec.Codec(name, 'w'))
    return False


def describe(stream: Any) -> str:
    """Describes a track in messages, by its language and its codec or name."""
    language = stream.metadata.get('language', '')
    name = stream.metadata.get('filename') or stream.metadata.get('handler_name') or stream.name
    if stream.codec_context is not None:
        name = codec_name(stream)
    return ' '.join(word for word in (language if language != 'und' else '', name) if word)
