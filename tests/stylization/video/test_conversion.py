"""Video as it is in the wild: sound, uneven times, odd sizes, damage, stops."""

import fractions
import sys

import helpers
import jax
import numpy as np
import pytest

import metastyle_jax
from metastyle_jax.models import transformer
from metastyle_jax.storage import style_files, tensor_files
from metastyle_jax.stylization.video import conversion, ffmpeg, reader

av = pytest.importorskip('av')
from clips import TIMES, make_clip, read  # noqa: E402


def invert(pixels):
    return 1 - pixels


@pytest.mark.parametrize('suffix', ['.mp4', '.mkv'])
@pytest.mark.parametrize('size', [(36, 48), (35, 47)])
def test_frames_times_size_and_sound_are_kept(tmp_path, suffix, size):
    height, width = size
    clip = make_clip(tmp_path / 'clip.mp4', height=height, width=width)
    out, told = tmp_path / f'out{suffix}', []
    assert conversion.convert_video(clip, out, invert, batch=4, progress=told.append) == len(TIMES)
    assert told == [4, 4, 2]
    (before, wanted, tone), (after, times, copied) = read(clip), read(out)
    assert times == wanted
    assert np.diff(times).tolist() == np.diff(TIMES).tolist()
    assert copied == tone
    assert len(tone) > 4
    for one, other in zip(before, after, strict=True):
        assert one.shape == other.shape == (height, width, 3)
        np.testing.assert_allclose(one.mean() + other.mean(), 255, atol=4)
    with reader.open_video(out) as again:
        assert (again.size, again.aspect, len(again.audio_streams)) == (size, 1, 1)


@pytest.mark.parametrize('suffix', ['.mp4', '.mkv'])
def test_the_rate_that_is_declared_is_that_of_the_frames(tmp_path, suffix):
    clip = make_clip(tmp_path / 'clip.mp4', times=range(0, 320, 40), sound=False)
    conversion.convert_video(clip, tmp_path / f'out{suffix}', invert)
    with av.open(str(clip)) as before, av.open(str(tmp_path / f'out{suffix}')) as after:
        for name in ('average_rate', 'base_rate', 'guessed_rate'):
            rates = [getattr(file.streams.video[0], name) for file in (before, after)]
            assert rates[0] == rates[1], name


def make_frame(pixels, matrix):
    frame = av.VideoFrame.from_ndarray(pixels, format='rgb24')
    frame = frame.reformat(format='yuv444p', dst_colorspace=matrix)
    frame.pts, frame.time_base = 0, fractions.Fraction(1, 25)
    return frame


def make_still(path, pixels, matrix, *, tag=None, aspect=1):
    """A clip of one frame."""
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('libx264', rate=25, options={'crf': '1'})
        stream.height, stream.width, _ = pixels.shape
        stream.pix_fmt = 'yuv444p'
        stream.codec_context.sample_aspect_ratio = fractions.Fraction(aspect)
        if tag is not None:
            stream.codec_context.colorspace = tag
        container.mux(stream.encode(make_frame(pixels, matrix)))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ('size', 'matrix', 'tag'),
    [
        ((720, 1280), 'ITU709', None),  # as players see what tells nothing
        ((576, 720), 'ITU601', None),
        ((720, 1280), 'ITU601', 6),
        ((576, 720), 'ITU709', 1),
    ],
)
def test_colours_are_those_that_players_show(tmp_path, size, matrix, tag):
    pixels = np.empty((*size, 3), np.uint8)
    pixels[:] = 200, 60, 30
    clip = make_still(tmp_path / 'clip.mkv', pixels, matrix, tag=tag)
    with reader.open_video(clip) as opened:
        (frame,) = opened.frames()
    assert np.abs(frame.pixels.astype(int) - pixels).max() <= 3
    assert conversion.convert_video(clip, tmp_path / 'out.mkv', lambda x: x) == 1
    (found,), *_ = read(tmp_path / 'out.mkv')  # which is tagged
    assert np.abs(found.astype(int) - pixels).max() <= 4


def test_pixels_that_are_not_square_stay_so(tmp_path):
    grey = np.full((576, 720, 3), 99, np.uint8)
    clip = make_still(tmp_path / 'clip.mkv', grey, None, aspect='64/45')
    assert conversion.convert_video(clip, tmp_path / 'out.mp4', invert) == 1
    with reader.open_video(tmp_path / 'out.mp4') as opened:
        assert opened.aspect == fractions.Fraction(64, 45)


def test_a_reduced_clip_has_even_sides(tmp_path):
    clip = make_clip(tmp_path / 'clip.mp4', height=72, width=128)
    assert conversion.convert_video(clip, tmp_path / 'out.mp4', invert, max_size=51) == len(TIMES)
    with av.open(str(tmp_path / 'out.mp4')) as made:
        stream = made.streams.video[0]
        assert (stream.height, stream.width, stream.pix_fmt) == (28, 50, 'yuv420p')


def test_a_stop_leaves_what_is_done(tmp_path):
    clip, out = make_clip(tmp_path / 'clip.mp4', times=range(0, 4000, 40)), tmp_path / 'out.mp4'
    calls = []

    def render(pixels):
        calls.append(len(pixels))
        return pixels

    done = conversion.convert_video(clip, out, render, batch=2, stopped=lambda: len(calls) >= 5)
    frames, times, _ = read(out)
    assert 10 <= done == len(frames) < 100
    assert set(np.diff(times)) == {40}


def test_errors_in_the_middle_end_all_stages(tmp_path):
    clip = make_clip(tmp_path / 'clip.mp4')

    def fail(pixels):
        raise ZeroDivisionError('never')

    with pytest.raises(ZeroDivisionError):
        conversion.convert_video(clip, tmp_path / 'out.mp4', fail)


def test_a_cut_file_gives_its_whole_frames(tmp_path):
    clip = make_clip(tmp_path / 'clip.mkv', times=range(0, 8000, 40), sound=False)
    whole = clip.read_bytes()
    clip.write_bytes(whole[: len(whole) // 2])
    done = conversion.convert_video(clip, tmp_path / 'out.mkv', invert)
    assert 10 < done < 200
    assert len(read(tmp_path / 'out.mkv')[0]) == done


def test_what_is_no_video_is_named(tmp_path):
    (tmp_path / 'text.mp4').write_text('no video')
    with av.open(str(tmp_path / 'sound.mp4'), 'w') as container:
        tone = container.add_stream('aac', rate=16000, layout='mono')
        part = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), 'fltp', 'mono')
        part.sample_rate = 16000
        container.mux(tone.encode(part))
        container.mux(tone.encode())
    for name, message in {
        'text.mp4': 'no video that can be read',
        'missing.mp4': 'there is no such file',
        'sound.mp4': 'only sound',
    }.items():
        with pytest.raises(ffmpeg.VideoError, match=f'{name}.*{message}'):
            conversion.convert_video(tmp_path / name, tmp_path / 'out.mp4', invert)
        assert not (tmp_path / 'out.mp4').exists()


def test_names_that_cannot_be_written_are_refused(tmp_path):
    (tmp_path / 'there.mp4').write_bytes(b'')
    for name, message in {
        'out.webm': 'must end in one of',
        'there.mp4': 'overwrite=True',
        'nowhere/out.mp4': 'no folder',
    }.items():
        with pytest.raises(ffmpeg.VideoError, match=message):
            conversion.check_video_output(tmp_path / name, tmp_path / 'clip.mp4', overwrite=False)
    with pytest.raises(ffmpeg.VideoError, match='is the input itself'):
        conversion.check_video_output(
            tmp_path / 'there.mp4', tmp_path / 'there.mp4', overwrite=True
        )
    assert not reader.is_video(tmp_path / 'animation.gif')  # of which the first picture is taken


def test_missing_extra_is_named(monkeypatch):
    monkeypatch.setattr(ffmpeg.importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(ffmpeg.VideoError, match=r"pip install 'metastyle_jax\[video\]'"):
        ffmpeg.require_pyav()


def test_the_command_stylizes_a_video(tmp_path, monkeypatch, capsys):
    params = transformer.init(jax.random.key(1), width=2, blocks=1)
    style = style_files.Style(
        {name: np.asarray(leaf) for name, leaf in tensor_files.flatten(params).items()},
        'all', 'style', '0' * 64, '0' * 64, {}, {},
    )  # fmt: skip
    style_files.save_style(tmp_path / 'style.safetensors', style)
    clip, out = make_clip(tmp_path / 'clip.mp4'), tmp_path / 'out.mp4'
    words = [f'--style={tmp_path}/style.safetensors', f'--input={clip}', f'--output={out}']
    run = helpers.command_module('stylize').run
    monkeypatch.setattr(sys, 'argv', ['stylize', *words])
    assert run() == 0
    frames, _, sound = read(out)
    assert len(frames) == len(TIMES)
    assert sound == read(clip)[2]
    (first, *_), *_ = read(clip)
    expected = metastyle_jax.stylize(style, first / np.float32(255))
    assert np.abs(frames[0] / 255 - expected).mean() < 0.03  # what H.264 loses
    for change, message in {
        '--batch=0': '--batch=0',
        '--grid=3': 'not for video',
        '--max_size=8': 'max_size=8',
        f'--output={tmp_path}/out.avi': 'must end in',
        f'--output={out}': '--overwrite',
    }.items():
        monkeypatch.setattr(sys, 'argv', ['stylize', *words, change])
        assert run() == 2
        assert message in capsys.readouterr().err
