"""Motion between two frames: estimated flow, trust, and warping."""

import numpy as np
import pytest
import video_frames

from metastyle_jax.stylization.video import optical_flow


@pytest.fixture(scope='module')
def moving():
    return video_frames.moving_frames()


@pytest.mark.parametrize('fine', [True, False])
def test_estimated_motion_leads_back_to_the_frame_before(moving, fine):
    before, now = (optical_flow.reduce_to_grey(frame, 64) for frame in moving[:2])
    motion = optical_flow.estimate_motion(before, now, max_change=0.06, fine=fine)
    inner = motion.flow[:, 6:-6, 6:-6]
    np.testing.assert_allclose(np.median(inner, (1, 2)), video_frames.SHIFT, atol=0.1)
    assert np.mean(motion.trust > 0.5) > 0.8
    # The window moves left, so the left edge was outside of the frame before.
    assert motion.trust[:, 0].max() == 0


def test_motion_between_unrelated_pictures_is_not_trusted(moving):
    before, now = (
        optical_flow.reduce_to_grey(frame, 64) for frame in (moving[0], moving[0][::-1, ::-1])
    )
    assert optical_flow.estimate_motion(before, now, max_change=0.06).trust.mean() < 0.1


def test_warp_moves_pixels_along_the_flow():
    image = np.random.default_rng(0).random((9, 11, 3)).astype(np.float32)
    flow = np.broadcast_to(np.array([2, -1], np.float32).reshape(2, 1, 1), (2, 9, 11))
    warped = np.asarray(optical_flow.warp(image, flow))
    np.testing.assert_allclose(warped[:-2, 1:], image[2:, :-1], atol=1e-6)
    np.testing.assert_allclose(
        warped[-1, 1:], image[-1, :-1], atol=1e-6
    )  # outside, the border continues
    # Cubic convolution is exact on parabolas.
    y, x = np.mgrid[:9, :11].astype(np.float32)
    curve = lambda y, x: (0.3 + 0.2 * y + 0.1 * y * y - x + 0.05 * x * x)[..., None]
    warped = np.asarray(optical_flow.warp(curve(y, x), np.full((2, 9, 11), 0.3, np.float32)))
    np.testing.assert_allclose(warped[2:-3, 2:-3], curve(y + 0.3, x + 0.3)[2:-3, 2:-3], atol=1e-4)
