"""Settings of the stylization of a video, with their defaults, ranges and help texts.

This module loads neither JAX nor PyAV, so that `--help` answers at once.
"""

import dataclasses

from metastyle_jax.core import checks

BATCH = 4  # frames in one forward pass on an accelerator
SOUNDS = ('copy', 'aac', 'opus', 'mp3', 'none')
PIXEL_FORMATS = ('rgb24', 'y4m')


@dataclasses.dataclass(frozen=True, kw_only=True)
class VideoSettings:
    """Settings of `stylize_video.stylize_video`."""

    max_size: int | None = checks.setting(
        None, 'Reduce the longer side of pictures and frames to this many pixels.', least=16
    )
    """Limit of the longer side of the frames in pixels, at least 16; None keeps their size."""

    batch: int | None = checks.setting(
        None,
        f'Frames or styles in one forward pass (default: {BATCH}; for frames on a CPU: 1).',
        least=1,
    )
    """Number of frames in one forward pass, at least 1; None for 4 on an accelerator and 1 on a
    CPU. The frames of a camera are always rendered one by one, to keep the delay short."""

    steady: float = checks.setting(
        0.0,
        'Reduces flicker: share of each frame that is carried over into the next, 0 to below 1.',
        least=0,
    )
    """Share of each frame that is carried over into the next one, 0 to below 1. It reduces
    flicker."""

    frame_size: str | None = checks.setting(
        None,
        'Size as WIDTHxHEIGHT of raw frames on the standard input, or to request from a camera.',
    )
    """Size as WIDTHxHEIGHT. It is required for raw frames on the standard input. For a camera, it
    is the size to request, None for the camera's default. It must be None for other inputs."""

    frame_rate: str | float | None = checks.setting(
        None,
        'Frames per second of raw frames on the standard input (default: 25), or to request from '
        'a camera; for example 30000/1001.',
    )
    """Frames per second of raw frames on the standard input (None for 25), or to request from a
    camera (None for its default). It must be None for other inputs."""

    pixel_format: str | None = checks.setting(
        None,
        "Format of frames on the standard streams: 'rgb24' (raw frames, the default), or 'y4m' "
        '(YUV4MPEG2), whose header names size and rate.',
        known=PIXEL_FORMATS,
    )
    """Format of frames on the standard input and output: 'rgb24' (also None) for raw RGB, or 'y4m'
    for YUV4MPEG2."""

    sound: str = checks.setting(
        'copy',
        "Sound of a video: 'copy' (encodes only what the output cannot hold), 'aac', 'opus' or "
        "'mp3' to encode all sound, 'none' for a silent video.",
        known=SOUNDS,
    )
    """'copy' copies the sound, and encodes only what the output cannot hold; 'aac', 'opus' and
    'mp3' encode all sound; 'none' makes a silent video."""

    keep_location: bool = checks.setting(
        False, 'Keep where a picture or video was made (its GPS position).'
    )
    """Whether to keep tags that say where the video was filmed. Title, date and other tags are
    always kept."""

    def validate(self) -> None:
        """Raises UserError if a value is out of its range; the message names the setting."""
        checks.check_settings(self)
        checks.real_number('steady', self.steady, least=0, below=1)
