"""Video to video, frame by frame, through PyAV, an optional dependency.

Reads films, pipes and cameras alike as a `Clip`; `pipeline` moves the frames and `segments` writes
them.
"""

import contextlib
import fractions
import hashlib
import importlib.util
import itertools
import pathlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from absl import logging

from metastyle_jax.stylization.video import pipeline, raw_frames, segments
from metastyle_jax.stylization.video.segments import VideoError as VideoError

SUFFIXES = (
    '.mp4',
    '.mov',
    '.mkv',
    '.m4v',
    '.avi',
    '.webm',
    '.flv',
    '.mpg',
    '.mpeg',
    '.ts',
    '.wmv',
    '.ogv',
)
SUFFIXES_OUT = ('.mp4', '.mov', '.mkv', '.m4v')
_UNSPECIFIED = 2  # FFmpeg's number of a colour matrix that a file does not tell
MISSING = 0.25  # seconds between the end that a header names and the last frame, to be told


def is_video(path: pathlib.Path) -> bool:
    """Whether a file's name is that of a video."""
    return not path.is_dir() and path.suffix.lower() in SUFFIXES


def check_output(
    path: pathlib.Path, source: pathlib.Path | None, *, overwrite: bool, resume: bool = False
) -> None:
    """Raises VideoError for a name that cannot be written, or is that of the source."""
    parts = segments.folder_of(path)
    if path.suffix.lower() not in SUFFIXES_OUT:
        raise VideoError(f'{path} must end in one of {", ".join(SUFFIXES_OUT)}')
    if source is not None and path.exists() and source.exists() and path.samefile(source):
        raise VideoError(f'{path} is the input itself: choose another --output')
    if not path.parent.is_dir():
        raise VideoError(f'{path} cannot be written: there is no folder {path.parent}')
    if overwrite or resume:
        return
    if parts.exists():
        raise VideoError(
            f'{parts} holds what a stopped run has made of {path}: pass --resume to go on with it, '
            'or --overwrite to begin anew'
        )
    if path.exists():
        raise VideoError(f'{path} exists already: pass --overwrite to replace it, or another name')


def convert(
    source: pathlib.Path,
    target: pathlib.Path,
    render: pipeline.Render,
    *,
    max_size: int | None = None,
    settings: dict[str, Any] | None = None,
    **how: Any,
) -> int:
    """Renders every frame of a video; sound, size, times of frames and rotation are kept.

    Args:
        source: the video.
        target: to write, H.264 in .mp4, .mov or .mkv; it appears when all is done, or when the
            work is stopped, with what is done.
        render: what to do with a batch of frames.
        max_size: reduces the longer side to this many pixels.
        settings: whatever `render` depends on; a run is gone on with only under the same.
        **how: of `record`.

    Returns:
        The number of frames that the target has.

    Raises:
        VideoError: a file cannot be read or written, or holds no frames.
    """
    with opened(source, max_size=max_size) as clip:
        return record(clip, target, render, source=source, settings=settings or {}, **how)


def record(
    clip: Any,
    target: pathlib.Path,
    render: pipeline.Render,
    *,
    settings: dict[str, Any],
    batch: int = 4,
    source: pathlib.Path | None = None,
    resume: bool = False,
    latest: bool = False,
    length: int = segments.FRAMES,
    progress: Callable[[int], None] = lambda frames: None,
    stopped: Callable[[], bool] = lambda: False,
    over: threading.Event | None = None,
) -> int:
    """Renders the frames of a clip into a file.

    Args:
        clip: a `Clip`, or what looks like one.
        target: see `convert`.
        render: see `convert`.
        settings: see `convert`.
        batch: frames at once; the last batch may be smaller.
        source: the clip's file, of which the sound is copied; None where it has none.
        resume: whether to go on with what a stopped run has made; a finished one is left as it is.
        latest: leave out frames that come too fast.
        length: frames of a segment, rounded up to whole batches.
        progress: is told how many frames more there are.
        stopped: whether to end early, with what is done.
        over: see `pipeline.run`.

    Returns:
        The number of frames that the target has.

    Raises:
        VideoError: the target cannot be written, or the clip cannot be read.
    """
    import av

    if source is not None:
        segments.check_sound(target, clip.sound)
        settings = dict(settings, max_size=clip.max_size, source=fingerprint(source))
    height, width = clip.size
    form = segments.Form(height, width, clip.rate, clip.time_base, clip.aspect)
    length = -(-length // batch) * batch
    settings = segments.settings_of(form, length, **settings, batch=batch, pyav=av.__version__)
    if resume and (there := segments.frames_of_whole(target, settings)) is not None:
        logging.info('%s is there already, and nothing is left to go on with', target)
        return there
    work = segments.Segments(target, form, length=length, settings=settings, resume=resume)
    with contextlib.closing(work), explained(clip.name, target):
        for pts in itertools.islice(clip.times(), work.done):
            work.times.append(pts)
        if len(work.times) < work.done:
            raise VideoError(f'{work.folder} has more frames than {clip.name}: remove it')
        if state := work.state():
            render.restore(state)  # type: ignore[attr-defined]
        if work.done:
            progress(work.done)

        def write(frames: list[pipeline.Frame], state: dict[str, np.ndarray]) -> None:
            work.write(frames, state)
            progress(len(frames))

        left_out = pipeline.run(
            clip.frames(), render, write,
            batch=batch, over=over or threading.Event(), latest=latest, stopped=stopped,
        )  # fmt: skip
        if left_out:
            logging.info('%d frames came too fast and were left out', left_out)
        work.finish(source, whole=not stopped() or not clip.again)
    return len(work.times)


@contextlib.contextmanager
def explained(source: str, target: pathlib.Path | str) -> Iterator[None]:
    """Turns what FFmpeg raises into a VideoError."""
    import av

    try:
        yield
    except av.error.FFmpegError as error:
        raise VideoError(
            f'{source} to {target}: {type(error).__name__}, {str(error) or "no reason given"}'
        ) from error


def require() -> None:
    """Raises VideoError, naming the extra, where PyAV is missing."""
    if importlib.util.find_spec('av') is None:
        raise VideoError("video needs PyAV: pip install 'metastyle_jax[video]'")


@contextlib.contextmanager
def opened(
    source: pathlib.Path | raw_frames.Pipe, *, max_size: int | None = None, kind: str | None = None
) -> Iterator['Clip']:
    """A file or a pipe to read, which has at least one frame.

    Args:
        source: the file, or the standard input.
        max_size: reduces the longer side of frames.
        kind: FFmpeg's name of the container; None to find out.

    Raises:
        VideoError: the file is missing, no video, or has no frames.
    """
    require()
    import av

    again = isinstance(source, pathlib.Path)
    name = str(source) if again else 'standard input'
    if isinstance(source, pathlib.Path) and not source.exists():
        raise VideoError(f'{name}: there is no such file')
    try:
        container = av.open(str(source) if again else source, format=kind)
    except (av.error.FFmpegError, OSError) as error:
        raise VideoError(
            f'{name} is no video that can be read, or is cut short ({error}): save or download it '
            'again'
        ) from error
    with container:
        yield Clip(container, name, max_size=max_size, again=again)


class Clip:
    """Frames to read, upright, in the order in which they are shown.

    Args:
        container: opened by PyAV.
        name: for messages.
        max_size: reduces the longer side.
        again: whether it can be opened once more; a pipe and a camera cannot.
        matrix: PyAV's name of the colours of frames that tell nothing; None for those that players
            suppose, see `segments.matrix`.

    Attributes:
        size: height and width of the frames that come out.
        rate: frames a second, on average.
        time_base: seconds of a unit of time.
        aspect: width of a pixel over its height, as shown.
        max_size: see above.

    Raises:
        VideoError: there is no frame.
    """

    def __init__(
        self,
        container: Any,
        name: str,
        *,
        max_size: int | None = None,
        again: bool = True,
        matrix: str | None = None,
    ) -> None:
        self.container, self.name, self.again = container, name, again
        self.max_size, self._matrix = max_size, matrix
        self._damage: list[float] = []
        self._packets_read = 0
        self._begin: int | None = None if not again else 0  # a camera's clock began long ago
        self._last: int | None = None
        if not container.streams.video:
            raise VideoError(f'{name} has no picture, only sound')
        self.stream = container.streams.video[0]
        self.stream.thread_type = 'AUTO' if again else 'SLICE'  # without delay
        self.rate = fractions.Fraction(self.stream.average_rate or 25)
        self.time_base = fractions.Fraction(self.stream.time_base)
        self._usual = max(1, round(1 / self.rate / self.time_base))
        self._line = self._decoded()
        with explained(name, 'frames'):
            first = next(self._line, None)
        if first is None:
            raise VideoError(f'{name} has no frame that can be read: is it whole?')
        self._line = itertools.chain([first], self._line)
        height, width, _ = self._pixels(first).shape
        self.size = height, width
        aspect = fractions.Fraction(self.stream.sample_aspect_ratio or 1)
        self.aspect = 1 / aspect if _quarters(first) % 2 else aspect

    @property
    def total(self) -> int:
        """About how many frames there are, or 0 if unknown."""
        frames = self.stream.frames
        if not frames and self.container.duration and self.stream.average_rate:
            frames = round(self.container.duration / 1e6 * self.stream.average_rate)
        return frames

    @property
    def sound(self) -> list[Any]:
        """Audio streams."""
        return list(self.container.streams.audio)

    def times(self) -> Iterator[int]:
        """Passes over frames, and tells when they are shown, in units of `time_base`."""
        for frame in self._line:
            yield self._pts(frame)

    def frames(self) -> Iterator[pipeline.Frame]:
        """All frames that `times` has not passed over.

        Raises:
            VideoError: the size of frames changes.
        """
        for frame in self._line:
            pixels = self._pixels(frame)
            if pixels.shape[:2] != self.size:
                raise VideoError(
                    f'{self.name} changes its size at {self._at(frame)}, from '
                    f'{self.size[1]} x {self.size[0]} pixels: convert it to one size first'
                )
            yield pipeline.Frame(pixels, self._pts(frame))

    def _pts(self, frame: Any) -> int:
        """When a frame is shown: after the one before, whatever the file says."""
        pts = frame.pts
        if pts is not None:
            self._begin = pts if self._begin is None else self._begin
            pts -= self._begin
        if self._last is not None and (pts is None or pts <= self._last):
            pts = self._last + self._usual if pts is None else self._last + 1
        self._last = 0 if pts is None else pts
        return self._last

    def _pixels(self, frame: Any) -> np.ndarray:
        """`[H, W, 3] uint8`, turned as the file says."""
        tagged = frame.colorspace != _UNSPECIFIED
        matrix = self._matrix or segments.matrix(frame.height, frame.width)
        pixels = frame.to_ndarray(format='rgb24', src_colorspace=None if tagged else matrix)
        turned = np.ascontiguousarray(np.rot90(pixels, _quarters(frame)))
        return raw_frames.reduced(turned, self.max_size)

    def _decoded(self) -> Iterator[Any]:
        """Frames of PyAV; what is damaged is told and left out."""
        import av

        time, span = 0.0, 0.0
        usual = float(1 / self.rate)
        for packet in self._packets():
            try:
                found = packet.decode()
            except av.error.InvalidDataError:
                self._tell(time if packet.pts is None else float(packet.pts * packet.time_base))
                continue
            for frame in found:
                time = time if frame.time is None else frame.time
                span = max(usual, float((frame.duration or 0) * self.stream.time_base))
                if frame.is_corrupt:
                    self._tell(time)
                yield frame
        self._check_end(time + span)

    def _packets(self) -> Iterator[Any]:
        """Packets of the picture; reading goes on behind damage for as long as there are more."""
        import av

        time, more = 0.0, True
        while more:
            more = False
            try:
                for packet in self.container.demux(self.stream):
                    more = more or packet.size > 0
                    self._packets_read += packet.size > 0
                    time = time if packet.pts is None else float(packet.pts * packet.time_base)
                    yield packet
                return
            except av.error.InvalidDataError:
                self._tell(time)

    def _tell(self, time: float) -> None:
        """Warns of the first damage, and counts."""
        if not self._damage:
            logging.warning(
                '%s is damaged at about %.2f s: what can be read is kept, and all else left out',
                self.name,
                time,
            )
        self._damage.append(time)

    def _check_end(self, time: float) -> None:
        """Warns of damage, and of an end that comes too early."""
        if len(self._damage) > 1:
            logging.warning(
                '%s is damaged in %d places, from %.2f s to %.2f s',
                self.name,
                len(self._damage),
                min(self._damage),
                max(self._damage),
            )
        end = _end(self.container, self.stream)
        there = not self.stream.frames or self._packets_read >= self.stream.frames
        if not there or (end is not None and time < end - MISSING):
            logging.warning(
                '%s ends at %.2f s, though its header says %s: the rest cannot be read',
                self.name,
                time,
                f'{self.stream.frames} frames' if end is None else f'{end:.2f} s',
            )

    @staticmethod
    def _at(frame: Any) -> str:
        return 'an unknown time' if frame.time is None else f'{frame.time:.2f} s'


def _quarters(frame: Any) -> int:
    """Quarter turns, counter-clockwise, that make a frame upright."""
    return round(getattr(frame, 'rotation', 0) / 90)


def _end(container: Any, stream: Any) -> float | None:
    """Seconds at which the picture ends, by the header."""
    begin = float((stream.start_time or 0) * stream.time_base)
    if stream.duration:
        return begin + float(stream.duration * stream.time_base)
    with contextlib.suppress(ValueError):  # Matroska
        hours, minutes, seconds = map(float, stream.metadata.get('DURATION', '').split(':'))
        return 3600 * hours + 60 * minutes + seconds
    if container.duration and not container.streams.audio:
        return begin + container.duration / 1e6
    return None


def fingerprint(path: pathlib.Path) -> str:
    """Size and a hash of a file's beginning and end."""
    size, part = path.stat().st_size, 2**20
    with path.open('rb') as file:
        digest = hashlib.sha256(file.read(part))
        file.seek(max(0, size - part))
        digest.update(file.read(part))
    return f'{size} bytes, {digest.hexdigest()[:16]}'
