"""Deinterlaces video frames.

In an interlaced frame, the odd and even rows were filmed at two different moments. Moving things
have combed edges, which the network would paint. FFmpeg's filter bwdif keeps the rows of the first
moment and computes the missing rows.
"""

import fractions
from collections.abc import Iterator
from typing import Any

from absl import logging

from metastyle_jax.stylization.video import ffmpeg

# One frame for one frame; frames that are not marked as interlaced pass unchanged.
_FILTER, _OPTIONS = 'bwdif', 'mode=send_frame:parity=auto:deint=interlaced'


def deinterlaced(frames: Iterator[Any], name: str) -> Iterator[Any]:
    """Yields all frames; frames that are marked as interlaced are deinterlaced.

    Args:
        frames: PyAV's frames.
        name: name of the video in messages.
    """
    graph, form, told = None, None, False
    for frame in frames:
        new_form = frame.width, frame.height, frame.format.name
        if graph is not None and new_form != form:
            yield from _flush(graph, frame.time_base)
            graph = None
        if graph is None and frame.interlaced_frame:
            graph, form = _make_graph(frame), new_form
            if not told:
                logging.warning('%s is interlaced: it is deinterlaced', name)
            told = True
        if graph is None:
            yield frame
        else:
            base = frame.time_base
            graph.push(frame)
            yield from _pull(graph, base)
    if graph is not None:
        yield from _flush(graph, base)


def _make_graph(frame: Any) -> Any:
    import av

    graph = av.filter.Graph()
    nodes = (
        graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
        ),
        graph.add(_FILTER, _OPTIONS),
        graph.add('buffersink'),
    )
    graph.link_nodes(*nodes).configure()
    return graph


def _flush(graph: Any, base: fractions.Fraction) -> Iterator[Any]:
    """Yields the frames that the filter still holds while it waits for a next frame."""
    graph.push(None)
    yield from _pull(graph, base)


def _pull(graph: Any, base: fractions.Fraction) -> Iterator[Any]:
    """Yields the frames that the filter has completed, with times in units of `base` seconds."""
    for frame in ffmpeg.pull_frames(graph):
        if frame.time_base != base:  # the filter counts in halves
            scale = frame.time_base / base
            frame.pts = None if frame.pts is None else round(frame.pts * scale)
            frame.duration = round((frame.duration or 0) * scale)
            frame.time_base = base
        yield frame
