"""Cameras, through the devices that FFmpeg knows of each system."""

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

from metastyle_jax.stylization.video import reader

PREFIX = 'camera:'


def device(name: str) -> tuple[str, str]:
    """FFmpeg's format and file of a camera.

    Args:
        name: what follows `camera:`, a number, or the system's own name of one.

    Raises:
        video.VideoError: there is no name, or a number where the system knows names alone.
    """
    if not name:
        raise reader.VideoError('--input=camera: needs a number or a name, as camera:0')
    if sys.platform == 'darwin':
        return 'avfoundation', name
    if sys.platform == 'win32':
        if name.isdecimal():
            raise reader.VideoError(
                f'--input=camera:{name}: on Windows name the camera, as camera:Integrated Camera; '
                "'ffmpeg -list_devices true -f dshow -i dummy' lists them"
            )
        return 'dshow', f'video={name}'
    return 'v4l2', f'/dev/video{name}' if name.isdecimal() else name


@contextlib.contextmanager
def opened(
    name: str,
    *,
    size: tuple[int, int] | None = None,
    rate: Any = None,
    max_size: int | None = None,
) -> Iterator[reader.Clip]:
    """A camera to read, until the block is left.

    Args:
        name: what follows `camera:`.
        size: height and width to ask it for.
        rate: frames a second to ask it for.
        max_size: reduces the longer side of frames.

    Raises:
        video.VideoError: it is absent, in use, or cannot do what it is asked for.
    """
    reader.require()
    import av

    kind, file = device(name)
    options = {} if size is None else {'video_size': f'{size[1]}x{size[0]}'}
    if rate is not None:
        options['framerate'] = str(rate)
    try:
        container = av.open(file, format=kind, options=options)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise reader.VideoError(
            f'--input={PREFIX}{name}: no such camera, or it cannot be used ({error}); is it '
            'plugged in, free, and able to do --frame_size and --frame_rate?'
        ) from error
    with container:
        # What is not compressed has no tag, and is BT.601 by the USB standard.
        yield reader.Clip(
            container, f'{PREFIX}{name}', max_size=max_size, again=False, matrix='ITU601'
        )
