"""Rotates frames as the metadata of their file say, and gives all frames of a video one size."""

import fractions
from typing import Any

import numpy as np
from absl import logging

from metastyle_jax.data.images import resizing
from metastyle_jax.stylization.video import raw_frames

_SAME_SHAPE = 0.02  # relative difference of two shapes that are scaled without bars


def upright(pixels: np.ndarray, frame: Any) -> np.ndarray:
    """Rotates and mirrors the pixels of a frame as its display matrix says.

    Args:
        pixels: `[H, W, 3]`.
        frame: PyAV's frame, which has the display matrix.

    Returns:
        `[H, W, 3]`, or `[W, H, 3]` after a rotation by 90 degrees.
    """
    (a, b), (c, d) = _display_matrix(frame)
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return np.ascontiguousarray(pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])
    turned = pixels.transpose(1, 0, 2)
    return np.ascontiguousarray(turned[:: -1 if b < 0 else 1, :: -1 if c < 0 else 1])


def is_turned(frame: Any) -> bool:
    """Whether `upright` exchanges the height and width of a frame."""
    (a, b), (c, d) = _display_matrix(frame)
    return bool(abs(a) + abs(d) < abs(b) + abs(c))


def _display_matrix(frame: Any) -> np.ndarray:
    """Returns the `[2, 2]` matrix by which the position (x, y) of a pixel is multiplied."""
    import av

    data = frame.side_data.get(av.sidedata.sidedata.Type.DISPLAYMATRIX)
    if data is None:
        return np.eye(2)
    return np.frombuffer(bytes(data), np.int32).reshape(3, 3)[:2, :2] / 65536


class SizeKeeper:
    """Gives all frames of a video the size of the first frame, and warns when the size changes.

    Frames with another aspect ratio get black bars, because all frames of the output must have the
    same size.

    Args:
        name: name of the video in messages.
        max_size: limit of the longer side of the frames in pixels; None for no limit.
    """

    def __init__(self, name: str, max_size: int | None) -> None:
        self._name, self._max_size = name, max_size
        self._first: tuple[int, int] | None = None
        self._last: tuple[int, int] | None = None
        self._size: tuple[int, int] = (0, 0)
        self._told = False

    def fit(self, pixels: np.ndarray, number: int, time: float | None) -> np.ndarray:
        """Scales a frame to the size of the first frame, which is first reduced to `max_size`.

        Args:
            pixels: `[H, W, 3]` uint8, upright.
            number: number of the frame, from 1.
            time: time of the frame in seconds; None if it is unknown.

        Returns:
            `[H', W', 3]` uint8, of the same size for all frames.
        """
        size = pixels.shape[0], pixels.shape[1]
        if self._first is None or size == self._first:
            reduced = raw_frames.reduce_frame(pixels, self._max_size)
            self._first, self._size = size, (reduced.shape[0], reduced.shape[1])
            self._last = size
            return reduced
        if size != self._last:
            self._tell(size, number, time)
        self._last = size
        return _fit_into(pixels, self._size, _shape(self._first))

    def _tell(self, size: tuple[int, int], number: int, time: float | None) -> None:
        """Warns about the first change of the size; later changes are not reported."""
        if self._told or self._first is None:
            return
        self._told = True
        at = '' if time is None else f', at {time:.2f} s'
        logging.warning(
            '%s: the size changes from %d x %d to %d x %d pixels at frame %d%s; frames of another '
            'size are scaled to the first. Cut the film there to keep both sizes',
            self._name, self._first[1], self._first[0], size[1], size[0], number, at,
        )  # fmt: skip


def _shape(size: tuple[int, int]) -> fractions.Fraction:
    return fractions.Fraction(size[1], size[0])


def _fit_into(pixels: np.ndarray, size: tuple[int, int], wanted: fractions.Fraction) -> np.ndarray:
    """Scales a frame to fit into a size; adds black bars if its aspect ratio is not `wanted`."""
    height, width = size
    shape = _shape((pixels.shape[0], pixels.shape[1]))
    if abs(shape / wanted - 1) <= _SAME_SHAPE:
        return resizing.resize(pixels, height, width)
    if shape > wanted:
        inner = max(1, round(height * wanted / shape)), width
    else:
        inner = height, max(1, round(width * shape / wanted))
    result = np.zeros((height, width, 3), np.uint8)
    top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
    result[top : top + inner[0], left : left + inner[1]] = resizing.resize(pixels, *inner)
    return result
