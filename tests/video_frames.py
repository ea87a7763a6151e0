"""Frames with a known motion, for the tests of optical flow and of flicker."""

import numpy as np
import skimage.data
from scipy import ndimage

SHIFT = (0.7, -1.5)  # of the picture, in pixels per frame: down, right


def moving_frames():
    """Eight frames, `[48, 64, 3]`, of a window that moves over a photograph."""
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


def restless_frames(moving):
    """Adds brush strokes that are new in each frame."""
    rng = np.random.default_rng(1)
    strokes = ndimage.gaussian_filter(rng.normal(0, 0.3, moving.shape), (0, 1, 1, 0))
    return np.clip(0.25 + 0.5 * moving + strokes, 0, 1).astype(np.float32)
