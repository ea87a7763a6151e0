"""Stylizes a video, a camera or a stream of frames, frame by frame."""

import contextlib
import os
import pathlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from absl import logging

from metastyle_jax.core import checks, progress_bar
from metastyle_jax.core.errors import UserError
from metastyle_jax.models import transformer
from metastyle_jax.storage import tensor_files
from metastyle_jax.stylization import render, styled_network
from metastyle_jax.stylization.video import conversion, ffmpeg, pipeline, raw_frames
from metastyle_jax.stylization.video.decoding import camera, reader
from metastyle_jax.stylization.video_settings import BATCH, VideoSettings

_DEFAULT_RATE = 25  # frames per second, of raw frames


def stylize_video(
    style: styled_network.StyleLike | Sequence[styled_network.StyleLike],
    input: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    weights: Sequence[float] | None = None,
    strength: float = 1.0,
    keep_colours: bool = False,
    theta: styled_network.ThetaLike | None = None,
    overwrite: bool = False,
    resume: bool = False,
    progress: bool = False,
    stopped: Callable[[], bool] = lambda: False,
    report: Callable[[int], Any] = lambda frames: None,
    settings: VideoSettings | None = None,
    **changes: Any,
) -> int:
    """Stylizes every frame of a video; keeps its sound, size, rotation and frame times.

    The output is encoded in segments, so that a run that was stopped or killed can be resumed.

    Args:
        style: see `stylize`.
        input: a video file, 'camera:NUMBER' or 'camera:NAME', or '-' for the standard input.
        output: the video to write, .mp4, .m4v, .mov or .mkv (H.264), .webm (VP9), .avi (MPEG-4) or
            .gif; or '-' for raw frames on the standard output.
        weights: see `stylize`.
        strength: see `stylize`.
        keep_colours: see `stylize`.
        theta: see `stylize`.
        overwrite: whether an existing video, or the unfinished one of a stopped run, may be
            replaced.
        resume: whether to continue a stopped run with the same arguments.
        progress: whether to show a progress bar.
        stopped: called after each batch; the work ends early once it returns True.
        report: called with the number of frames of each batch that was written.
        settings: `VideoSettings`; None for its defaults.
        **changes: fields of `VideoSettings` that replace those of `settings`, for example
            `max_size=720` or `steady=0.6`.

    Returns:
        The number of frames in the output.

    Raises:
        UserError: an argument is invalid, a file cannot be read or written, or PyAV is missing.
        BrokenPipeError: the program that reads the standard output has ended.
    """
    input, output = os.fspath(input), os.fspath(output)
    settings = checks.replace_settings(settings or VideoSettings(), changes)
    settings.validate()
    _check_arguments(settings, input, output, overwrite=overwrite, resume=resume)
    ended = threading.Event()
    with (
        _open_input(input, settings, ended) as frame_source,
        _reserve_output(output) as descriptor,
    ):
        _check_size(frame_source, settings)
        network = styled_network.load(
            style, weights=weights, strength=strength, keep_colours=keep_colours, theta=theta
        )
        total = None if ffmpeg.is_live(input) else frame_source.frame_count or None
        with progress_bar.show(
            description='stylizing', unit='frame', total=total, disable=not progress
        ) as bar:
            options: dict[str, Any] = {
                'batch': _batch_size(settings, input), 'ended': ended, 'stopped': stopped,
                'newest_only': ffmpeg.is_camera(input),
                'progress': lambda frames: (bar.update(frames), report(frames)),
            }  # fmt: skip
            renderer, recorded = _frame_renderer(network, options['batch'], settings)
            if descriptor is None:
                source = None if ffmpeg.is_live(input) else pathlib.Path(input)
                frames = conversion.record(
                    frame_source, pathlib.Path(output), renderer,
                    source=source, resume=resume, settings=recorded, sound=settings.sound,
                    keep_location=settings.keep_location, **options,
                )  # fmt: skip
            else:
                pipe = raw_frames.Pipe(descriptor, ended)
                frames = _write_to_pipe(
                    frame_source, pipe, renderer, settings.pixel_format or 'rgb24', **options
                )
    if frame_source.bytes_left_over:
        raise UserError(
            f'standard input ended with {frame_source.bytes_left_over} bytes of a frame: is '
            f'frame_size={settings.frame_size} right, and was the last frame sent completely? The '
            f'{frames} whole frames are in the output.'
        )
    return frames


def _check_arguments(
    settings: VideoSettings, input: str, output: str, *, overwrite: bool, resume: bool
) -> None:
    """Raises UserError for invalid combinations of arguments; opens no video."""
    _check_input_settings(settings, input, output)
    if resume and overwrite:
        raise UserError(
            'resume=True continues a run and overwrite=True begins anew: give one of them'
        )
    if resume and (ffmpeg.is_live(input) or output == ffmpeg.STANDARD_STREAM):
        raise UserError('resume=True needs files as input and output')
    ffmpeg.require_pyav()
    if output != ffmpeg.STANDARD_STREAM:
        conversion.check_video_output(
            pathlib.Path(output),
            None if ffmpeg.is_live(input) else pathlib.Path(input),
            overwrite=overwrite,
            resume=resume,
        )


def _check_input_settings(settings: VideoSettings, input: str, output: str) -> None:
    """Raises UserError if a setting for raw frames is missing, or is given but does not apply."""
    if settings.pixel_format is not None and ffmpeg.STANDARD_STREAM not in (input, output):
        raise UserError(
            f'pixel_format={settings.pixel_format} is for input=- and output=-: leave it out'
        )
    raw = input == ffmpeg.STANDARD_STREAM and settings.pixel_format != 'y4m'
    if raw and settings.frame_size is None:
        raise UserError('input=- needs frame_size=WIDTHxHEIGHT, or pixel_format=y4m')
    if not raw and not ffmpeg.is_camera(input):
        for name in ('frame_size', 'frame_rate'):
            if (value := getattr(settings, name)) is not None:
                raise UserError(
                    f'{name}={value} is for raw frames and cameras; {input} has its own: leave it '
                    'out'
                )


def _batch_size(settings: VideoSettings, input: str) -> int:
    """Returns the number of frames in one forward pass of the network."""
    if ffmpeg.is_camera(input):
        return 1  # a batch would delay the picture
    # A CPU gains no speed from a batch, which needs more memory.
    return settings.batch or (1 if jax.default_backend() == 'cpu' else BATCH)


def _check_size(frame_source: pipeline.FrameSource, settings: VideoSettings) -> None:
    """Raises UserError if the frames are too small for the network."""
    height, width = frame_source.size
    if min(height, width) < transformer.MIN_SIDE:
        remedy = (
            f'raise max_size={settings.max_size}' if settings.max_size else 'enlarge them first'
        )
        raise UserError(
            f'{frame_source.name}: frames of {width} x {height} pixels are too small, both sides '
            f'must have at least {transformer.MIN_SIDE}: {remedy}'
        )


def _frame_renderer(
    network: styled_network.StyledNetwork, batch: int, settings: VideoSettings
) -> tuple[pipeline.FrameRenderer, dict[str, Any]]:
    """Makes the renderer of frames.

    Returns:
        The renderer, and all settings that change its output, as JSON types.
    """

    def render_frames(pixels: np.ndarray) -> np.ndarray:
        # The last batch is filled up: another batch size would be compiled anew.
        count = len(pixels)
        full = np.concatenate([pixels, np.repeat(pixels[-1:], batch - count, axis=0)])
        return render.render_batch(network, full)[:count]

    recorded = {
        'network': tensor_files.fingerprint(network.forward_params()),
        'strength': network.strength,
        'keep_colours': network.keep_colours,
        'steady': settings.steady,
    }
    if not settings.steady:
        return render_frames, recorded
    # Imported here because it loads scikit-image.
    from metastyle_jax.stylization.video import deflicker

    return deflicker.Deflicker(render_frames, settings.steady), recorded


@contextlib.contextmanager
def _open_input(
    name: str, settings: VideoSettings, ended: threading.Event
) -> Iterator[pipeline.FrameSource]:
    """Opens a file, a camera or the standard input as a source of frames."""
    max_size = settings.max_size
    size = None if settings.frame_size is None else raw_frames.parse_size(settings.frame_size)
    rate = None if settings.frame_rate is None else raw_frames.parse_rate(settings.frame_rate)
    if ffmpeg.is_camera(name):
        with camera.open_camera(
            name.removeprefix(ffmpeg.CAMERA_PREFIX), size=size, rate=rate, max_size=max_size
        ) as frame_source:
            yield frame_source
    elif name != ffmpeg.STANDARD_STREAM:
        with reader.open_video(pathlib.Path(name), max_size=max_size) as frame_source:
            yield frame_source
    else:
        raw_frames.check_standard_input()
        pipe = raw_frames.Pipe(0, ended)
        if settings.pixel_format == 'y4m':
            with reader.open_video(pipe, max_size=max_size, kind='yuv4mpegpipe') as frame_source:
                yield frame_source
        else:
            assert size is not None  # `_check_input_settings` requires it
            rate = rate or raw_frames.parse_rate(_DEFAULT_RATE)
            yield raw_frames.RawFrameReader(pipe, size, rate=rate, max_size=max_size)


def _reserve_output(output: str) -> contextlib.AbstractContextManager[int | None]:
    """Reserves the standard output if `output` is '-'; yields its file descriptor, else None."""
    if output == ffmpeg.STANDARD_STREAM:
        return raw_frames.standard_output()
    return contextlib.nullcontext()


def _write_to_pipe(
    frame_source: pipeline.FrameSource,
    pipe: raw_frames.Pipe,
    renderer: pipeline.FrameRenderer,
    pixel_format: str,
    *,
    progress: Callable[[int], Any],
    **options: Any,
) -> int:
    """Renders the frames, writes them to the standard output, and returns their number."""
    if frame_source.audio_streams:
        logging.warning('the sound is left out: raw frames have none')
    frame_writer = raw_frames.RawFrameWriter(
        pipe, frame_source.size, rate=frame_source.rate, pixel_format=pixel_format,
        aspect=frame_source.aspect,
    )  # fmt: skip

    def write(frames: list[pipeline.Frame], state: dict[str, np.ndarray]) -> None:
        frame_writer.write(frames, state)
        progress(len(frames))

    with ffmpeg.errors_as_video_errors(frame_source.name, 'standard output'):
        dropped = pipeline.render_frames(frame_source.frames(), renderer, write, **options)
    if dropped:
        logging.info('%d frames arrived too fast and were left out', dropped)
    return frame_writer.written
