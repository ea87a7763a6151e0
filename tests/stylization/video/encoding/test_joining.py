"""Joined files: evenly spaced times, damage that a container refuses, and long names."""

import fractions

import pytest

from metastyle_jax.stylization.video import conversion, ffmpeg
from metastyle_jax.stylization.video.encoding import joining

av = pytest.importorskip('av')
from films import make_film, tracks  # noqa: E402

MILLISECOND = fractions.Fraction(1, 1000)


@pytest.mark.parametrize(
    ('times', 'ticks', 'rate'),
    [
        ([0, 40, 80, 160], [0, 1, 2, 4], 25),  # a gap
        ([100, 140, 180], [3, 4, 5], 25),  # begins later: at 120 ms instead of 100
        ([0, 33, 67, 100], [0, 2, 3, 5], 50),  # no common unit: twice the rate
        ([0, 1, 2], [0, 1, 2], 50),  # faster than the container: still one tick for each
    ],
)
def test_even_times_are_near_the_true_ones(times, ticks, rate):
    video_format = ffmpeg.VideoFormat(2, 2, fractions.Fraction(25), MILLISECOND)
    even, unit = joining.even_times(times, video_format)
    assert 1 / unit == rate
    assert even == ticks


@pytest.mark.parametrize('refusals', [1, 2])
def test_sound_that_the_container_refuses_does_not_cost_the_picture(
    tmp_path, monkeypatch, caplog, refusals
):
    film, out = make_film(tmp_path / 'film.mkv'), tmp_path / 'out.mp4'
    real, calls = joining._mux, []

    def refuse(*args, **options):
        calls.append(args)
        if len(calls) <= refusals:
            raise av.error.InvalidDataError(1, 'Invalid data')
        real(*args, **options)

    monkeypatch.setattr(joining, '_mux', refuse)
    assert conversion.convert_video(film, out, lambda x: x) == 20
    assert len(tracks(out)) == (1 if refusals == 1 else 0)
    assert 'the sound is encoded' in caplog.text
    assert ('only the picture' in caplog.text) == (refusals == 2)
    assert {file.name for file in tmp_path.iterdir()} == {'film.mkv', 'out.mp4'}
