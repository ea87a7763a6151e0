"""Video, frame by frame: the only module that decodes or encodes it, through PyAV.

Decoding, the network and encoding run at the same time, each a few batches ahead of the next, so
memory does not grow with the length of a video.
"""

import contextlib
import importlib.util
import pathlib
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from absl import logging

from metastyle_jax import images
from metastyle_jax.types import UserError

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
AHEAD = 2  # batches that wait between two stages
# Of libx264. Frames that are encoded out of order would start late in a file of fragments.
OPTIONS = {'crf': '18', 'preset': 'medium', 'bf': '0'}


class VideoError(UserError):
    """A video that cannot be read or written; the message names the file and the remedy."""


class Facts(NamedTuple):
    """What a video's header says.

    Attributes:
        frames: about how many, or 0 if unknown.
        height: of a frame, after rotation.
        width: of a frame, after rotation.
        sound: how many audio streams.
    """

    frames: int
    height: int
    width: int
    sound: int


class _Frame(NamedTuple):
    """One picture: `[H, W, 3] uint8`, and when it is shown, in units of the stream."""

    pixels: np.ndarray
    pts: int | None


def is_video(path: pathlib.Path) -> bool:
    """Whether a file's name is that of a video."""
    return not path.is_dir() and path.suffix.lower() in SUFFIXES


def probe(path: pathlib.Path) -> Facts:
    """Reads the header of a video.

    Raises:
        VideoError: the file is missing, no video, or has no frames.
    """
    with _opened(path) as container:
        stream = container.streams.video[0]
        frames = stream.frames
        if not frames and container.duration and stream.average_rate:
            frames = round(container.duration / 1e6 * stream.average_rate)
        for first in container.decode(stream):
            height, width = _upright(first).shape[:2]
            return Facts(frames, height, width, len(container.streams.audio))
    raise VideoError(f'{path} has no frame that can be read: is it whole?')


def check_output(path: pathlib.Path, source: pathlib.Path, *, overwrite: bool) -> None:
    """Raises VideoError for a name that cannot be written, or is that of the source."""
    if path.suffix.lower() not in SUFFIXES_OUT:
        raise VideoError(f'{path} must end in one of {", ".join(SUFFIXES_OUT)}')
    if path.exists() and source.exists() and path.samefile(source):
        raise VideoError(f'{path} is the input itself: choose another --output')
    if path.exists() and not overwrite:
        raise VideoError(f'{path} exists already: pass --overwrite to replace it, or another name')
    if not path.parent.is_dir():
        raise VideoError(f'{path} cannot be written: there is no folder {path.parent}')


def convert(
    source: pathlib.Path,
    target: pathlib.Path,
    render: Callable[[np.ndarray], np.ndarray],
    *,
    batch: int = 4,
    max_size: int | None = None,
    progress: Callable[[int], None] = lambda frames: None,
    stopped: Callable[[], bool] = lambda: False,
) -> int:
    """Renders every frame of a video; sound, size, times of frames and rotation are kept.

    Args:
        source: the video.
        target: to write, H.264 in .mp4, .mov or .mkv; playable whenever the work stops.
        render: `[N, H, W, 3]` float32 in 0..1 to the same, for frames that follow each other.
        batch: N; the last batch may be smaller.
        max_size: reduces the longer side to this many pixels.
        progress: is told how many frames more are written.
        stopped: whether to end early, with what is done.

    Returns:
        The number of frames written.

    Raises:
        VideoError: a file cannot be read or written, or holds no frames.
    """
    decoded: queue.Queue = queue.Queue(AHEAD * batch)
    rendered: queue.Queue = queue.Queue(AHEAD)
    failed: list[BaseException] = []
    over = threading.Event()
    written = 0
    facts = probe(source)
    size = images.fit(np.zeros((facts.height, facts.width), np.uint8), max_size or 10**9).shape
    with _opened(source) as reader, _created(target) as writer:
        video = reader.streams.video[0]
        video.thread_type = 'AUTO'
        encoder = _stream(writer, video, size)
        sound = {stream.index: _copy_of(stream, writer, target) for stream in reader.streams.audio}
        _begin(writer, target)

        def guarded(work: Callable[[], None]) -> Callable[[], None]:
            def run() -> None:
                try:
                    work()
                except BaseException as error:  # told in the calling thread
                    failed.append(error)
                    over.set()

            return run

        def decode() -> None:
            for item in _items(reader, video, sound, max_size, source):
                if not _put(decoded, item, over):
                    return
            _put(decoded, None, over)

        def encode() -> None:
            nonlocal written
            while (item := _get(rendered, over)) is not None:
                if not isinstance(item, list):
                    item.stream = sound[item.stream.index]
                    writer.mux(item)
                    continue
                for frame in item:
                    writer.mux(encoder.encode(_picture(frame, video)))
                written += len(item)
                progress(len(item))
            writer.mux(encoder.encode())

        threads = [threading.Thread(target=guarded(work), daemon=True) for work in (decode, encode)]
        for thread in threads:
            thread.start()
        waiting: list[_Frame] = []

        def flush() -> None:
            if waiting:
                pixels = np.stack([frame.pixels for frame in waiting]).astype(np.float32) / 255
                made = np.round(np.clip(render(pixels), 0, 1) * 255).astype(np.uint8)
                frames = [
                    frame._replace(pixels=one) for frame, one in zip(waiting, made, strict=True)
                ]
                waiting.clear()
                _put(rendered, frames, over)

        try:
            while not stopped() and (item := _get(decoded, over)) is not None:
                if isinstance(item, _Frame):
                    waiting.append(item)
                    if len(waiting) == batch:
                        flush()
                else:
                    _put(rendered, item, over)
            flush()
            _put(rendered, None, over)
            threads[1].join()
        finally:
            over.set()
            for thread in threads:
                thread.join()
    if failed:
        error = failed[0]
        if isinstance(error, UserError) or not isinstance(error, Exception):
            raise error
        raise VideoError(
            f'{source} to {target}: {type(error).__name__}, {str(error) or "no reason given"}; '
            f'{written} frames are written'
        ) from error
    return written


def _put(line: queue.Queue, item: Any, over: threading.Event) -> bool:
    """Puts an item in a queue unless all is over."""
    while not over.is_set():
        with contextlib.suppress(queue.Full):
            line.put(item, timeout=0.1)
            return True
    return False


def _get(line: queue.Queue, over: threading.Event) -> Any:
    """The next item of a queue; None when all is over."""
    while not over.is_set():
        with contextlib.suppress(queue.Empty):
            return line.get(timeout=0.1)
    return None


def _items(
    reader: Any, video: Any, sound: dict[int, Any], max_size: int | None, source: pathlib.Path
) -> Iterator[Any]:
    """Frames, and packets of sound, in the order of the file."""
    import av

    broken = 0
    for packet in reader.demux(video, *reader.streams.audio):
        if packet.stream.index in sound:
            if packet.dts is not None:
                yield packet
            continue
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:
            broken += 1
            continue
        for frame in frames:
            pixels = _upright(frame)
            if max_size is not None:
                pixels = images.fit(pixels, max_size)
            yield _Frame(pixels, frame.pts)
    if broken:
        logging.warning('%s: %d damaged packets were left out', source, broken)


def _upright(frame: Any) -> np.ndarray:
    """`[H, W, 3] uint8`, turned as the file says."""
    pixels = frame.to_ndarray(format='rgb24')
    return np.ascontiguousarray(np.rot90(pixels, round(getattr(frame, 'rotation', 0) / 90)))


def _picture(frame: _Frame, video: Any) -> Any:
    """A frame for the encoder, shown when the original was."""
    import av

    picture = av.VideoFrame.from_ndarray(frame.pixels, format='rgb24')
    picture.pts, picture.time_base = frame.pts, video.time_base
    return picture


def _stream(writer: Any, video: Any, size: tuple[int, ...]) -> Any:
    """The stream to write; odd sizes need colour at full resolution."""
    height, width = size
    stream = writer.add_stream('libx264', rate=video.average_rate or 25, options=OPTIONS)
    stream.height, stream.width = height, width
    stream.pix_fmt = 'yuv444p' if height % 2 or width % 2 else 'yuv420p'
    stream.codec_context.time_base = video.time_base
    return stream


def _copy_of(stream: Any, writer: Any, target: pathlib.Path) -> Any:
    """An audio stream of the same encoding."""
    try:
        return writer.add_stream_from_template(stream)
    except ValueError as error:
        raise VideoError(
            f'{target}: sound of the kind {stream.codec_context.name} cannot be in '
            f'{target.suffix}; choose .mkv'
        ) from error


def _begin(writer: Any, target: pathlib.Path) -> None:
    """Writes the header, which also tells whether the container can hold all streams."""
    import av

    try:
        writer.start_encoding()
    except (av.error.FFmpegError, ValueError) as error:
        raise VideoError(
            f'{target}: {target.suffix} cannot hold these streams ({error}); choose .mkv'
        ) from error


def require() -> None:
    """Raises VideoError, naming the extra, where PyAV is missing."""
    if importlib.util.find_spec('av') is None:
        raise VideoError("video needs PyAV: pip install 'metastyle_jax[video]'")


@contextlib.contextmanager
def _opened(path: pathlib.Path) -> Iterator[Any]:
    """A video to read, which has a video stream."""
    require()
    import av

    try:
        container = av.open(str(path))
    except (av.error.FFmpegError, OSError) as error:
        raise VideoError(f'{path} is no video that can be read ({error})') from error
    with container:
        if not container.streams.video:
            raise VideoError(f'{path} has no picture, only sound')
        yield container


@contextlib.contextmanager
def _created(path: pathlib.Path) -> Iterator[Any]:
    """A video to write, in fragments that can be played whenever writing stops."""
    import av

    flags = {'movflags': 'frag_keyframe+delay_moov'}
    try:
        container = av.open(str(path), 'w', options={} if path.suffix.lower() == '.mkv' else flags)
    except (av.error.FFmpegError, OSError) as error:
        raise VideoError(f'{path} cannot be written ({error}): choose another --output') from error
    try:
        with container:
            yield container
    except UserError:  # before the first frame: nothing of it is of use
        path.unlink(missing_ok=True)
        raise
