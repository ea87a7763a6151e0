"""Names of inputs, formats, colours and errors that all modules for video use.

PyAV, the Python interface of FFmpeg, is an optional dependency (the extra `video`). Every module
for video imports it inside the functions that need it.
"""

import contextlib
import fractions
import importlib.util
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from metastyle_jax.core.errors import UserError

CAMERA_PREFIX = 'camera:'
STANDARD_STREAM = '-'  # the standard input or output, in place of a file name
BT709 = 1  # FFmpeg's number of ITU-R BT.709, for the colour matrix, primaries and transfer curve
UNSPECIFIED = 2  # FFmpeg's number of each of these three that a file does not name
LIMITED_RANGE = 1  # FFmpeg's number of luma in 16..235, the usual range of video


class VideoError(UserError):
    """A video cannot be read or written; the message names the file and the remedy."""


class VideoFormat(NamedTuple):
    """Size and timing of the frames of one video.

    Attributes:
        height: height of a frame in pixels.
        width: width of a frame in pixels.
        rate: frames per second, on average.
        time_base: seconds per unit of a frame's time.
        aspect: width of a pixel divided by its height.
    """

    height: int
    width: int
    rate: fractions.Fraction
    time_base: fractions.Fraction
    aspect: fractions.Fraction = fractions.Fraction(1)


def is_camera(name: str) -> bool:
    """Whether the name of an input stands for a camera."""
    return name.startswith(CAMERA_PREFIX)


def is_live(name: str) -> bool:
    """Whether the name of an input stands for a camera or the standard input."""
    return name == STANDARD_STREAM or is_camera(name)


def require_pyav() -> None:
    """Raises VideoError if PyAV is missing; the message says how to install it."""
    if importlib.util.find_spec('av') is None:
        raise VideoError("video needs PyAV: pip install 'metastyle_jax[video]'")


@contextlib.contextmanager
def errors_as_video_errors(source: str, target: pathlib.Path | str) -> Iterator[None]:
    """Turns an error that FFmpeg raises in the block into a VideoError.

    Args:
        source: name of the input in the message.
        target: name of the output in the message.
    """
    import av

    try:
        yield
    except av.error.FFmpegError as error:
        raise VideoError(
            f'{source} to {target}: {type(error).__name__}, {str(error) or "no reason given"}'
        ) from error


def pull_frames(graph: Any) -> Iterator[Any]:
    """Yields the frames that a graph of FFmpeg's filters has completed.

    Args:
        graph: PyAV's filter graph.
    """
    import av

    while True:
        try:
            frame = graph.pull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
        yield frame


def default_matrix(height: int, width: int) -> str | None:
    """Returns PyAV's name of the colour matrix that players assume if a video does not name one.

    Players assume BT.709 for large frames, and BT.601 for small ones.

    Args:
        height: height of a frame in pixels.
        width: width of a frame in pixels.

    Returns:
        'ITU709', or None for BT.601, which is PyAV's default.
    """
    return 'ITU709' if width >= 1280 or height > 576 else None
