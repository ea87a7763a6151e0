"""Kinds of video files: which are written, and what is said of others."""

import pathlib

import numpy as np
import pytest

from metastyle_jax.stylization.video import conversion, ffmpeg
from metastyle_jax.stylization.video.encoding import containers

av = pytest.importorskip('av')
from clips import TIMES, make_clip, read  # noqa: E402


@pytest.mark.parametrize(
    ('suffix', 'codec'),
    {'.m4v': 'h264', '.mov': 'h264', '.webm': 'vp9', '.avi': 'mpeg4', '.gif': 'gif'}.items(),
)
def test_each_kind_of_file_holds_the_frames_at_their_times(tmp_path, suffix, codec):
    clip, out = make_clip(tmp_path / 'clip.mp4', sound=False), tmp_path / f'out{suffix}'
    assert conversion.convert_video(clip, out, lambda x: x) == len(TIMES)
    (before, _, _), (after, times, _) = read(clip), read(out)
    assert times == TIMES
    for one, other in zip(before, after, strict=True):
        np.testing.assert_allclose(other, one, atol=6)
    with av.open(str(out)) as opened:
        stream = opened.streams.video[0]
        assert stream.codec_context.codec.canonical_name == codec
        if codec in ('h264', 'vp9'):
            tags = stream.codec_context
            assert (tags.colorspace, tags.color_trc, tags.color_primaries) == (1, 1, 1)
            assert (tags.color_range, tags.pix_fmt) == (1, 'yuv420p')


@pytest.mark.parametrize('suffix', ['.mp4', '.mov'])
def test_the_index_comes_first(tmp_path, suffix):
    out = tmp_path / f'out{suffix}'
    conversion.convert_video(make_clip(tmp_path / 'clip.mp4'), out, lambda x: x)
    data = out.read_bytes()
    assert data.index(b'moov') < data.index(b'mdat')


@pytest.mark.parametrize('suffix', ['.mp4', '.mkv', '.avi', '.webm', '.gif'])
def test_odd_sides_are_padded_only_where_players_need_it(tmp_path, suffix):
    clip = make_clip(tmp_path / 'clip.mp4', height=35, width=47, sound=False)
    conversion.convert_video(clip, tmp_path / f'out{suffix}', lambda x: x)
    frames, _, _ = read(tmp_path / f'out{suffix}')
    keeps = suffix in ('.webm', '.gif')
    assert frames[0].shape == ((35, 47, 3) if keeps else (36, 48, 3))


def test_other_kinds_are_refused_with_those_that_work(monkeypatch):
    for name in ('out.wmv', 'out', 'out.MPG'):
        with pytest.raises(ffmpeg.VideoError, match=r'one of \.mp4, .*\.webm, \.avi, \.gif'):
            containers.container_of(pathlib.Path(name))
    # A PyAV without the encoder of WebM.
    broken = containers.CONTAINERS['.webm']._replace(encoder='none')
    monkeypatch.setitem(containers.CONTAINERS, '.webm', broken)
    containers.can_write.cache_clear()
    with pytest.raises(ffmpeg.VideoError, match=r'writes no \.webm files') as raised:
        containers.container_of(pathlib.Path('out.webm'))
    assert '.webm,' not in str(raised.value)
    containers.can_write.cache_clear()
