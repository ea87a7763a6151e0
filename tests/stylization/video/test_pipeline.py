"""Frames are read, rendered and written at the same time."""

import threading

import numpy as np

from metastyle_jax.stylization.video import pipeline


def test_a_camera_faster_than_the_network_gives_its_newest_frames():
    over, exhausted, seen = threading.Event(), threading.Event(), []

    def frames():
        for i in range(50):
            yield pipeline.Frame(np.full((2, 2, 3), i, np.uint8), i)
        exhausted.set()

    def render(pixels):
        exhausted.wait()  # until all other frames have arrived
        return pixels

    left_out = pipeline.render_frames(
        frames(), render, lambda rendered, state: seen.extend(frame.pts for frame in rendered),
        batch=1, ended=over, newest_only=True,
    )  # fmt: skip
    assert seen[-1] == 49
    assert len(seen) <= 3
    assert left_out == 50 - len(seen)
