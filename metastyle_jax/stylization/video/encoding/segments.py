"""Writes a video as encoded segments in a folder beside the target, and joins them at the end.

A segment gets its final name only when it is complete, so a resumed run can keep every file with a
final name. It encodes the incomplete segment again. Each segment has its own encoder and begins
with a key frame, and all segments have the same number of frames. So a resumed run writes the same
file as a run that was never stopped.
"""

import contextlib
import errno
import hashlib
import json
import os
import pathlib
import shutil
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np

from metastyle_jax.core import files
from metastyle_jax.storage import run_folder, tensor_files
from metastyle_jax.stylization.video import ffmpeg, pipeline
from metastyle_jax.stylization.video.encoding import containers, joining, segment_encoder
from metastyle_jax.stylization.video.encoding.tracks import planning, tags

ENCODING_VERSION = 3  # raised whenever frames are encoded in another way
_MOST_NAME = 143  # bytes of a file name that eCryptfs can store; other disks take 255
# The disk is full, or the user's share of it, or its largest file.
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
SEGMENT_FRAMES = 48  # the work that is lost when a run is stopped


def segment_folder(target: pathlib.Path) -> pathlib.Path:
    """Returns the folder for the segments of a video: the name of the video with `.parts` added.

    If this name would be too long for an encrypted disk, it is shortened, and a hash of the video's
    name is added so that two videos never share a folder.
    """
    name = f'{target.name}.parts'
    if len(os.fsencode(name)) > _MOST_NAME:
        digest = hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16]
        stem = os.fsencode(target.name)[: _MOST_NAME - len(f'~{digest}.parts')]
        # A cut within a character would leave bytes that are no text.
        name = f'{stem.decode(errors="ignore")}~{digest}.parts'
    return target.with_name(name)


def recorded_settings(
    video_format: ffmpeg.VideoFormat, length: int, **others: Any
) -> dict[str, Any]:
    """Collects all settings that change the encoded frames, as JSON types.

    A stopped run can be resumed only with equal settings.

    Args:
        video_format: format of the frames.
        length: frames per segment.
        **others: further settings, JSON types.
    """
    # The keys are those of the files: a stopped run is resumed only if they are equal.
    described = [str(value) for value in video_format]
    return dict(others, length=length, form=described, encoding=ENCODING_VERSION)


class SegmentWriter:
    """Writes frames in segments, and joins them.

    Args:
        target: the video to make.
        video_format: format of its frames.
        length: frames per segment.
        settings: result of `recorded_settings`.
        resume: whether to keep the complete segments of a stopped run. If False, they are deleted.

    Attributes:
        folder: the folder of the segments.
        done: number of frames in the complete segments that were kept.
        times: time of each frame, in units of the format's time base. The caller must append the
            times of the `done` kept frames before the first call of `write`.

    Raises:
        VideoError: the folder of segments cannot be used, another process uses it, or it was made
            with other settings.
    """

    def __init__(
        self,
        target: pathlib.Path,
        video_format: ffmpeg.VideoFormat,
        *,
        length: int = SEGMENT_FRAMES,
        settings: dict[str, Any],
        resume: bool,
    ) -> None:
        self._target, self._format, self._length = target, video_format, length
        self._encoder_name = containers.container_of(target).encoder
        self._comment = tags.settings_comment(settings)
        self.folder = segment_folder(target)
        self.times: list[int] = []
        self._encoder: segment_encoder.SegmentEncoder | None = None
        self._joined = False
        self._lock = contextlib.ExitStack()
        try:
            if self.folder.exists() and not resume:
                # Nobody else may be at work there while it is deleted.
                with run_folder.lock(self.folder, name='output'):
                    pass
                shutil.rmtree(self.folder)
            self._lock.enter_context(run_folder.lock(self.folder, name='output'))
            self._check_settings(settings)
            self._complete = self._keep_complete_segments()
        except (OSError, tensor_files.CheckpointError) as error:
            self._lock.close()
            raise ffmpeg.VideoError(f'{self.folder} cannot be used ({error})') from error
        except ffmpeg.VideoError:
            self._lock.close()
            raise
        self.done = self._complete * length

    def _check_settings(self, settings: dict[str, Any]) -> None:
        """Compares the settings with those in the folder; writes them to an empty folder."""
        path = self.folder / 'settings.json'
        text = json.dumps(settings, sort_keys=True, indent=2)
        if not path.exists():
            files.write_whole(path, text.encode(), ffmpeg.VideoError)
        try:
            before, now = dict(json.loads(path.read_text())), json.loads(text)
        except (ValueError, TypeError) as error:
            raise self._damaged(error) from error
        differing = [
            f'{key}: {before.get(key)} -> {now.get(key)}'
            for key in sorted({*before, *now})
            if before.get(key, ...) != now.get(key, ...)
        ]
        if differing:
            raise ffmpeg.VideoError(
                f'{self.folder} was made with other settings ({"; ".join(differing)}): use those '
                'settings again, or pass overwrite=True instead of resume=True'
            )

    def _keep_complete_segments(self) -> int:
        """Counts the complete segments from the first one on; deletes all other video files."""
        complete = 0
        while segment_encoder.count_frames(self._segment(complete)) == self._length:
            complete += 1
        for file in self.folder.glob('*.mkv'):
            if file.name >= self._segment(complete).name:
                file.unlink()
        return complete

    def _segment(self, number: int) -> pathlib.Path:
        return self.folder / f'{number:06d}.mkv'

    def _state_file(self, number: int) -> pathlib.Path:
        return self.folder / f'{number:06d}.npz'

    @property
    def _open_segment(self) -> pathlib.Path:
        return self.folder / 'open.mkv'

    def state(self) -> dict[str, np.ndarray]:
        """Reads the renderer's state after the last complete segment; empty if there is none."""
        if not self._complete:
            return {}
        try:
            with self._state_file(self._complete - 1).open('rb') as file, np.load(file) as arrays:
                return dict(arrays)
        except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> ffmpeg.VideoError:
        return ffmpeg.VideoError(
            f'{self.folder} is damaged ({error}): pass overwrite=True instead of resume=True, to '
            'begin anew'
        )

    def write(self, frames: list[pipeline.Frame], state: dict[str, np.ndarray]) -> None:
        """Encodes the next frames.

        Args:
            frames: the next frames. Except in the last call, their number must divide `length`.
            state: state of the renderer after the last of these frames.

        Raises:
            VideoError: the disk is full, or the frames cannot be encoded.
        """
        with self._errors_named():
            for frame in frames:
                if self._encoder is None:
                    self._encoder = segment_encoder.SegmentEncoder(
                        self._open_segment, self._format, self._encoder_name
                    )
                self._encoder.write(frame.pixels)
                self.times.append(frame.pts)
            if self._encoder is not None and self._encoder.count == self._length:
                self._complete_segment(state)

    def _close_encoder(self) -> None:
        """Ends the file of the open segment."""
        if self._encoder is not None:
            encoder, self._encoder = self._encoder, None
            encoder.close()

    def _complete_segment(self, state: dict[str, np.ndarray]) -> None:
        """Saves the renderer's state, and gives the open segment its final name."""
        self._close_encoder()
        # The state comes first: a segment with a name must have one.
        with self._state_file(self._complete).open('wb') as opened:
            np.savez(opened, **state)  # type: ignore[arg-type]
            opened.flush()
            os.fsync(opened.fileno())
        os.replace(self._open_segment, self._segment(self._complete))
        if self._complete:
            self._state_file(self._complete - 1).unlink(missing_ok=True)
        self._complete += 1

    def finish(
        self,
        plan: planning.Plan | None,
        *,
        last_duration: int | None = None,
        complete: bool,
    ) -> None:
        """Joins all frames written so far into the target.

        Args:
            plan: what is written beside the picture; None to write only the picture.
            last_duration: how long the last frame is shown, in units of the format's time base;
                None for one frame at the average rate.
            complete: whether these are all frames of the video. If not, the sound ends with the
                frames, and the segments are kept so that a later run can resume.

        Raises:
            VideoError: the target cannot be written, for example because the disk is full.
        """
        with self._errors_named():
            self._close_encoder()
            parts = [self._segment(number) for number in range(self._complete)]
            if self._open_segment.exists():
                parts.append(self._open_segment)
            if self.times:
                joining.join(
                    parts, self._target, self.times, self._format, plan,
                    last_duration=last_duration, complete=complete, comment=self._comment,
                )  # fmt: skip
                self._joined = True
        if complete:
            self._lock.close()
            shutil.rmtree(self.folder, ignore_errors=True)

    def close(self) -> None:
        """Releases all files and deletes the incomplete segment.

        The folder is deleted too if it holds no complete segment and nothing was joined.
        """
        if self._encoder is not None:
            # The open segment is deleted next, so it does not matter whether it can be ended.
            with contextlib.suppress(Exception):
                self._encoder.abandon()
            self._encoder = None
        self._open_segment.unlink(missing_ok=True)
        self._lock.close()
        if not self._complete and not self._joined:
            shutil.rmtree(self.folder, ignore_errors=True)

    @contextlib.contextmanager
    def _errors_named(self) -> Iterator[None]:
        """Turns errors of writing into a VideoError that says how many frames are kept."""
        import av

        try:
            yield
        except (av.error.FFmpegError, OSError) as error:
            reason = getattr(error, 'strerror', None) or str(error)
            remedy = 'choose another output'
            if getattr(error, 'errno', None) in _DISK_FULL:
                remedy = 'free some disk space, or choose another output'
            elif isinstance(error, PermissionError) or getattr(error, 'errno', None) == errno.EROFS:
                remedy = f'make {self._target.parent} writable, or choose another output'
            if kept := self._complete * self._length:
                remedy = remedy.replace('or choose another output', 'and resume with resume=True')
                remedy += f': {kept} frames are kept in {self.folder}'
            raise ffmpeg.VideoError(
                f'{self._target} cannot be written ({reason}): {remedy}'
            ) from error
