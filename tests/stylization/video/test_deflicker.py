"""The filter against flicker: it follows the motion, starts anew at cuts, and can be resumed."""

import fractions

import numpy as np
import pytest
import video_frames

from metastyle_jax.core import errors
from metastyle_jax.stylization.video import deflicker, optical_flow


@pytest.fixture(scope='module')
def moving():
    return video_frames.moving_frames()


@pytest.fixture(scope='module')
def restless(moving):
    return video_frames.restless_frames(moving)


def renderer_of(frames):
    """A renderer that ignores its input and returns these frames one after another."""
    line = iter(frames)
    return lambda pixels: np.stack([next(line) for _ in pixels])


def test_deflicker_starts_anew_where_the_picture_changes(moving, restless):
    output = deflicker.Deflicker(renderer_of(restless), 0.7)(np.stack([moving[0], 1 - moving[0]]))
    assert np.abs(output[1] - restless[1]).mean() < 0.01
    # Where the motion is not trusted, the output of the network stays as it is.
    trust = np.ones((48, 64), np.float32)
    trust[:, :40] = 0
    motion = optical_flow.Motion(np.zeros((2, 48, 64), np.float32), trust)
    mixed = np.asarray(deflicker.mix_with_last(restless[0], restless[1], motion, 0.7))
    np.testing.assert_allclose(mixed[:, :10], restless[1][:, :10], atol=1e-4)
    assert np.abs(mixed - restless[1])[:, 40:].mean() > 0.05


def test_deflicker_resumes_from_its_state(moving, restless):
    whole = deflicker.Deflicker(renderer_of(restless), 0.7)(moving)
    first = deflicker.Deflicker(renderer_of(restless), 0.7)
    assert first.state() == {}
    first(moving[:4])
    second = deflicker.Deflicker(renderer_of(restless[4:]), 0.7)
    second.restore({name: array.copy() for name, array in first.state().items()})
    np.testing.assert_array_equal(second(moving[4:]), whole[4:])
    with pytest.raises(errors.UserError, match='steady=1'):
        deflicker.Deflicker(renderer_of(restless), 1)


def test_uneven_times_are_kept_and_flicker_is_reduced(tmp_path, moving, restless):
    av = pytest.importorskip('av')
    from clips import read

    from metastyle_jax.stylization.video import conversion

    times = [0, 40, 160, 200, 333, 373, 900, 940]  # ms
    with av.open(str(tmp_path / 'a.mkv'), 'w') as container:
        stream = container.add_stream('ffv1', rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, 'bgr0'
        stream.codec_context.time_base = fractions.Fraction(1, 1000)
        for pixels, time in zip(moving, times, strict=True):
            frame = av.VideoFrame.from_ndarray(np.round(255 * pixels).astype(np.uint8))
            frame.pts, frame.time_base = time, fractions.Fraction(1, 1000)
            container.mux(stream.encode(frame.reformat(format='bgr0')))
        container.mux(stream.encode())
    flicker = []
    for steady in (0, 0.7):
        out = tmp_path / f'{steady}.mkv'
        render = deflicker.Deflicker(renderer_of(restless), steady)
        assert conversion.convert_video(tmp_path / 'a.mkv', out, render, batch=4) == 8
        written, shown, _ = read(out)
        assert shown == times
        flicker.append(np.mean(np.abs(np.diff(np.stack(written).astype(float), axis=0))))
    assert flicker[1] < 0.8 * flicker[0]
