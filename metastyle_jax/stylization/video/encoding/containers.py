"""The kinds of video files that can be written, and what each of them holds.

A container may hold a codec that most of its players cannot play. So the table below lists the
sound codecs that players support. Everything else is found out by trials with FFmpeg.
"""

import functools
import io
import pathlib
from collections.abc import Mapping
from typing import NamedTuple

from metastyle_jax.stylization.video import ffmpeg


class Container(NamedTuple):
    """One kind of video file.

    Attributes:
        muxer: FFmpeg's name of the container.
        encoder: FFmpeg's name of the encoder for the picture.
        sound_encoders: FFmpeg's names of the encoders for sound that cannot be copied; the first
            one that works is used. If the tuple is empty, the file has no sound.
        played_sound: codecs of sound that players of this container can play; None if they play
            all codecs that the container can hold.
        text_encoder: FFmpeg's name of the encoder for text subtitles that cannot be copied; None
            if the container holds no text subtitles.
        copied_subtitles: codecs of subtitles that players of this container can show.
        options: FFmpeg's options for the muxer.
        holds_times: whether each frame has its own time. If not, frames are evenly spaced.
        holds_chapters: whether the file can hold chapters.
        holds_cover: whether the file can hold a cover picture.
        holds_attachments: whether the file can hold attached files, such as fonts.
    """

    muxer: str
    encoder: str = 'libx264'
    sound_encoders: tuple[str, ...] = ('aac',)
    played_sound: frozenset[str] | None = None
    text_encoder: str | None = None
    copied_subtitles: frozenset[str] = frozenset()
    options: Mapping[str, str] = {}
    holds_times: bool = True
    holds_chapters: bool = True
    holds_cover: bool = False
    holds_attachments: bool = False


_MP4_SOUND = frozenset({'aac', 'mp3', 'ac3', 'eac3', 'alac', 'opus', 'flac'})
_MOV_SOUND = frozenset(
    {'aac', 'mp3', 'ac3', 'eac3', 'alac'}
    | {f'pcm_{kind}' for kind in ('s16le', 's16be', 's24le', 's24be', 's32le', 's32be', 'f32le')}
)
_AVI_SOUND = frozenset(
    {'mp3', 'mp2', 'ac3', 'pcm_s16le', 'pcm_u8', 'pcm_alaw', 'pcm_mulaw', 'adpcm_ms'}
    | {'adpcm_ima_wav', 'wmav1', 'wmav2'}
)
_BITMAPS = frozenset({'dvd_subtitle', 'dvb_subtitle', 'hdmv_pgs_subtitle'})
# MP4 and MOV have their index at the end by default. At the front, a browser can begin to play
# before it has received the whole file.
_INDEX_FIRST = {'movflags': 'faststart'}
# The tags of Apple's cameras. (An MP4 would lose the usual tags by this option.)
_ALL_TAGS = {'movflags': 'faststart+use_metadata_tags'}
# FFmpeg gives each Matroska file random numbers, unless it is told to write the same bytes again.
# The plus keeps the other flags: one of them packs sound of MPEG-TS as Matroska wants it.
_NO_RANDOM = {'fflags': '+bitexact'}
_MP4 = Container(
    'mp4',
    played_sound=_MP4_SOUND,
    text_encoder='mov_text',
    copied_subtitles=frozenset({'mov_text', 'dvd_subtitle'}),
    options=_INDEX_FIRST,
    holds_cover=True,
)
CONTAINERS = {
    '.mp4': _MP4,
    '.m4v': _MP4,
    '.mov': Container(
        'mov',
        played_sound=_MOV_SOUND,
        text_encoder='mov_text',
        copied_subtitles=frozenset({'mov_text'}),
        options=_ALL_TAGS,
    ),
    '.mkv': Container(
        'matroska',
        text_encoder='srt',
        copied_subtitles=_BITMAPS | {'subrip', 'ass', 'webvtt'},
        options=_NO_RANDOM,
        holds_cover=True,
        holds_attachments=True,
    ),
    '.webm': Container(
        'webm',
        'libvpx-vp9',
        sound_encoders=('libopus',),
        played_sound=frozenset({'opus', 'vorbis'}),
        text_encoder='webvtt',
        copied_subtitles=frozenset({'webvtt'}),
        options=_NO_RANDOM,
    ),
    '.avi': Container(
        'avi',
        'mpeg4',
        sound_encoders=('libmp3lame', 'ac3'),
        played_sound=_AVI_SOUND,
        # Sound encoded as MP3 begins a little before 0, and FFmpeg would delay the picture by a
        # whole frame.
        options={'avoid_negative_ts': 'disabled'},
        holds_times=False,
        holds_chapters=False,
    ),
    '.gif': Container('gif', 'libx264rgb', sound_encoders=(), holds_chapters=False),
}


def container_of(path: pathlib.Path) -> Container:
    """Returns the kind of video file that the suffix of a path stands for.

    Raises:
        VideoError: the suffix is unknown, or this build of PyAV cannot write that kind of file. The
            message lists the suffixes that it can write.
    """
    suffix = path.suffix.lower()
    if suffix in CONTAINERS and can_write(suffix):
        return CONTAINERS[suffix]
    ffmpeg.require_pyav()
    written = ', '.join(known for known in CONTAINERS if can_write(known))
    end = f'no {suffix} files' if suffix in CONTAINERS else f'nothing that ends in "{suffix}"'
    raise ffmpeg.VideoError(
        f'{path} must end in one of {written}: this version of PyAV writes {end}'
    )


@functools.cache
def can_write(suffix: str) -> bool:
    """Tries whether this build of PyAV can write video files with a suffix, such as '.mp4'."""
    import av

    kind = CONTAINERS[suffix]
    encoder = 'gif' if kind.muxer == 'gif' else kind.encoder
    try:
        with av.open(io.BytesIO(), 'w', format=kind.muxer) as output:
            stream = output.add_stream(encoder, rate=25)
            stream.width = stream.height = 32
            stream.pix_fmt = 'rgb8' if encoder == 'gif' else 'yuv420p'
            frame = av.VideoFrame(32, 32, stream.pix_fmt)
            frame.pts = 0
            output.mux(stream.encode(frame))
            output.mux(stream.encode())
            if kind.encoder != encoder:
                av.codec.Codec(kind.encoder, 'w')
    except (av.error.FFmpegError, ValueError):  # av.UnknownCodecError is a ValueError
        return False
    return True
