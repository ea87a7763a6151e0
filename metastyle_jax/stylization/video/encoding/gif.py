"""Writes an animated GIF from encoded segments.

A GIF shows at most 256 colours in a frame, so each frame gets its own palette. Its times are
multiples of a hundredth of a second.
"""

import fractions
import os
import pathlib
from collections.abc import Iterator
from typing import Any

from absl import logging

from metastyle_jax.stylization.video import ffmpeg

_TICK = fractions.Fraction(1, 100)  # seconds
_LEAST_TICKS = 2  # browsers show a frame with a shorter time for ten ticks
_COMMENT, _END, _FILE_END = b'\x21\xfe', b'\x00', b'\x3b'
_BLOCK = 255  # bytes of a comment, at most, in one of its blocks


def write(
    path: pathlib.Path,
    segments: list[pathlib.Path],
    times: list[int],
    video_format: ffmpeg.VideoFormat,
    *,
    last_duration: int | None,
    comment: str,
) -> None:
    """Writes all frames of the segments to a GIF; leaves out frames that come too fast for a GIF.

    Args:
        path: the file to write.
        segments: the files of the segments, in order.
        times: time of each frame, in units of the format's time base.
        video_format: format of the frames.
        last_duration: how long the last frame is shown, in the same units; None for one frame at
            the average rate.
        comment: text that is added at the end of the file.
    """
    import av

    width, height = video_format.width, video_format.height
    shown_width = max(1, round(width * video_format.aspect))  # pixels of a GIF are square
    dropped = 0
    usual = 1 / video_format.rate
    final = last_duration * video_format.time_base if last_duration else usual
    options = {'final_delay': str(max(_LEAST_TICKS, round(final / _TICK)))}
    with av.open(str(path), 'w', format='gif', options=options) as output:
        stream = output.add_stream('gif', rate=100)
        stream.width, stream.height, stream.pix_fmt = shown_width, height, 'pal8'
        stream.codec_context.time_base = _TICK
        graph = _palette_filters(width, height, shown_width)
        last = -_LEAST_TICKS
        for time, frame in zip(times, _frames(segments), strict=True):
            tick = round((time - times[0]) * video_format.time_base / _TICK)
            if tick - last < _LEAST_TICKS:
                dropped += 1
                continue
            frame.pts, frame.time_base, last = tick, _TICK, tick
            graph.push(frame)
            made = graph.pull()
            made.pts, made.time_base = tick, _TICK
            output.mux(stream.encode(made))
        output.mux(stream.encode())
    _add_comment(path, comment)
    if dropped:
        logging.warning(
            '%d frames are left out: a GIF shows at most %d frames per second',
            dropped, round(1 / _TICK / _LEAST_TICKS),
        )  # fmt: skip


def _frames(segments: list[pathlib.Path]) -> Iterator[Any]:
    """Decoded frames of all segments."""
    import av

    for segment in segments:
        with av.open(str(segment)) as opened:
            yield from opened.decode(video=0)


def _palette_filters(width: int, height: int, shown_width: int) -> Any:
    """FFmpeg's filters that choose 256 colours for each frame, and dither it."""
    import av

    graph = av.filter.Graph()
    source = graph.add_buffer(width=width, height=height, format='gbrp', time_base=_TICK)
    scale = graph.add('scale', f'{shown_width}:{height}')
    split, sink = graph.add('split'), graph.add('buffersink')
    palette = graph.add('palettegen', 'stats_mode=single:reserve_transparent=0')
    use = graph.add('paletteuse', 'new=1:dither=bayer:bayer_scale=3')
    source.link_to(scale)
    scale.link_to(split)
    split.link_to(use, 0, 0)
    split.link_to(palette, 1, 0)
    palette.link_to(use, 0, 1)
    use.link_to(sink)
    graph.configure()
    return graph


def _add_comment(path: pathlib.Path, comment: str) -> None:
    """Adds a comment at the end of a GIF, because FFmpeg cannot write comments to a GIF."""
    text = comment.encode()
    blocks = (text[begin : begin + _BLOCK] for begin in range(0, len(text), _BLOCK))
    data = b''.join(bytes([len(block)]) + block for block in blocks)
    with path.open('rb+') as file:
        file.seek(-len(_FILE_END), os.SEEK_END)
        file.write(_COMMENT + data + _END + _FILE_END)
