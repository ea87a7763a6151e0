"""Reads the frames of animated pictures (GIF, PNG, WebP, AVIF) with Pillow.

FFmpeg cannot read all of these formats. Pillow also composes partial frames with the frame before.
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
    """Opens a file in one of the formats that can be animated; an older Pillow lacks AVIF."""
    Image.init()
    kinds: list[str] = [kind for kind in ('GIF', 'PNG', 'WEBP', 'AVIF') if kind in Image.OPEN]
    return Image.open(path, formats=kinds)


class AnimationReader:
    """Reads the frames of an animated picture; it is a `pipeline.FrameSource`.

    Transparent parts become white.

    Args:
        path: the file.
        max_size: limit of the longer side of the frames in pixels; None for no limit.

    Attributes:
        size: height and width of the frames in pixels, after reduction.
        rate: frames per second, computed from the duration of the first frame.
        last_duration: how long the most recently read frame is shown, in milliseconds.

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
        """Yields the time of one frame after another, in milliseconds, without converting it."""
        for _, time in self._images():
            yield time

    def frames(self) -> Iterator[pipeline.Frame]:
        """Yields the frames that follow those that `skipped_times` has already passed."""
        for image, time in self._images():
            yield pipeline.Frame(self._pixels(image), time)

    def _images(self) -> Iterator[tuple[Image.Image, int]]:
        """Yields Pillow's image at each remaining frame, and the frame's time in milliseconds."""
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
        """Returns a frame as `[H, W, 3]` uint8, on white and reduced to `max_size`."""
        pixels = self._colours.on_white(np.asarray(image.convert('RGBA')))
        return raw_frames.reduce_frame(pixels, self.max_size)


def _duration(image: Image.Image) -> int:
    """Milliseconds for which the current frame is shown."""
    shown = round(float(image.info.get('duration') or 0))
    return shown if shown >= _LEAST_SHOWN else _USUALLY_SHOWN
