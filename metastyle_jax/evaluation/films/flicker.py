"""Measures the flicker of a stylized video: changes between frames that motion does not explain.

Each frame is compared with the frame before it, which is first warped along the motion of the
original video. Pixels that were hidden, or whose motion is unknown, are left out. The original
video is measured in the same way. Its value is above zero because of noise and errors of the
estimated motion, and is the lowest value that a stylized video can be expected to have.

Source: Lai et al. 2018, arXiv 1808.00449, for the warping error; Chen et al. 2017, arXiv
1703.09211, for the use of the original's motion.
"""

import itertools
import os
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from metastyle_jax.core import checks, progress_bar
from metastyle_jax.core.errors import UserError
from metastyle_jax.data.images import resizing
from metastyle_jax.stylization.video import deflicker, optical_flow

MOTION_SIDE = 320  # longer side of the frames on which motion is estimated, in pixels

_warp = jax.jit(optical_flow.warp)
_enlarge = jax.jit(optical_flow.enlarge_motion, static_argnums=(1, 2))


class Flicker(NamedTuple):
    """Flicker of a video, as root mean squares of changes of pixel values in 0..1.

    Attributes:
        input: flicker of the original video.
        output: flicker of the stylized video.
        ratio: `output` over `input`.
        compared: fraction of the pixels that could be compared.
        sharpness: mean length of the gradient of brightness in the stylized video, per pixel.
        frames: number of frames.
    """

    input: float
    output: float
    ratio: float
    compared: float
    sharpness: float
    frames: int


def measure_flicker(frames_in: Iterable[np.ndarray], frames_out: Iterable[np.ndarray]) -> Flicker:
    """Measures the flicker of a stylized video and of its original.

    Each frame is read once, and two frames of each video are in memory at a time.

    Args:
        frames_in: frames of the original, `[H, W, 3]` float32 in 0..1.
        frames_out: frames of the stylized video, of the same number and size.

    Returns:
        A `Flicker`.

    Raises:
        UserError: there are fewer than two frames, or numbers or sizes differ.
    """
    errors, compared, gradients, frames, pixels = np.zeros(2), 0.0, 0.0, 0, 0
    last: tuple[np.ndarray, tuple[np.ndarray, np.ndarray]] | None = None
    for pair in _pairs(frames_in, frames_out):
        grey = optical_flow.reduce_to_grey(pair[0], MOTION_SIDE)
        gradients += float(np.hypot(*np.gradient(pair[1] @ optical_flow.LUMA)).mean())
        frames += 1
        if last is not None:
            motion = optical_flow.estimate_motion(
                last[0], grey, max_change=deflicker.MAX_CHANGE, fine=True
            )
            flow, trust = _enlarge(motion, *map(int, pair[0].shape[:2]))
            mask = np.asarray(trust > 0.5)
            for i, (before, now) in enumerate(zip(last[1], pair, strict=True)):
                error = np.square(np.asarray(_warp(before, flow)) - now).mean(-1)
                errors[i] += error[mask].sum(dtype=np.float64)
            compared += mask.sum()
            pixels += mask.size
        last = grey, pair
    if not compared:
        raise UserError(f'{frames} frames: at least two frames that show the same scene are needed')
    before, after = np.sqrt(errors / compared)
    return Flicker(
        input=float(before),
        output=float(after),
        ratio=float(after / before) if before else float('inf'),
        compared=float(compared / pixels),
        sharpness=gradients / frames,
        frames=frames,
    )


def measure_videos(
    original: str | os.PathLike, stylized: str | os.PathLike, *, frames: int = 100
) -> Flicker:
    """Measures the flicker of a stylized video file.

    Args:
        original: file of the original video.
        stylized: file of the stylized video; frames of the original are reduced to its size.
        frames: largest number of frames to read, at least 2.

    Returns:
        A `Flicker`.

    Raises:
        UserError: a file cannot be used, or the videos differ in length.
    """
    from metastyle_jax.stylization.video.decoding import reader  # needs PyAV

    checks.whole_number('frames', frames, 2)
    with (
        reader.open_video(pathlib.Path(original)) as before,
        reader.open_video(pathlib.Path(stylized)) as after,
        progress_bar.show(description='measuring', unit='frame', total=None) as bar,
    ):

        def first_frames(video: Any) -> Iterator[np.ndarray]:
            for frame in itertools.islice(video.frames(), frames):
                pixels = frame.pixels
                if pixels.shape[:2] != after.size:
                    pixels = resizing.fit(pixels, max(after.size))
                yield pixels.astype(np.float32) / 255
                if video is after:
                    bar.update(1)

        return measure_flicker(first_frames(before), first_frames(after))


def _pairs(
    frames_in: Iterable[np.ndarray], frames_out: Iterable[np.ndarray]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields pairs of frames; raises UserError if the videos differ in number or size of frames."""
    for index, pair in enumerate(itertools.zip_longest(frames_in, frames_out), start=1):
        if pair[0] is None or pair[1] is None or pair[0].shape != pair[1].shape:
            shown = ' and '.join('none' if one is None else str(one.shape) for one in pair)
            raise UserError(f'frame {index} of the two videos: {shown}; they must be alike')
        yield pair
