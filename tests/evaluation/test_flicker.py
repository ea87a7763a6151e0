"""Motion, the measure of flicker, and what lessens it."""

import numpy as np
import pytest
import skimage.data
from scipy import ndimage

from metastyle_jax.core import errors
from metastyle_jax.evaluation import flicker
from metastyle_jax.stylization.video import deflicker, optical_flow

SHIFT = (0.7, -1.5)  # of the picture, in pixels a frame


@pytest.fixture(scope='module')
def moving():
    """Eight frames, `[48, 64, 3]`, of a window that glides over a photograph."""
    photo = ndimage.gaussian_filter(
        skimage.data.astronaut()[::4, ::4] / np.float32(255), (0.7, 0.7, 0)
    )
    rng = np.random.default_rng(0)
    frames = []
    for t in range(8):
        place = np.mgrid[:48, :64] + np.reshape([20 + SHIFT[0] * t, 40 + SHIFT[1] * t], (2, 1, 1))
        frame = [ndimage.map_coordinates(photo[..., c], place, order=3) for c in range(3)]
        frames.append(np.clip(np.stack(frame, -1) + rng.normal(0, 0.005, (48, 64, 3)), 0, 1))
    return np.stack(frames).astype(np.float32)


@pytest.fixture(scope='module')
def restless(moving):
    """The same with strokes that are new in each frame."""
    rng = np.random.default_rng(1)
    strokes = ndimage.gaussian_filter(rng.normal(0, 0.3, moving.shape), (0, 1, 1, 0))
    return np.clip(0.25 + 0.5 * moving + strokes, 0, 1).astype(np.float32)


@pytest.mark.parametrize('fine', [True, False])
def test_motion_leads_back(moving, fine):
    before, now = (optical_flow.reduce_to_grey(frame, 64) for frame in moving[:2])
    found = optical_flow.estimate_motion(before, now, fine=fine)
    inner = found.flow[:, 6:-6, 6:-6]
    np.testing.assert_allclose(np.median(inner, (1, 2)), SHIFT, atol=0.1)
    assert np.mean(found.trust > 0.5) > 0.8
    # The window moves left, so what is at the left edge was not to be seen before.
    assert found.trust[:, 0].max() == 0


def test_what_is_another_picture_is_not_trusted(moving):
    before, now = (
        optical_flow.reduce_to_grey(frame, 64) for frame in (moving[0], moving[0][::-1, ::-1])
    )
    assert optical_flow.estimate_motion(before, now).trust.mean() < 0.1


def test_warp_takes_pixels_from_where_they_were():
    image = np.random.default_rng(0).random((9, 11, 3)).astype(np.float32)
    flow = np.broadcast_to(np.array([2, -1], np.float32).reshape(2, 1, 1), (2, 9, 11))
    found = np.asarray(optical_flow.warp(image, flow))
    np.testing.assert_allclose(found[:-2, 1:], image[2:, :-1], atol=1e-6)
    np.testing.assert_allclose(found[-1, 1:], image[-1, :-1], atol=1e-6)  # the border continues
    # Cubic convolution is exact on parabolas.
    y, x = np.mgrid[:9, :11].astype(np.float32)
    curve = lambda y, x: (0.3 + 0.2 * y + 0.1 * y * y - x + 0.05 * x * x)[..., None]
    found = np.asarray(optical_flow.warp(curve(y, x), np.full((2, 9, 11), 0.3, np.float32)))
    np.testing.assert_allclose(found[2:-3, 2:-3], curve(y + 0.3, x + 0.3)[2:-3, 2:-3], atol=1e-4)


def test_flicker_is_what_does_not_move_along(moving, restless):
    same = flicker.flicker(moving, moving)
    assert same.ratio == 1
    assert same.frames == 8
    assert same.compared > 0.8
    assert same.input < 0.02
    found = flicker.flicker(moving, restless)
    assert found.input == same.input
    deviation = np.std(restless - 0.5 * moving, axis=0).mean()
    assert found.output == pytest.approx(np.sqrt(2) * deviation, rel=0.15)


def test_flicker_needs_two_videos_of_a_kind(moving):
    for before, after in ((moving, moving[:5]), (moving, moving[:, :-1]), (moving[:1], moving[:1])):
        with pytest.raises(errors.UserError, match='alike|two are needed'):
            flicker.flicker(before, after)


def given(frames):
    """A network that is asked for these frames one after the other."""
    line = iter(frames)
    return lambda pixels: np.stack([next(line) for _ in pixels])


def test_steady_frames_flicker_less_and_stay_sharp(moving, restless):
    wrapped = deflicker.Deflicker(given(restless), 0.7)
    made = np.concatenate([wrapped(moving[i : i + 3]) for i in (0, 3, 6)])
    before, after = (flicker.flicker(moving, frames) for frames in (restless, made))
    assert after.output < 0.5 * before.output
    # The first frame has nothing to follow, and is as the network made it.
    np.testing.assert_array_equal(made[0], restless[0])
    kept = [flicker.flicker(moving[4:], frames[4:]).sharpness for frames in (made, restless)]
    assert 0.95 < kept[0] / kept[1] < 1.25


def test_steady_starts_anew_where_the_picture_changes(moving, restless):
    made = deflicker.Deflicker(given(restless), 0.7)(np.stack([moving[0], 1 - moving[0]]))
    assert np.abs(made[1] - restless[1]).mean() < 0.01
    # Where motion is not trusted, what the network makes is left alone.
    trust = np.ones((48, 64), np.float32)
    trust[:, :40] = 0
    move = optical_flow.Motion(np.zeros((2, 48, 64), np.float32), trust)
    found = np.asarray(deflicker.mix_with_last(restless[0], restless[1], move, 0.7))
    np.testing.assert_allclose(found[:, :10], restless[1][:, :10], atol=1e-4)
    assert np.abs(found - restless[1])[:, 40:].mean() > 0.05


def test_steady_goes_on_from_its_state(moving, restless):
    whole = deflicker.Deflicker(given(restless), 0.7)(moving)
    first = deflicker.Deflicker(given(restless), 0.7)
    assert first.state() == {}
    first(moving[:4])
    second = deflicker.Deflicker(given(restless[4:]), 0.7)
    second.restore({name: array.copy() for name, array in first.state().items()})
    np.testing.assert_array_equal(second(moving[4:]), whole[4:])
    with pytest.raises(errors.UserError, match='steady=1'):
        deflicker.Deflicker(given(restless), 1)
