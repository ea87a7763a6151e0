"""Opens cameras through FFmpeg's capture device of each operating system."""

import contextlib
import fractions
import sys
from collections.abc import Iterator

from metastyle_jax.stylization.video import ffmpeg
from metastyle_jax.stylization.video.decoding import reader


def ffmpeg_device(camera: str) -> tuple[str, str]:
    """Returns FFmpeg's input format and file name of a camera.

    Args:
        camera: the text after `camera:`: a number, or the name that the operating system gives to
            the camera.

    Raises:
        VideoError: the text is empty, or it is a number on Windows, where FFmpeg needs a name.
    """
    if not camera:
        raise ffmpeg.VideoError('input=camera: needs a number or a name, for example camera:0')
    if sys.platform == 'darwin':
        return 'avfoundation', camera
    if sys.platform == 'win32':
        if camera.isdecimal():
            raise ffmpeg.VideoError(
                f'input=camera:{camera}: on Windows name the camera, for example '
                "camera:Integrated Camera; 'ffmpeg -list_devices true -f dshow -i dummy' lists "
                'the names'
            )
        return 'dshow', f'video={camera}'
    return 'v4l2', f'/dev/video{camera}' if camera.isdecimal() else camera


@contextlib.contextmanager
def open_camera(
    camera: str,
    *,
    size: tuple[int, int] | None = None,
    rate: fractions.Fraction | None = None,
    max_size: int | None = None,
) -> Iterator[reader.VideoReader]:
    """Opens a camera, and closes it at the end of the block.

    Args:
        camera: the text after `camera:`.
        size: height and width to request from the camera; None for its default.
        rate: frames per second to request from the camera; None for its default.
        max_size: limit of the longer side of the frames in pixels; None for no limit.

    Raises:
        VideoError: there is no such camera, another program uses it, or it does not support the
            requested size or rate.
    """
    ffmpeg.require_pyav()
    import av

    kind, file = ffmpeg_device(camera)
    name = f'{ffmpeg.CAMERA_PREFIX}{camera}'
    options = {} if size is None else {'video_size': f'{size[1]}x{size[0]}'}
    if rate is not None:
        options['framerate'] = str(rate)
    try:
        container = av.open(file, format=kind, options=options)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise ffmpeg.VideoError(
            f'input={name}: no such camera, or it cannot be used ({error}); is it plugged in, used '
            'by no other program, and able to do frame_size= and frame_rate=?'
        ) from error
    with container:
        # Uncompressed frames are not tagged; by the USB video standard they are BT.601.
        yield reader.VideoReader(
            container, name, max_size=max_size, reopenable=False, matrix='ITU601'
        )
