"""What is written beside the picture, and what is told of the rest."""

import logging

import pytest

from metastyle_jax.stylization.video import conversion, ffmpeg

av = pytest.importorskip('av')
from films import make_film, texts, tracks  # noqa: E402

SOUNDS = (
    {'language': 'ger', 'title': 'Deutsch'},
    {'codec': 'ac3', 'language': 'eng', 'title': 'English', 'disposition': 1},
)
TEXTS = ({'codec': 'srt', 'language': 'fra', 'title': 'Français', 'disposition': 65},)


@pytest.fixture(scope='module')
def film(tmp_path_factory):
    return make_film(
        tmp_path_factory.mktemp('film') / 'film.mkv', sounds=SOUNDS, texts=TEXTS,
        cover=True, font=True, chapters=[('One', 400), ('Two', 1000)],
    )  # fmt: skip


@pytest.mark.parametrize(
    ('suffix', 'sounds', 'text'),
    [
        ('.mkv', ('aac', 'ac3'), 'subrip'),
        ('.mp4', ('aac', 'ac3'), 'mov_text'),
        ('.mov', ('aac', 'ac3'), 'mov_text'),
        ('.webm', ('opus', 'opus'), 'webvtt'),
    ],
)
def test_sound_and_text_keep_language_title_and_flags(tmp_path, film, suffix, sounds, text, caplog):
    out = tmp_path / f'out{suffix}'
    conversion.convert_video(film, out, lambda x: x)
    flags = 1 if suffix == '.mov' else 65  # MOV has no flag of forced subtitles
    assert tracks(out) == [
        ('audio', sounds[0], 'ger', 'Deutsch', 0),
        ('audio', sounds[1], 'eng', 'English', 1),
        ('subtitle', text, 'fra', 'Français', flags),
    ]
    assert ('forced flag of a track' in caplog.text) == (suffix == '.mov')
    begins_and_ends = [(begin, end) for begin, end, _ in texts(out)]
    assert begins_and_ends == [(100, 400), (500, 900)]
    words = [text for _, _, text in texts(out)]
    assert 'Hello' in words[0]
    assert words[1] == 'Grüße'


@pytest.mark.parametrize('suffix', ['.mkv', '.mp4', '.mov', '.webm', '.avi', '.gif'])
def test_each_part_is_kept_or_told(tmp_path, film, suffix, caplog):
    out = tmp_path / f'out{suffix}'
    conversion.convert_video(film, out, lambda x: x)
    with av.open(str(out)) as opened:
        kept = {
            'cover picture': any(stream.disposition & 1024 for stream in opened.streams.video),
            'attached file': any(stream.type == 'attachment' for stream in opened.streams),
            'chapters': [c['metadata']['title'] for c in opened.chapters()] == ['One', 'Two'],
            'subtitles': bool(opened.streams.subtitles),
            'tracks of sound': bool(opened.streams.audio),
        }
    # Sound that is encoded is told as information, and is kept.
    warnings = [line.getMessage() for line in caplog.records if line.levelno >= logging.WARNING]
    for part, there in kept.items():
        assert sum(part in line for line in warnings) == (not there), part
    expected = {'.mkv': 5, '.mp4': 4, '.mov': 3, '.webm': 3, '.avi': 1, '.gif': 0}
    assert sum(kept.values()) == expected[suffix]


def test_sound_is_encoded_only_if_it_must_be(tmp_path, caplog):
    caplog.set_level('INFO')
    film = make_film(tmp_path / 'film.mkv', sounds=[{}, {'codec': 'libopus'}, {'codec': 'flac'}])
    for suffix, codecs, told in [
        ('.mkv', ['aac', 'opus', 'flac'], None),
        ('.mp4', ['aac', 'opus', 'flac'], None),
        ('.mov', ['aac', 'aac', 'aac'], '2 tracks of sound (opus, flac) are encoded as AAC'),
        ('.webm', ['opus', 'opus', 'opus'], '(aac, flac) are encoded as Opus of 64 kbit/s'),
        ('.avi', ['mp3', 'mp3', 'mp3'], 'are encoded as MP3'),
    ]:
        caplog.clear()
        out = tmp_path / f'out{suffix}'
        conversion.convert_video(film, out, lambda x: x)
        assert [track[1] for track in tracks(out)] == codecs, suffix
        if told is None:
            assert 'encoded' not in caplog.text
        else:
            assert told in caplog.text


@pytest.mark.parametrize(
    ('suffix', 'sound', 'codecs'),
    [
        ('.mp4', 'none', []),
        ('.mkv', 'mp3', ['mp3']),
        ('.mp4', 'opus', ['opus']),
        ('.webm', 'opus', ['opus']),
    ],
)
def test_the_kind_of_sound_can_be_chosen(tmp_path, suffix, sound, codecs):
    film, out = make_film(tmp_path / 'film.mp4'), tmp_path / f'out{suffix}'
    conversion.convert_video(film, out, lambda x: x, sound=sound)
    assert [track[1] for track in tracks(out)] == codecs


def test_sound_that_the_container_cannot_hold_is_refused_with_what_it_can(tmp_path):
    film = make_film(tmp_path / 'film.mp4')
    for suffix, sound, works in [
        ('.webm', 'aac', 'sound=copy .*, sound=opus, sound=none$'),
        ('.avi', 'opus', 'sound=copy .*, sound=mp3, sound=none$'),
        ('.gif', 'aac', 'sound=copy .*, sound=none$'),
    ]:
        with pytest.raises(ffmpeg.VideoError, match=works):
            conversion.convert_video(film, tmp_path / f'out{suffix}', lambda x: x, sound=sound)
    assert [file.name for file in tmp_path.iterdir()] == ['film.mp4']


def test_tracks_of_data_are_told(tmp_path, caplog):
    film = tmp_path / 'film.ts'
    with av.open(str(film), 'w') as container:
        stream = container.add_stream('libx264', rate=25)
        stream.width = stream.height = 32
        data = container.add_data_stream('klv')
        for i in range(8):
            frame = av.VideoFrame(32, 32, 'yuv420p')
            frame.pts = i
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        packet = av.Packet(b'\x06\x0e\x2b\x34' + bytes(20))
        packet.stream, packet.pts, packet.dts = data, 0, 0
        container.mux(packet)
    conversion.convert_video(film, tmp_path / 'out.mp4', lambda x: x)
    assert [line for line in caplog.messages if 'data track (klv) is left out' in line]
