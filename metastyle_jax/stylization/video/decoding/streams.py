"""Chooses the video stream to read from a file, which may hold several, and cover pictures."""

from typing import Any

from absl import logging

from metastyle_jax.stylization.video import ffmpeg

# FFmpeg's bits for the role of a stream: played by default, cover of a song, previews of a film.
_DEFAULT, _ATTACHED_PICTURE, _TIMED_THUMBNAILS = 0x1, 0x400, 0x800
_DEFAULT_BONUS = 5_000_000  # pixels by which FFmpeg prefers a stream that is played by default


def choose_picture(container: Any, name: str) -> Any:
    """Chooses the video stream that the program `ffmpeg` would choose; warns if there are several.

    That is the stream with the most pixels per frame, where a stream that is marked as default
    counts as 5 million pixels larger. Cover pictures and previews are never chosen.

    Args:
        container: the file, opened by PyAV.
        name: name of the file in messages.

    Returns:
        PyAV's stream.

    Raises:
        VideoError: the file has no video stream, or this build of FFmpeg cannot decode it.
    """
    pictures = list(container.streams.video)
    films = [stream for stream in pictures if not is_cover(stream)]
    if not films:
        kind = 'no film, only a cover picture' if pictures else 'no picture, only sound'
        raise ffmpeg.VideoError(f'{name} has {kind}: choose a file with moving pictures')
    readable = [stream for stream in films if stream.codec_context is not None]
    if not readable:
        raise ffmpeg.VideoError(
            f'{name}: this installation of PyAV has no decoder for its pictures: convert it '
            'to H.264 first, or install another version of PyAV'
        )
    chosen = max(readable, key=_preference)
    if len(films) > 1:
        logging.warning(
            '%s has %d video streams: stream %d, %d x %d pixels, is used', name, len(films),
            chosen.index, chosen.codec_context.width, chosen.codec_context.height,
        )  # fmt: skip
    return chosen


def is_cover(stream: Any) -> bool:
    """Whether a video stream holds a cover picture or preview pictures instead of a film."""
    return bool(int(stream.disposition) & (_ATTACHED_PICTURE | _TIMED_THUMBNAILS))


def _preference(stream: Any) -> int:
    context = stream.codec_context
    is_default = bool(int(stream.disposition) & _DEFAULT)
    return int(context.width * context.height + _DEFAULT_BONUS * is_default)
