"""Interlaced film is deinterlaced, and other film is left alone."""

import fractions

import numpy as np
import pytest

from metastyle_jax.stylization.video import conversion
from metastyle_jax.stylization.video.decoding import interlacing, reader

av = pytest.importorskip('av')
from clips import read  # noqa: E402

INTERLACED = {'flags': '+ildct+ilme'}


def moving(t, *, height=64, width=96):
    """A soft bar that moves by four pixels in a unit of time; `[H, W, 3]` uint8."""
    place = np.arange(width) - 16 - 4 * t
    row = 40 + 170 * np.exp(-((place / 6) ** 2))
    return np.repeat(np.tile(row, (height, 1))[..., None], 3, axis=2).astype(np.uint8)


def woven(t):
    """The even rows of one moment, and the odd rows of the next."""
    pixels = moving(t)
    pixels[1::2] = moving(t + 0.5)[1::2]
    return pixels


def comb(pixels):
    """How much rows differ from the mean of their neighbours."""
    grey = pixels.astype(float).mean(-1)
    return np.abs(grey[1:-1] - (grey[:-2] + grey[2:]) / 2).mean()


def make_film(path, pictures, *, options, codec='mpeg2video', kind='yuv420p'):
    with av.open(str(path), 'w') as container:
        stream = container.add_stream(codec, rate=25, options={'qscale': '2', **options})
        stream.height, stream.width, stream.pix_fmt = 64, 96, kind
        stream.codec_context.qmin = stream.codec_context.qmax = 2
        for i, pixels in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(pixels).reformat(format=kind)
            frame.pts, frame.time_base = i, fractions.Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize('count', [1, 2, 3, 10])
@pytest.mark.parametrize('suffix', ['.mpg', '.mkv'])
def test_combs_vanish_and_no_frame_is_lost(tmp_path, caplog, count, suffix):
    film = make_film(tmp_path / f'a{suffix}', [woven(t) for t in range(count)], options=INTERLACED)
    with av.open(str(film)) as opened:
        raw = [frame for frame in opened.decode(video=0)]
    assert all(frame.interlaced_frame for frame in raw)
    with reader.open_video(film) as opened:
        frames = list(opened.frames())
        step = opened.time_base
    assert [round(1000 * frame.pts * step) for frame in frames] == [40 * i for i in range(count)]
    assert comb(raw[-1].to_ndarray(format='rgb24')) > 5
    for t, frame in enumerate(frames):
        if t > 0:
            assert comb(frame.pixels) < 1.5
            # Encoders choose which of the two moments is the first.
            moments = [moving(t), moving(t + 0.5)]
            assert min(np.abs(frame.pixels.astype(float) - one).mean() for one in moments) < 4
    assert caplog.text.count('is interlaced: it is deinterlaced') == 1


def test_a_film_that_is_wrongly_marked_is_hardly_changed(tmp_path):
    pictures = [moving(t) for t in range(8)]
    film = make_film(tmp_path / 'a.mkv', pictures, options=INTERLACED)
    with reader.open_video(film) as opened:
        frames = [frame.pixels.astype(float) for frame in opened.frames()]
    errors = [np.square(a - b).mean() for a, b in zip(frames, pictures, strict=True)]
    assert 10 * np.log10(255**2 / np.mean(errors)) > 35  # dB


def test_progressive_film_is_left_alone(tmp_path, caplog):
    pictures = [moving(t) for t in range(4)]
    film = make_film(tmp_path / 'a.mkv', pictures, options={})
    with av.open(str(film)) as opened:
        raw = list(opened.decode(video=0))
        passed = list(interlacing.deinterlaced(iter(raw), 'x'))
    assert all(a is b for a, b in zip(raw, passed, strict=True))
    assert caplog.text == ''


def test_only_the_interlaced_frames_of_a_mixed_film_change(tmp_path):
    parts = [
        make_film(tmp_path / 'a.mkv', [moving(t) for t in range(5)], options={}),
        make_film(tmp_path / 'b.mkv', [woven(t) for t in range(5)], options=INTERLACED),
        make_film(tmp_path / 'c.mkv', [moving(t) for t in range(5)], options={}),
    ]
    raw = []
    for part in parts:
        with av.open(str(part)) as opened:
            raw += list(opened.decode(video=0))
    for i, frame in enumerate(raw):
        frame.pts, frame.time_base = i, fractions.Fraction(1, 25)
    made = list(interlacing.deinterlaced(iter(raw), 'x'))
    assert [frame.pts for frame in made] == list(range(15))
    assert {frame.time_base for frame in made} == {fractions.Fraction(1, 25)}
    for i in (*range(5), *range(10, 15)):
        one, other = (frame.to_ndarray(format='rgb24') for frame in (raw[i], made[i]))
        np.testing.assert_array_equal(one, other)
    assert comb(made[7].to_ndarray(format='rgb24')) < 1.5


def test_colours_and_rotation_survive(tmp_path):
    film = make_film(tmp_path / 'a.mkv', [woven(t) for t in range(4)], options=INTERLACED)
    with av.open(str(film)) as opened:
        raw = list(opened.decode(video=0))
    for frame in raw:
        frame.colorspace, frame.color_range, frame.color_trc, frame.color_primaries = 6, 1, 6, 6
    for frame in interlacing.deinterlaced(iter(raw), 'x'):
        assert (frame.colorspace, frame.color_range) == (6, 1)
        assert (frame.color_trc, frame.color_primaries) == (6, 6)


def test_the_output_is_progressive(tmp_path):
    film = make_film(tmp_path / 'a.mpg', [woven(t) for t in range(6)], options=INTERLACED)
    conversion.convert_video(film, tmp_path / 'out.mp4', lambda x: x)
    assert len(read(tmp_path / 'out.mp4')[0]) == 6
    with av.open(str(tmp_path / 'out.mp4')) as opened:
        assert not any(frame.interlaced_frame for frame in opened.decode(video=0))
