"""Animated GIFs: times, rates, pixels and comments."""

import fractions

import pytest
from PIL import Image

from metastyle_jax.stylization.video import conversion

av = pytest.importorskip('av')
from clips import make_clip, read  # noqa: E402
from films import make_film  # noqa: E402


def test_frames_that_browsers_would_slow_down_are_left_out(tmp_path, caplog):
    clip = make_clip(tmp_path / 'clip.mp4', times=range(0, 200, 10), sound=False)
    conversion.convert_video(clip, tmp_path / 'out.gif', lambda x: x)
    _, times, _ = read(tmp_path / 'out.gif')
    assert times == list(range(0, 200, 20))
    assert '10 frames are left out' in caplog.text


def test_the_last_frame_is_shown_as_long_as_the_others(tmp_path):
    clip = make_clip(tmp_path / 'clip.mp4', times=range(0, 1000, 100), sound=False)
    conversion.convert_video(clip, tmp_path / 'out.gif', lambda x: x)
    with Image.open(tmp_path / 'out.gif') as image:
        for number in range(image.n_frames):
            image.seek(number)
            assert image.info['duration'] == 100


def test_pixels_become_square(tmp_path):
    clip = tmp_path / 'clip.mkv'
    with av.open(str(clip), 'w') as container:
        stream = container.add_stream('libx264', rate=25)
        stream.width, stream.height = 32, 48
        stream.codec_context.sample_aspect_ratio = fractions.Fraction(2)
        frame = av.VideoFrame(32, 48, 'yuv420p')
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    conversion.convert_video(clip, tmp_path / 'out.gif', lambda x: x)
    frames, _, _ = read(tmp_path / 'out.gif')
    assert frames[0].shape == (48, 64, 3)


def test_a_long_comment_is_kept_and_a_finished_file_is_recognized(tmp_path, caplog):
    caplog.set_level('INFO')
    words = ('a comment of many words ' * 20).strip()
    film = make_film(tmp_path / 'film.mkv', sounds=(), tags={'comment': words})
    for _ in range(2):
        conversion.convert_video(film, tmp_path / 'out.gif', lambda x: x, resume=True)
    assert 'is complete already' in caplog.text
    with av.open(str(tmp_path / 'out.gif')) as opened:
        assert opened.metadata['comment'].startswith(f'{words} [metastyle_jax ')
