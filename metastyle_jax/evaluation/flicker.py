"""How much a stylized video flickers: what changes from frame to frame beyond what moves.

  python -m metastyle_jax.flicker --input=film.mp4 --output=stylized.mp4

Each frame is compared with the one before, carried along by the motion of the input. Pixels that
were hidden, or have changed, are left out. The same is done for the input itself, whose own noise
and errors of motion are what remains of it.

Source: Lai et al. 2018, arXiv 1808.00449, for the warping error; Chen et al. 2017, arXiv
1703.09211, for taking the motion of the input.
"""

import itertools
from collections.abc import Iterable
from typing import NamedTuple

import jax
import numpy as np

from metastyle_jax.core.errors import UserError
from metastyle_jax.stylization.video import optical_flow

SIDE = 320  # of the frames that motion is found on

_warp = jax.jit(optical_flow.warp)
_enlarged = jax.jit(optical_flow.enlarge_motion, static_argnums=(1, 2))


class Flicker(NamedTuple):
    """Root mean squares over all pixels that are compared; of brightness 0..1.

    Attributes:
        input: of the original video.
        output: of the stylized one.
        ratio: the second over the first.
        compared: share of the pixels.
        sharpness: mean length of the gradient of brightness in the stylized video, a pixel.
        frames: how many there are.
    """

    input: float
    output: float
    ratio: float
    compared: float
    sharpness: float
    frames: int


def flicker(frames_in: Iterable[np.ndarray], frames_out: Iterable[np.ndarray]) -> Flicker:
    """Measures flicker; takes each frame once, and keeps two.

    Args:
        frames_in: `[H, W, 3]` float32 in 0..1, in their order.
        frames_out: the same number, of the same size.

    Returns:
        What is found.

    Raises:
        UserError: there are fewer than two frames, or numbers or sizes differ.
    """
    errors, weight, gradients, frames, pixels = np.zeros(2), 0.0, 0.0, 0, 0
    last: tuple[np.ndarray, list[np.ndarray]] | None = None
    for pair in itertools.zip_longest(frames_in, frames_out):
        if pair[0] is None or pair[1] is None or pair[0].shape != pair[1].shape:
            shown = ' and '.join('none' if one is None else str(one.shape) for one in pair)
            raise UserError(f'frame {frames + 1} of the two videos: {shown}; they must be alike')
        grey = optical_flow.reduce_to_grey(pair[0], SIDE)
        gradients += float(np.hypot(*np.gradient(pair[1] @ optical_flow.LUMA)).mean())
        frames += 1
        if last is not None:
            flow, trust = _enlarged(
                optical_flow.estimate_motion(last[0], grey, fine=True), *map(int, pair[0].shape[:2])
            )
            mask = np.asarray(trust > 0.5)
            for i, (before, now) in enumerate(zip(last[1], pair, strict=True)):
                error = np.square(np.asarray(_warp(before, flow)) - now).mean(-1)
                errors[i] += error[mask].sum(dtype=np.float64)
            weight += mask.sum()
            pixels += mask.size
        last = grey, list(pair)
    if not weight:
        raise UserError(f'{frames} frame(s): two are needed that show the same')
    before, after = np.sqrt(errors / weight)
    return Flicker(
        float(before),
        float(after),
        float(after / before) if before else float('inf'),
        float(weight / pixels),
        gradients / frames,
        frames,
    )
