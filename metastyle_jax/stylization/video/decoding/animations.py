"""Reads pictures that move (GIF, PNG, WebP, AVIF) as films, through Pillow.

FFmpeg does not read all of them, and Pillow applies how each frame replaces the one before.
"""

import fractions
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from absl import logging
from PIL import Image

from metastyle_jax.stylization.video import ffmpeg, pipeline, raw_frames
from metastyle_jax.stylization.video.decoding import colours

_TICKS = 1000  # per second, of the times in these files
# Browsers show a frame with a shorter time for as long as this.
_LEAST_SHOWN, _USUALLY_SHOWN = 11, 100  # milliseconds


def open_image(path: pathlib.Path) -> Image.Image:
    """Opens a picture of a kind that may move; an older Pillow lacks AVIF."""
    Image.init()
    kinds: list[str] = [kind for kind in ('GIF', 'PNG', 'WEBP', 'AVIF') if kind in Image.OPEN]
    return Image.open(path, formats=kinds)


class AnimationReader:
    """Frames of a picture that moves, on white, as a `pipeline.FrameSource`.

    Args:
        path: the file.
        max_size: limit of the longer side of the frames; None for no limit.

    Attributes:
        size: height and width of the frames, after reduction.
        rate: frames per second: that of the first frame.
        last_duration: how long the last frame that was read is shown, in milliseconds.

    Raises:
        VideoError: the file cannot be read.
    """

    reopenable = True
    audio_streams: Sequence[Any] = ()
    aspect = fractions.Fraction(1)
    start = fractions.Fraction(0)
    time_base = fractions.Fraction(1, _TICKS)
    bytes_left_over = 0

    def __init__(self, path: pathlib.Path, *, max_size: int | None = None) -> None:
        self.name, self.max_size, self._path = str(path), max_size, path
        self._next, self._time = 0, 0
        self._colours = colours.ColourConverter(self.name)
        try:
            with open_image(path) as image:
                self.frame_count = int(image.n_frames)  # type: ignore[attr-defined]
                image.seek(0)
                self.size = self._pixels(image).shape[:2]
                self.last_duration = _duration(image)
        except Exception as error:  # Pillow raises almost any class for damaged files
            raise ffmpeg.VideoError(
                f'{path} is damaged or cut short ({error}): save or download it again'
            ) from error
        self.rate = fractions.Fraction(_TICKS, self.last_duration)

    def skipped_times(self) -> Iterator[int]:
        """Skips one frame after another, and yields its time."""
        for _, time in self._images():
            yield time

    def frames(self) -> Iterator[pipeline.Frame]:
        """Yields all frames that `skipped_times` has not skipped."""
        for image, time in self._images():
            yield pipeline.Frame(self._pixels(image), time)

    def _images(self) -> Iterator[tuple[Image.Image, int]]:
        """Pillow's image at each frame that was not yielded yet, and its time."""
        with open_image(self._path) as image:
            while self._next < self.frame_count:
                try:
                    image.seek(self._next)
                    image.load()
                except Exception as error:  # see above
                    logging.warning(
                        '%s is damaged at frame %d (%s): the rest is left out',
                        self.name, self._next + 1, error,
                    )  # fmt: skip
                    return
                time, self.last_duration = self._time, _duration(image)
                self._next, self._time = self._next + 1, time + self.last_duration
                yield image, time

    def _pixels(self, image: Image.Image) -> np.ndarray:
        """`[H, W, 3]` uint8, on white and reduced."""
        pixels = self._colours.on_white(np.asarray(image.convert('RGBA')))
        return raw_frames.reduce_frame(pixels, self.max_size)


def _duration(image: Image.Image) -> int:
    """Milliseconds for which the current frame is shown."""
    shown = round(float(image.info.get('duration') or 0))
    return shown if shown >= _LEAST_SHOWN else _USUALLY_SHOWN
