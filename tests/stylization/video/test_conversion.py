"""Video to video: sound, uneven times, odd sizes, stops and errors."""

import numpy as np
import pytest

from metastyle_jax.stylization.video import conversion, ffmpeg
from metastyle_jax.stylization.video.decoding import film_files, reader

av = pytest.importorskip('av')
from clips import TIMES, make_clip, read  # noqa: E402


def invert(pixels):
    return 1 - pixels


@pytest.mark.parametrize('suffix', ['.mp4', '.mkv'])
@pytest.mark.parametrize('size', [(36, 48), (35, 47)])
def test_frames_times_size_and_sound_are_kept(tmp_path, suffix, size):
    height, width = size
    clip = make_clip(tmp_path / 'clip.mp4', height=height, width=width)
    out, batches = tmp_path / f'out{suffix}', []
    assert conversion.convert_video(clip, out, invert, batch=4, progress=batches.append) == len(
        TIMES
    )
    assert batches == [4, 4, 2]
    (before, wanted, tone), (after, times, copied) = read(clip), read(out)
    assert times == wanted
    assert np.diff(times).tolist() == np.diff(TIMES).tolist()
    assert copied == tone
    assert len(tone) > 4
    for one, other in zip(before, after, strict=True):
        assert one.shape == (height, width, 3)
        assert other.shape == (36, 48, 3)  # the last row and column are repeated for even sides
        np.testing.assert_allclose(one.mean() + other.mean(), 255, atol=4)
    with reader.open_video(out) as again:
        assert (again.size, again.aspect, len(again.audio_streams)) == ((36, 48), 1, 1)
    with av.open(str(out)) as again:
        assert again.streams.video[0].pix_fmt == 'yuv420p'  # 4:4:4 is shown by few players


@pytest.mark.parametrize('suffix', ['.mp4', '.mkv'])
def test_the_declared_rate_is_the_rate_of_the_frames(tmp_path, suffix):
    clip = make_clip(tmp_path / 'clip.mp4', times=range(0, 320, 40), sound=False)
    conversion.convert_video(clip, tmp_path / f'out{suffix}', invert)
    with av.open(str(clip)) as before, av.open(str(tmp_path / f'out{suffix}')) as after:
        for name in ('average_rate', 'base_rate', 'guessed_rate'):
            rates = [getattr(file.streams.video[0], name) for file in (before, after)]
            assert rates[0] == rates[1], name


def test_a_reduced_clip_has_even_sides(tmp_path):
    clip = make_clip(tmp_path / 'clip.mp4', height=72, width=128)
    assert conversion.convert_video(clip, tmp_path / 'out.mp4', invert, max_size=51) == len(TIMES)
    with av.open(str(tmp_path / 'out.mp4')) as opened:
        stream = opened.streams.video[0]
        assert (stream.height, stream.width, stream.pix_fmt) == (28, 50, 'yuv420p')


def test_a_stopped_conversion_keeps_the_finished_frames(tmp_path):
    clip, out = make_clip(tmp_path / 'clip.mp4', times=range(0, 4000, 40)), tmp_path / 'out.mp4'
    calls = []

    def render(pixels):
        calls.append(len(pixels))
        return pixels

    done = conversion.convert_video(clip, out, render, batch=2, stopped=lambda: len(calls) >= 5)
    frames, times, _ = read(out)
    assert 10 <= done == len(frames) < 100
    assert set(np.diff(times)) == {40}


def test_an_error_of_the_renderer_ends_all_threads(tmp_path):
    clip = make_clip(tmp_path / 'clip.mp4')

    def fail(pixels):
        raise ZeroDivisionError('never')

    with pytest.raises(ZeroDivisionError):
        conversion.convert_video(clip, tmp_path / 'out.mp4', fail)


def test_outputs_that_cannot_be_written_are_refused(tmp_path):
    (tmp_path / 'there.mp4').write_bytes(b'')
    for name, message in {
        'out.wmv': r'must end in one of \.mp4, .*\.webm',
        'out': r'must end in one of',
        'there.mp4': 'overwrite=True',
        'nowhere/out.mp4': 'no folder',
    }.items():
        with pytest.raises(ffmpeg.VideoError, match=message):
            conversion.check_video_output(tmp_path / name, tmp_path / 'clip.mp4', overwrite=False)
    with pytest.raises(ffmpeg.VideoError, match='is the input itself'):
        conversion.check_video_output(
            tmp_path / 'there.mp4', tmp_path / 'there.mp4', overwrite=True
        )
    assert not film_files.is_film(str(tmp_path / 'animation.gif'), 'out.png')


def test_a_name_that_no_disk_can_store_and_a_folder_that_is_read_only_are_refused(
    tmp_path, monkeypatch
):
    for name in ('a' * 252 + '.mp4', 'ü' * 126 + '.mp4'):
        with pytest.raises(ffmpeg.VideoError, match='its name has 256 bytes'):
            conversion.check_video_output(tmp_path / name, None, overwrite=False)
    monkeypatch.setattr(conversion.os, 'access', lambda path, mode: False)  # root may write anyway
    with pytest.raises(ffmpeg.VideoError, match=f'make {tmp_path} writable'):
        conversion.check_video_output(tmp_path / 'out.mp4', None, overwrite=False)


def test_a_missing_pyav_is_reported_with_its_extra(monkeypatch):
    monkeypatch.setattr(ffmpeg.importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(ffmpeg.VideoError, match=r"pip install 'metastyle_jax\[video\]'"):
        ffmpeg.require_pyav()


def test_the_last_frame_is_shown_as_long_as_in_the_original(tmp_path):
    with av.open(str(tmp_path / 'still.mp4'), 'w') as container:
        stream = container.add_stream('libx264', rate=25)
        stream.height, stream.width, stream.pix_fmt = 36, 48, 'yuv420p'
        frame = av.VideoFrame.from_ndarray(np.full((36, 48, 3), 99, np.uint8))
        frame.pts, frame.duration = 0, 75  # three seconds
        container.mux(stream.encode(frame))
        for packet in stream.encode():
            packet.duration = 75 * round(1 / 25 / packet.time_base)
            container.mux(packet)
    for suffix in ('.mp4', '.mkv'):
        conversion.convert_video(tmp_path / 'still.mp4', tmp_path / f'out{suffix}', invert)
        with av.open(str(tmp_path / f'out{suffix}')) as opened:
            assert opened.duration / 1e6 == pytest.approx(3, abs=0.05)
