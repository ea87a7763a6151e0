"""Frames are upright, and have the size of the first one."""

import types

import numpy as np
import pytest

from metastyle_jax.stylization.video import conversion
from metastyle_jax.stylization.video.decoding import reader, shapes

av = pytest.importorskip('av')
from clips import make_clip, read  # noqa: E402


def with_matrix(*values):
    """A frame with a display matrix; `values` are its upper left numbers."""
    matrix = np.zeros((3, 3), np.int32)
    matrix[:2, :2] = np.reshape(values, (2, 2)) * 65536
    matrix[2, 2] = 1 << 30
    kind = av.sidedata.sidedata.Type.DISPLAYMATRIX
    return types.SimpleNamespace(side_data={kind: matrix.tobytes()})


@pytest.mark.parametrize(
    ('values', 'turned'),
    [
        ((1, 0, 0, 1), lambda x: x),
        ((0, 1, -1, 0), lambda x: np.rot90(x, -1)),  # clockwise
        ((0, -1, 1, 0), lambda x: np.rot90(x, 1)),
        ((-1, 0, 0, -1), lambda x: np.rot90(x, 2)),
        ((-1, 0, 0, 1), lambda x: x[:, ::-1]),
        ((1, 0, 0, -1), lambda x: x[::-1]),
        ((0, 1, 1, 0), lambda x: x.transpose(1, 0, 2)),
    ],
)
def test_display_matrices_turn_and_mirror(values, turned):
    pixels = np.random.default_rng(0).integers(0, 255, (4, 6, 3), np.uint8)
    frame = with_matrix(*values)
    np.testing.assert_array_equal(shapes.upright(pixels, frame), turned(pixels))
    assert shapes.is_turned(frame) == (turned(pixels).shape != pixels.shape)


def test_a_turned_film_is_upright(tmp_path):
    with av.open(str(tmp_path / 'a.mp4'), 'w') as container:
        stream = container.add_stream('libx264', rate=10)
        stream.height, stream.width, stream.pix_fmt = 32, 64, 'yuv420p'
        stream.set_display_rotation(90)
        pixels = np.zeros((32, 64, 3), np.uint8)
        pixels[:, :32] = 200
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels)))
        container.mux(stream.encode())
    with av.open(str(tmp_path / 'a.mp4')) as opened:
        raw = next(opened.decode(video=0))
        turns = round(raw.rotation / 90)
        wanted = np.rot90(raw.to_ndarray(format='rgb24'), turns)
    with reader.open_video(tmp_path / 'a.mp4') as opened:
        assert opened.size == (64, 32)
        frames = [frame.pixels for frame in opened.frames()]
    assert np.abs(frames[0].astype(int) - wanted).mean() < 3


def test_a_change_of_size_is_scaled_and_told(tmp_path, caplog):
    parts = [
        make_clip(tmp_path / 'a.ts', times=range(0, 400, 40), sound=False),
        make_clip(tmp_path / 'b.ts', height=72, width=96, times=range(400, 800, 40), sound=False),
    ]
    both, out = tmp_path / 'both.ts', tmp_path / 'out.mp4'
    both.write_bytes(b''.join(part.read_bytes() for part in parts))
    assert conversion.convert_video(both, out, lambda x: x) == 20
    frames, times, _ = read(out)
    assert {frame.shape for frame in frames} == {(36, 48, 3)}
    assert len(frames) == 20
    assert set(np.delete(np.diff(times), 9)) == {40}
    assert 0 < np.diff(times)[9] <= 120
    assert np.abs(frames[19].astype(int) - frames[9]).max() <= 6  # no bars
    assert caplog.text.count('the size changes') == 1
    assert 'from 48 x 36 to 96 x 72 pixels at frame 11, at 0.4' in caplog.text


def test_another_shape_gets_black_bars(caplog):
    keeper = shapes.SizeKeeper('film', 64)
    first = keeper.fit(np.full((64, 128, 3), 99, np.uint8), 1, 0.0)
    assert first.shape == (32, 64, 3)
    tall = keeper.fit(np.full((96, 48, 3), 99, np.uint8), 2, None)
    assert tall.shape == (32, 64, 3)
    assert (tall[:, 24:40] == 99).all()
    assert (tall[:, :24] == 0).all()
    assert (tall[:, 40:] == 0).all()
    flat = keeper.fit(np.full((16, 128, 3), 99, np.uint8), 3, None)
    assert (flat[12:20] == 99).all()
    assert (flat[:12] == 0).all()
    assert (keeper.fit(np.full((64, 128, 3), 99, np.uint8), 4, None) == 99).all()
    assert caplog.text.count('film: the size changes from 128 x 64 to 48 x 96') == 1
