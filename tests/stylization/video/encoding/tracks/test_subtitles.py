"""Converted subtitles: their times, and the end of a film that was stopped."""

import pytest

from metastyle_jax.stylization.video import conversion

av = pytest.importorskip('av')
from films import TEXTS, make_film, texts  # noqa: E402


@pytest.mark.parametrize('codec', ['srt', 'ass', 'mov_text', 'webvtt'])
@pytest.mark.parametrize('suffix', ['.mp4', '.mkv', '.webm'])
def test_texts_are_kept_whatever_their_format(tmp_path, codec, suffix):
    kind = 'film.mp4' if codec == 'mov_text' else 'film.mkv'
    film = make_film(tmp_path / kind, sounds=(), texts=[{'codec': codec}])
    conversion.convert_video(film, tmp_path / f'out{suffix}', lambda x: x)
    found = texts(tmp_path / f'out{suffix}')
    # Formats end the slanted letters in different ways.
    words = [text.replace(r'{\r}', '').replace(r'{\i0}', '') for *_, text in found]
    assert words == [text.replace(r'{\i0}', '') for *_, text in TEXTS]
    assert [times for *times, _ in found] == [times for *times, _ in TEXTS]


def test_texts_chapters_and_sound_end_with_a_stopped_film(tmp_path):
    film = make_film(
        tmp_path / 'film.mkv', texts=[{'codec': 'srt'}], chapters=[('One', 400), ('Two', 1000)]
    )
    out, done = tmp_path / 'out.mp4', []
    frames = conversion.convert_video(
        film, out, lambda x: x, batch=2, length=4,
        progress=done.append, stopped=lambda: sum(done) >= 10,
    )  # fmt: skip
    assert 10 <= frames < 17
    end = 50 * frames
    (_, first_end, _), (begin, last_end, _) = texts(out)
    assert (first_end, begin) == (400, 500)
    assert last_end == min(end, 900)
    with av.open(str(out)) as opened:
        assert [(c['start'], c['end']) for c in opened.chapters()] == [(0, 400), (400, end)]
        packets = [packet for packet in opened.demux(audio=0) if packet.size]
        last = max(float(1000 * packet.pts * packet.time_base) for packet in packets)
        assert end - 50 < last <= end
