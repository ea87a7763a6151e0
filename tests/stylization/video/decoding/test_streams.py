"""Which stream of pictures is the film."""

import fractions

import numpy as np
import pytest

from metastyle_jax.stylization.video import ffmpeg
from metastyle_jax.stylization.video.decoding import reader

av = pytest.importorskip('av')


def make_pictures(path, *sides, default=None, cover=None, sound=False):
    """A file with streams of square pictures, one of them a default or a cover."""
    with av.open(str(path), 'w') as container:
        streams = []
        for i, side in enumerate(sides):
            stream = container.add_stream('mjpeg', rate=10)
            stream.height = stream.width = side
            stream.pix_fmt, stream.disposition = 'yuvj420p', 0
            if i == default:
                stream.disposition = av.stream.Disposition.default
            if i == cover:
                stream.disposition = av.stream.Disposition.attached_pic
            streams.append(stream)
        tone = container.add_stream('aac', rate=16000, layout='mono') if sound else None
        for i, stream in enumerate(streams):
            for t in range(1 if i == cover else 3):
                pixels = np.full((stream.height, stream.width, 3), 99, np.uint8)
                frame = av.VideoFrame.from_ndarray(pixels)
                frame.pts, frame.time_base = t, fractions.Fraction(1, 10)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        if tone is not None:
            part = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), 'fltp', 'mono')
            part.sample_rate = 16000
            container.mux(tone.encode(part))
            container.mux(tone.encode())
    return path


@pytest.mark.parametrize(
    ('sides', 'options', 'wanted'),
    [
        ((32, 64, 48), {}, 64),  # the largest
        ((32, 64), {'default': 0}, 32),
        ((64, 64), {}, 64),
        ((80, 32), {'cover': 0}, 32),
    ],
)
def test_the_film_is_the_stream_that_players_show(tmp_path, caplog, sides, options, wanted):
    suffix = '.mp4' if 'cover' in options else '.mkv'
    clip = make_pictures(tmp_path / f'clip{suffix}', *sides, **options)
    with reader.open_video(clip) as opened:
        assert opened.size == (wanted, wanted)
        assert len(list(opened.frames())) == 3
    told = 'video streams' in caplog.text
    assert told == ('cover' not in options)


def test_a_cover_is_no_film(tmp_path):
    clip = make_pictures(tmp_path / 'song.mp4', 48, cover=0, sound=True)
    with (
        pytest.raises(ffmpeg.VideoError, match=r'song.mp4 has no film, only a cover picture'),
        reader.open_video(clip),
    ):
        pass
