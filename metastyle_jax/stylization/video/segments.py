"""A video in the making: segments in a folder beside it, joined in the end.

Every segment has its own encoder, begins with a key frame and gets its name only when it is whole,
so that what has a name can be kept whatever happens. A run that goes on drops the segment it was
in, and makes it again. As all segments have the same number of frames wherever a run was stopped,
what comes out is the same as that of a run that never was. Times are not taken from the
segments but from the source, frame by frame, and sound is copied from it when all is joined.
"""

import contextlib
import fractions
import hashlib
import heapq
import json
import os
import pathlib
import shutil
import zipfile
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from metastyle_jax.core import files
from metastyle_jax.core.errors import UserError
from metastyle_jax.storage import run_folder, tensor_files
from metastyle_jax.stylization.video import pipeline

ENCODING = 2  # counts changes of how frames are encoded
FRAMES = 48  # of a segment: what a stop can cost
# Of libx264. Without frames that are encoded out of order, a packet is a frame.
OPTIONS = {'crf': '18', 'preset': 'medium', 'bf': '0'}
BT709 = 1  # FFmpeg's number, for the three properties of colour


class VideoError(UserError):
    """A video that cannot be read or written; the message names the file and the remedy."""


def matrix(height: int, width: int) -> str | None:
    """PyAV's name of the colours that players suppose of untagged YUV, None for its default.

    Large frames are taken for BT.709 and small ones for BT.601.
    """
    return 'ITU709' if width >= 1280 or height > 576 else None


class Form(NamedTuple):
    """What all segments have in common.

    Attributes:
        height: of a frame.
        width: of a frame.
        rate: frames a second, on average.
        time_base: seconds of a unit of time.
        aspect: width of a pixel over its height.
    """

    height: int
    width: int
    rate: fractions.Fraction
    time_base: fractions.Fraction
    aspect: fractions.Fraction = fractions.Fraction(1)


def folder_of(target: pathlib.Path) -> pathlib.Path:
    """Where the segments of a video are."""
    return target.with_name(f'{target.name}.parts')


def settings_of(form: Form, length: int, **others: Any) -> dict[str, Any]:
    """All that a video depends on, JSON types; see `Segments`."""
    return dict(others, length=length, form=[str(value) for value in form], encoding=ENCODING)


def mark(settings: dict[str, Any]) -> str:
    """What a video says in its comment of the settings it was made with."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    return f'metastyle_jax {digest[:16]}'


def frames_of_whole(target: pathlib.Path, settings: dict[str, Any]) -> int | None:
    """Frames of a video that is finished; None where a run is to go on, or to begin.

    Raises:
        VideoError: it was made with other settings, or by another program.
    """
    import av

    if not target.exists() or folder_of(target).exists():
        return None
    try:
        with av.open(str(target)) as reader:
            made_with = reader.metadata.get('comment', reader.metadata.get('COMMENT'))
    except (av.error.FFmpegError, OSError):
        made_with = None
    if made_with != mark(settings):
        raise VideoError(
            f'{target} is there already, made with other settings or by another program: begin '
            'anew with --overwrite and without --resume, or choose another --output'
        )
    return _frames_in(target)


class Segments:
    """Writes frames in segments.

    Args:
        target: the video that shall be.
        form: of its frames.
        length: frames of a segment.
        settings: of `settings_of`; a run can be gone on with only under the same.
        resume: whether to keep what there is.

    Attributes:
        done: frames in whole segments that are kept.
        times: when each frame is shown, in units of the form's time base: those of `done` frames
            must be put here before `write`.

    Raises:
        VideoError: the folder cannot be used, or was made under other settings.
    """

    def __init__(
        self,
        target: pathlib.Path,
        form: Form,
        *,
        length: int = FRAMES,
        settings: dict[str, Any],
        resume: bool,
    ) -> None:
        self._target, self._form, self._length = target, form, length
        self._mark = mark(settings)
        self.folder = folder_of(target)
        self.times: list[int] = []
        self._container: Any = None
        self._count = 0  # frames of the segment that is open
        self._joined = False
        self._lock = contextlib.ExitStack()
        try:
            if self.folder.exists() and not resume:
                self._lock.enter_context(run_folder.lock(self.folder, flag='--output'))
                self._lock.close()  # nobody is at work there
                shutil.rmtree(self.folder)
            self._lock.enter_context(run_folder.lock(self.folder, flag='--output'))
            self._check(settings)
            whole = 0
            while _frames_in(self._name(whole)) == length:
                whole += 1
            for left in self.folder.glob('*.mkv'):
                if left.name >= self._name(whole).name:
                    left.unlink()
        except (OSError, tensor_files.CheckpointError) as error:
            self._lock.close()
            raise VideoError(f'{self.folder} cannot be used ({error})') from error
        except VideoError:
            self._lock.close()
            raise
        self._whole, self.done = whole, whole * length

    def _check(self, settings: dict[str, Any]) -> None:
        """Compares with the settings that are there, or writes them."""
        path = self.folder / 'settings.json'
        text = json.dumps(settings, sort_keys=True, indent=2)
        if not path.exists():
            files.write_whole(path, text.encode(), VideoError)
        try:
            before, now = dict(json.loads(path.read_text())), json.loads(text)
        except (ValueError, TypeError) as error:
            raise self._damaged(error) from error
        differing = sorted(
            key for key in {*before, *now} if before.get(key, ...) != now.get(key, ...)
        )
        if differing:
            told = '; '.join(f'{key}: {before.get(key)} -> {now.get(key)}' for key in differing)
            raise VideoError(
                f'{self.folder} was made with other settings ({told}): take those again, or begin '
                'anew with --overwrite and without --resume'
            )

    def _name(self, number: int) -> pathlib.Path:
        return self.folder / f'{number:06d}.mkv'

    def _state(self, number: int) -> pathlib.Path:
        return self.folder / f'{number:06d}.npz'

    @property
    def _open_name(self) -> pathlib.Path:
        return self.folder / 'open.mkv'

    def state(self) -> dict[str, np.ndarray]:
        """What `write` was given after the last frame of the whole segments."""
        if not self._whole:
            return {}
        try:
            with self._state(self._whole - 1).open('rb') as file, np.load(file) as arrays:
                return dict(arrays)
        except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> VideoError:
        return VideoError(
            f'{self.folder} is damaged ({error}): begin anew, with --overwrite and without --resume'
        )

    def write(self, frames: list[pipeline.Frame], state: dict[str, np.ndarray]) -> None:
        """Adds frames; `length` must be a multiple of their number, but for the last ones.

        Args:
            frames: that follow.
            state: of what makes them, after the last of them.

        Raises:
            VideoError: the disk is full, or frames cannot be encoded.
        """
        with self._explained():
            for frame in frames:
                if self._container is None:
                    self._begin()
                self._container.mux(self._stream.encode(self._picture(frame)))
                self.times.append(frame.pts)
                self._count += 1
            if self._count == self._length:
                self._end(state)

    def _begin(self) -> None:
        """Opens a segment; odd sizes need colour at full resolution."""
        import av

        form = self._form
        self._container = av.open(str(self._open_name), 'w')
        self._stream = self._container.add_stream('libx264', rate=form.rate, options=OPTIONS)
        self._stream.height, self._stream.width = form.height, form.width
        odd = form.height % 2 or form.width % 2
        self._stream.pix_fmt = 'yuv444p' if odd else 'yuv420p'
        context = self._stream.codec_context
        # Times are set when segments are joined. From its time base x264 derives the rate that the
        # stream declares, which is to be that of the frames.
        context.time_base = 1 / form.rate
        context.sample_aspect_ratio = form.aspect
        # Untagged, players take large frames for BT.709 and small ones for BT.601.
        context.color_primaries = context.color_trc = context.colorspace = BT709
        context.color_range = 1

    def _picture(self, frame: pipeline.Frame) -> Any:
        """A frame for the encoder."""
        import av

        picture = av.VideoFrame.from_ndarray(frame.pixels, format='rgb24')
        picture = picture.reformat(format=self._stream.pix_fmt, dst_colorspace='ITU709')
        picture.pts, picture.time_base = self._count, 1 / self._form.rate
        return picture

    def _close(self) -> None:
        """Ends the open segment's file."""
        container, self._container, self._count = self._container, None, 0
        with container:
            container.mux(self._stream.encode())
        with self._open_name.open('rb+') as opened:
            os.fsync(opened.fileno())

    def _end(self, state: dict[str, np.ndarray]) -> None:
        """Makes the open segment one of the whole ones."""
        self._close()
        with self._state(self._whole).open('wb') as opened:
            np.savez(opened, **state)  # type: ignore[arg-type]
            opened.flush()
            os.fsync(opened.fileno())
        os.replace(self._open_name, self._name(self._whole))
        if self._whole:
            self._state(self._whole - 1).unlink(missing_ok=True)
        self._whole += 1

    def finish(self, sound: pathlib.Path | None, *, whole: bool) -> None:
        """Joins what there is, with the sound of a file.

        Args:
            sound: a file with sound, or None.
            whole: whether no more frames will come. Otherwise sound ends with the frames, and the
                segments stay, to be gone on with.

        Raises:
            VideoError: the disk is full.
        """
        with self._explained():
            if self._container is not None:
                self._close()
            parts = [self._name(number) for number in range(self._whole)]
            if self._open_name.exists():
                parts.append(self._open_name)
            if self.times:
                join(
                    parts, self._target, self.times, self._form, sound,
                    whole=whole, comment=self._mark,
                )  # fmt: skip
                self._joined = True
        if whole:
            self._lock.close()
            shutil.rmtree(self.folder, ignore_errors=True)

    def close(self) -> None:
        """Lets go of the files; the open segment is lost, and a folder that holds nothing."""
        if self._container is not None:
            # What is wrong with the file is known already, or it is not wanted.
            with contextlib.suppress(Exception):
                self._container.close()
            self._container = None
        self._open_name.unlink(missing_ok=True)
        self._lock.close()
        if not self._whole and not self._joined:
            shutil.rmtree(self.folder, ignore_errors=True)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Says what is kept when writing fails."""
        import av

        try:
            yield
        except (av.error.FFmpegError, OSError) as error:
            reason = getattr(error, 'strerror', None) or str(error)
            kept = self._whole * self._length
            remedy = f'and go on with --resume: {kept} frames are kept in {self.folder}'
            raise VideoError(
                f'{self._target} cannot be written ({reason}): free some space, '
                f'{remedy if kept else "or choose another --output"}'
            ) from error


def _frames_in(path: pathlib.Path) -> int:
    """Frames of a segment; 0 where there is none that can be read."""
    import av

    try:
        with av.open(str(path)) as reader:
            return sum(1 for packet in reader.demux(video=0) if packet.size)
    except (av.error.FFmpegError, OSError, IndexError):
        return 0


def check_sound(target: pathlib.Path, sound: list[Any]) -> None:
    """Raises VideoError if a file of this kind cannot hold the sound.

    Args:
        target: of which the suffix counts.
        sound: streams.
    """
    import av

    for stream in sound:
        with av.open(os.devnull, 'w', format=_format(target)) as container:
            try:
                container.add_stream_from_template(stream)
                container.start_encoding()
            except (av.error.FFmpegError, ValueError) as error:
                raise VideoError(
                    f'{target}: sound of the kind {stream.codec_context.name} cannot be in '
                    f'{target.suffix}; choose .mkv'
                ) from error


def _format(target: pathlib.Path) -> str:
    """FFmpeg's name of a container."""
    return {'.mkv': 'matroska', '.mov': 'mov'}.get(target.suffix.lower(), 'mp4')


def join(
    parts: list[pathlib.Path],
    target: pathlib.Path,
    times: list[int],
    form: Form,
    sound: pathlib.Path | None,
    *,
    whole: bool,
    comment: str,
) -> None:
    """Puts segments together without encoding them again; the file appears whole or not at all.

    Args:
        parts: segments, in order.
        target: to write.
        times: of all frames.
        form: of the frames.
        sound: a file of which sound is copied, or None.
        whole: whether all sound is copied, or only up to the last frame's end.
        comment: goes into the file.
    """
    import av

    made = target.with_name(f'.{target.name}.{os.getpid()}.part')
    kind = _format(target)
    # The index goes to the front, so that playing can begin before all is there.
    options = {} if kind == 'matroska' else {'movflags': 'faststart'}
    try:
        with (
            contextlib.ExitStack() as stack,
            av.open(str(made), 'w', format=kind, options=options) as writer,
        ):
            writer.metadata['comment'] = comment
            first = stack.enter_context(av.open(str(parts[0])))
            stream = writer.add_stream_from_template(first.streams.video[0])
            stream.time_base = form.time_base
            lines = [_pictures(parts, times, form, stream)]
            if sound is not None:
                reader = stack.enter_context(av.open(str(sound)))
                end = None if whole else float(times[-1] * form.time_base + 1 / form.rate)
                lines.append(_sound(reader, writer, end))
            for packet in heapq.merge(*lines, key=lambda item: item[0]):
                writer.mux(packet[1])
        with made.open('rb+') as opened:
            os.fsync(opened.fileno())
        os.replace(made, target)
    finally:
        made.unlink(missing_ok=True)


def _pictures(
    parts: list[pathlib.Path], times: list[int], form: Form, stream: Any
) -> Iterator[tuple[float, Any]]:
    """Packets of all segments, and their times in seconds."""
    import av

    clock = iter(zip(times, times[1:], strict=False))
    usual = max(1, round(1 / form.rate / form.time_base))
    for part in parts:
        with av.open(str(part)) as reader:
            for packet in reader.demux(video=0):
                if packet.size:
                    now, then = next(clock, (times[-1], times[-1] + usual))
                    packet.stream, packet.time_base = stream, form.time_base
                    packet.pts = packet.dts = now
                    packet.duration = then - now
                    yield float(now * form.time_base), packet


def _sound(reader: Any, writer: Any, end: float | None) -> Iterator[tuple[float, Any]]:
    """Packets of sound, and their times in seconds."""
    import av

    copies = {s.index: writer.add_stream_from_template(s) for s in reader.streams.audio}
    return _packets(reader, copies, end, av.error.FFmpegError) if copies else iter(())


def _packets(
    reader: Any, copies: dict[int, Any], end: float | None, broken: type[Exception]
) -> Iterator[tuple[float, Any]]:
    """Goes through the file; where it cannot be read any further, sound ends."""
    last = 0.0
    with contextlib.suppress(broken):
        for packet in reader.demux(*reader.streams.audio):
            if packet.dts is None:
                continue
            time = float(packet.dts * packet.time_base)
            if end is not None and time >= end:
                continue
            packet.stream = copies[packet.stream.index]
            last = max(last, time)  # several streams may not be in order
            yield last, packet
