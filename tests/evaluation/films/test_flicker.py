"""The measure of flicker, for videos with and without the filter against it."""

import numpy as np
import pytest
import video_frames

from metastyle_jax.core import errors
from metastyle_jax.evaluation.films import flicker
from metastyle_jax.stylization.video import deflicker


@pytest.fixture(scope='module')
def moving():
    return video_frames.moving_frames()


@pytest.fixture(scope='module')
def restless(moving):
    return video_frames.restless_frames(moving)


def test_flicker_is_what_does_not_move_along(moving, restless):
    same = flicker.measure_flicker(moving, moving)
    assert same.ratio == 1
    assert same.frames == 8
    assert same.compared > 0.8
    assert same.input < 0.02
    found = flicker.measure_flicker(moving, restless)
    assert found.input == same.input
    deviation = np.std(restless - 0.5 * moving, axis=0).mean()
    assert found.output == pytest.approx(np.sqrt(2) * deviation, rel=0.15)


def test_flicker_needs_two_videos_of_a_kind(moving):
    for before, after in ((moving, moving[:5]), (moving, moving[:, :-1]), (moving[:1], moving[:1])):
        with pytest.raises(errors.UserError, match='alike|at least two frames'):
            flicker.measure_flicker(before, after)


def given(frames):
    """A network that is asked for these frames one after the other."""
    line = iter(frames)
    return lambda pixels: np.stack([next(line) for _ in pixels])


def test_steady_frames_flicker_less_and_stay_sharp(moving, restless):
    wrapped = deflicker.Deflicker(given(restless), 0.7)
    made = np.concatenate([wrapped(moving[i : i + 3]) for i in (0, 3, 6)])
    before, after = (flicker.measure_flicker(moving, frames) for frames in (restless, made))
    assert after.output < 0.5 * before.output
    # The first frame has nothing to follow, and is as the network made it.
    np.testing.assert_array_equal(made[0], restless[0])
    kept = [
        flicker.measure_flicker(moving[4:], frames[4:]).sharpness for frames in (made, restless)
    ]
    assert 0.95 < kept[0] / kept[1] < 1.25
