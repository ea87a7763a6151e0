"""Reads a video, renders its frames and writes them to another video; can resume a stopped run."""

import contextlib
import errno
import hashlib
import itertools
import os
import pathlib
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from absl import logging

from metastyle_jax.stylization.video import ffmpeg, pipeline
from metastyle_jax.stylization.video.decoding import reader
from metastyle_jax.stylization.video.encoding import containers, segment_encoder, segments
from metastyle_jax.stylization.video.encoding.tracks import planning, tags

_HASHED_BYTES = 2**20  # of the beginning and of the end of a file, see `fingerprint`


def check_video_output(
    path: pathlib.Path, source: pathlib.Path | None, *, overwrite: bool, resume: bool = False
) -> None:
    """Raises VideoError if a video cannot be written; called before any work is done.

    Args:
        path: the video to be written later.
        source: the input video, which is never replaced; None for a live input.
        overwrite: whether an existing video may be replaced.
        resume: whether a stopped run will be resumed.
    """
    containers.container_of(path)
    _check_name(path)
    folder = segments.segment_folder(path)
    if source is not None and path.exists() and source.exists() and path.samefile(source):
        raise ffmpeg.VideoError(f'{path} is the input itself: choose another output')
    if not path.parent.is_dir():
        raise ffmpeg.VideoError(f'{path} cannot be written: there is no folder {path.parent}')
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise ffmpeg.VideoError(
            f'{path} cannot be written: make {path.parent} writable, or choose another output'
        )
    if overwrite or resume:
        return
    if folder.exists():
        raise ffmpeg.VideoError(
            f'{folder} holds the unfinished {path.name} of a stopped run: pass resume=True to '
            'continue it, or overwrite=True to begin anew'
        )
    if path.exists():
        raise ffmpeg.VideoError(
            f'{path} exists already: pass overwrite=True to replace it, or choose another output'
        )


def _check_name(path: pathlib.Path) -> None:
    """Raises VideoError if the name of a file is too long for the disk."""
    try:
        path.lstat()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            length = len(os.fsencode(path.name))
            raise ffmpeg.VideoError(
                f'{path} cannot be written: its name has {length} bytes, which is too long for '
                'the disk (most disks take 255, encrypted ones 143): choose a shorter name'
            ) from error


def convert_video(
    source: pathlib.Path,
    target: pathlib.Path,
    render: pipeline.FrameRenderer,
    *,
    max_size: int | None = None,
    settings: dict[str, Any] | None = None,
    **options: Any,
) -> int:
    """Renders every frame of a video; keeps its sound, size, rotation and frame times.

    Args:
        source: the video.
        target: the video to write; its suffix is a key of `containers.CONTAINERS`. The file appears
            at the end; if the work is stopped early, it holds the frames rendered so far.
        render: renders a batch of frames.
        max_size: limit of the longer side of the frames in pixels; None for no limit.
        settings: all settings that change the output of `render`, as JSON types. A stopped run is
            resumed only if they are equal.
        **options: further arguments of `record`.

    Returns:
        The number of frames in the target.

    Raises:
        VideoError: a file cannot be read or written, or holds no frames.
    """
    with reader.open_video(source, max_size=max_size) as opened:
        return record(opened, target, render, source=source, settings=settings or {}, **options)


def record(
    frame_source: pipeline.FrameSource,
    target: pathlib.Path,
    render: pipeline.FrameRenderer,
    *,
    settings: dict[str, Any],
    batch: int = 4,
    source: pathlib.Path | None = None,
    resume: bool = False,
    newest_only: bool = False,
    length: int = segments.SEGMENT_FRAMES,
    sound: str = 'copy',
    keep_location: bool = False,
    progress: Callable[[int], None] = lambda frames: None,
    stopped: Callable[[], bool] = lambda: False,
    ended: threading.Event | None = None,
) -> int:
    """Renders the frames of a source into a file.

    Args:
        frame_source: the frames.
        target: see `convert_video`.
        render: see `convert_video`.
        settings: see `convert_video`.
        batch: frames that are rendered at once; the last batch may be smaller.
        source: the file that the frames come from; its sound is copied. None for a live input.
        resume: whether to continue a stopped run; a finished video is not changed.
        newest_only: whether to drop frames that arrive faster than they are rendered.
        length: frames per segment, rounded up to whole batches.
        sound: 'copy' encodes only sound that cannot be copied, a key of `sound.ENCODERS` encodes
            all sound, and 'none' leaves the sound out.
        keep_location: whether to keep tags that say where the video was filmed.
        progress: called with the number of frames that were written since its last call.
        stopped: returns True to end early.
        ended: see `pipeline.render_frames`.

    Returns:
        The number of frames in the target.

    Raises:
        VideoError: the target cannot be written, or the frames cannot be read.
    """
    import av

    plan = None
    if source is not None:
        settings = dict(
            settings, max_size=frame_source.max_size, source=fingerprint(source),
            sound=sound, keep_location=keep_location,
        )  # fmt: skip
    video_format = ffmpeg.VideoFormat(
        *frame_source.size, frame_source.rate, frame_source.time_base, frame_source.aspect
    )
    # A segment ends where a batch ends, because the renderer's state is known only there.
    length = -(-length // batch) * batch
    settings = segments.recorded_settings(
        video_format, length, **settings, batch=batch, pyav=av.__version__
    )
    if resume and (finished := _frames_of_finished(target, settings)) is not None:
        logging.info('%s is complete already: there is nothing to resume', target)
        return finished
    if source is not None:
        plan = planning.make_plan(
            source, target,
            start=frame_source.start, sound_choice=sound, keep_location=keep_location,
        )  # fmt: skip
    work = segments.SegmentWriter(
        target, video_format, length=length, settings=settings, resume=resume
    )
    with (
        contextlib.closing(work),
        ffmpeg.errors_as_video_errors(frame_source.name, target),
    ):
        _skip_done_frames(frame_source, work, render)
        if work.done:
            progress(work.done)

        def write(frames: list[pipeline.Frame], state: dict[str, np.ndarray]) -> None:
            work.write(frames, state)
            progress(len(frames))

        dropped = pipeline.render_frames(
            frame_source.frames(), render, write, batch=batch,
            ended=ended or threading.Event(), newest_only=newest_only, stopped=stopped,
        )  # fmt: skip
        if dropped:
            logging.info('%d frames arrived too fast and were left out', dropped)
        is_stopped = stopped()
        work.finish(
            plan,
            # After a stop, the last frame that was read is not the last one that was written.
            last_duration=None if is_stopped else frame_source.last_duration,
            # A live input that is stopped cannot be resumed, so its video is complete.
            complete=not is_stopped or not frame_source.reopenable,
        )
    return len(work.times)


def _frames_of_finished(target: pathlib.Path, settings: dict[str, Any]) -> int | None:
    """Counts the frames of a finished video.

    Args:
        target: the video.
        settings: result of `segments.recorded_settings`.

    Returns:
        The number of frames; None if there is no video yet, or it is the unfinished video of a
        stopped run.

    Raises:
        VideoError: the video was made with other settings, or by another program.
    """
    import av

    if not target.exists() or segments.segment_folder(target).exists():
        return None
    try:
        with av.open(str(target)) as opened:  # Matroska writes the names of metadata in capitals
            comment = opened.metadata.get('comment', opened.metadata.get('COMMENT', ''))
    except (av.error.FFmpegError, OSError):
        comment = ''
    if tags.settings_comment(settings) not in comment:
        raise ffmpeg.VideoError(
            f'{target} exists already, made with other settings or by another program: pass '
            'overwrite=True instead of resume=True, or choose another output'
        )
    return segment_encoder.count_frames(target)


def _skip_done_frames(
    frame_source: pipeline.FrameSource, work: segments.SegmentWriter, render: pipeline.FrameRenderer
) -> None:
    """Moves the source and the renderer to the first frame that no kept segment holds."""
    for pts in itertools.islice(frame_source.skipped_times(), work.done):
        work.times.append(pts)
    if len(work.times) < work.done:
        raise ffmpeg.VideoError(
            f'{work.folder} has more frames than {frame_source.name}: remove that folder'
        )
    if state := work.state():
        render.restore(state)  # type: ignore[attr-defined]


def fingerprint(path: pathlib.Path) -> str:
    """Identifies a file by its size and a hash of its first and last megabyte.

    This is faster than a hash of the whole file.
    """
    size = path.stat().st_size
    with path.open('rb') as file:
        digest = hashlib.sha256(file.read(_HASHED_BYTES))
        file.seek(max(0, size - _HASHED_BYTES))
        digest.update(file.read(_HASHED_BYTES))
    return f'{size} bytes, {digest.hexdigest()[:16]}'
