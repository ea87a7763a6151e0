"""Moving pictures on the command line: files, the standard streams, cameras."""

import contextlib
import pathlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import jax
from absl import flags, logging

from metastyle_jax.core import allocator, command_line, progress_bar
from metastyle_jax.core.errors import UserError
from metastyle_jax.models import transformer
from metastyle_jax.stylization.video import (
    camera,
    conversion,
    deflicker,
    ffmpeg,
    pipeline,
    raw_frames,
    reader,
)

BATCH = 4
# Flags that are for nothing else.
ONLY = ('resume', 'steady', 'frame_size', 'frame_rate', 'pixel_format')
# Loads what renders, for a size of batch; also tells what it depends on.
Prepare = Callable[[int], tuple[pipeline.FrameRenderer, dict[str, Any]]]


def define_flags(values: flags.FlagValues) -> None:
    """Adds the flags of moving pictures."""
    add = command_line.Flags(values)
    add.number(
        'batch',
        None,
        f'Frames, or styles of --all, at once (default: {BATCH}; of frames on CPU 1).',
    )
    add.switch('resume', False, 'Go on with the video that a stopped run has begun.')
    add.real(
        'steady', 0.0, 'Against flicker, 0 to below 1: how much of a frame goes over into the next.'
    )
    add.text(
        'frame_size',
        None,
        'WIDTHxHEIGHT of raw frames on the standard input, or to ask a camera for.',
    )
    add.text(
        'frame_rate',
        None,
        'Of raw frames on the standard input (25 if not given), or to ask a camera for.',
    )
    add.text(
        'pixel_format',
        'rgb24',
        "Of --input=- and --output=-: raw frames, 'rgb24', or 'y4m' (YUV4MPEG2), which tells size "
        'and rate.',
    )


def wanted(values: flags.FlagValues) -> bool:
    """Whether the input is a moving picture."""
    return (
        values.input == '-'
        or values.input.startswith(camera.PREFIX)
        or reader.is_video(pathlib.Path(values.input))
    )


def run(values: flags.FlagValues, prepare: Prepare) -> int:
    """Renders a moving picture as the flags say; returns the exit code."""
    live = values.input == '-' or values.input.startswith(camera.PREFIX)
    _check(values, live)
    ffmpeg.require_pyav()
    if values.output != '-':
        source = None if live else pathlib.Path(values.input)
        conversion.check_video_output(
            pathlib.Path(values.output), source, overwrite=values.overwrite, resume=values.resume
        )
    over = threading.Event()
    from_camera = values.input.startswith(camera.PREFIX)
    allocator.keep_freed_memory()
    batch = values.batch or (1 if jax.default_backend() == 'cpu' else BATCH)
    batch = 1 if from_camera else batch  # whoever watches does not wait for more
    with (
        _input(values, over) as clip,
        _output(values) as descriptor,
    ):
        _check_size(clip, values)
        render, settings = prepare(batch)
        if values.steady:
            render = deflicker.Deflicker(render, values.steady)
        settings |= {'steady': values.steady}
        with (
            command_line.Stop().listening() as stop,
            progress_bar.show(
                description='stylizing',
                unit='frame',
                total=None if live else clip.frame_count or None,
            ) as bar,
        ):
            how = {
                'batch': batch, 'ended': over, 'newest_only': from_camera,
                'progress': bar.update, 'stopped': lambda: stop.signal is not None,
            }  # fmt: skip
            if descriptor is None:
                done = conversion.record(
                    clip, pathlib.Path(values.output), render,
                    source=source, resume=values.resume, settings=settings, **how,
                )  # fmt: skip
            else:
                pipe = raw_frames.Pipe(descriptor, over)
                try:
                    done = _stream(clip, pipe, render, values.pixel_format, **how)
                except BrokenPipeError:
                    return command_line.EXIT_BROKEN_PIPE
    logging.info('%d frames are in %s', done, values.output)
    if stop.signal is not None and descriptor is None and not live:
        logging.info('stopped before the end: the same command with --resume goes on')
    if rest := clip.bytes_left_over:
        raise UserError(
            f'standard input ended with {rest} bytes of a frame: is --frame_size='
            f'{values.frame_size} right, and was all of it sent?'
        )
    return 128 + stop.signal if stop.signal is not None else 0


def _stream(
    clip: Any,
    pipe: raw_frames.Pipe,
    render: pipeline.FrameRenderer,
    form: str,
    *,
    progress: Callable[[int], Any],
    **how: Any,
) -> int:
    """Renders to the standard output; returns the number of frames."""
    if clip.audio_streams:
        logging.warning('sound is left out: raw frames have none')
    writer = raw_frames.RawFrameWriter(
        pipe, clip.size, rate=clip.rate, pixel_format=form, aspect=clip.aspect
    )

    def write(frames: list[pipeline.Frame], state: dict[str, Any]) -> None:
        writer.write(frames, state)
        progress(len(frames))

    with ffmpeg.errors_as_video_errors(clip.name, 'standard output'):
        left_out = pipeline.render_frames(clip.frames(), render, write, **how)
    if left_out:
        logging.info('%d frames came too fast and were left out', left_out)
    return writer.written


def _output(values: flags.FlagValues) -> contextlib.AbstractContextManager[int | None]:
    """The standard output where frames go there, else None."""
    return raw_frames.standard_output() if values.output == '-' else contextlib.nullcontext()


@contextlib.contextmanager
def _input(values: flags.FlagValues, over: threading.Event) -> Iterator[Any]:
    """What to read: a `reader.VideoReader`, or what looks like one."""
    name, max_size = values.input, values.max_size
    size = None if values.frame_size is None else raw_frames.parse_size(values.frame_size)
    rate = None if values.frame_rate is None else raw_frames.parse_rate(values.frame_rate)
    if name.startswith(camera.PREFIX):
        with camera.open_camera(
            name.removeprefix(camera.PREFIX), size=size, rate=rate, max_size=max_size
        ) as clip:
            yield clip
    elif name != '-':
        with reader.open_video(pathlib.Path(name), max_size=max_size) as clip:
            yield clip
    else:
        raw_frames.check_standard_input()
        pipe = raw_frames.Pipe(0, over)
        if values.pixel_format == 'y4m':
            with reader.open_video(pipe, max_size=max_size, kind='yuv4mpegpipe') as clip:
                yield clip
        else:
            assert size is not None  # `_check` has seen to it
            yield raw_frames.RawFrameReader(
                pipe, size, rate=rate or raw_frames.parse_rate(25), max_size=max_size
            )


def _check(values: flags.FlagValues, live: bool) -> None:
    """Refuses flags that do not go together."""
    if values.grid is not None or values.animate is not None or values.mask:
        raise UserError('--grid, --animate and --mask are for pictures, not for video')
    if values.tile == 'always':
        raise UserError('--tile=always is for pictures: frames are rendered whole')
    if values.batch is not None and values.batch < 1:
        raise UserError(f'--batch={values.batch}: it must be at least 1')
    if not 0 <= values.steady < 1:
        raise UserError(f'--steady={values.steady}: it must be at least 0 and below 1')
    if values.pixel_format not in raw_frames.PIXEL_FORMATS:
        known = ' or '.join(raw_frames.PIXEL_FORMATS)
        raise UserError(f'--pixel_format={values.pixel_format}: it must be {known}')
    if values['pixel_format'].present and '-' not in (values.input, values.output):
        raise UserError('--pixel_format is for --input=- and --output=-: leave it out')
    raw = values.input == '-' and values.pixel_format == 'rgb24'
    if raw and values.frame_size is None:
        raise UserError('--input=- needs --frame_size=WIDTHxHEIGHT, or --pixel_format=y4m')
    if not live or (values.input == '-' and not raw):
        for name in ('frame_size', 'frame_rate'):
            if getattr(values, name) is not None:
                raise UserError(
                    f'--{name} is for raw frames and cameras; {values.input} has its own'
                )
    if values.resume and values.overwrite:
        raise UserError('--resume goes on and --overwrite begins anew: give one of them')
    if values.resume and (live or values.output == '-'):
        raise UserError('--resume needs a file for --input and for --output')


def _check_size(clip: Any, values: flags.FlagValues) -> None:
    """Refuses frames that are too small for the network."""
    height, width = clip.size
    if min(height, width) < transformer.MIN_SIDE:
        remedy = 'raise --max_size' if values.max_size else 'enlarge them first'
        raise UserError(
            f'{clip.name}: frames of {width} x {height} pixels are too small, both sides must have '
            f'{transformer.MIN_SIDE}: {remedy}'
        )
