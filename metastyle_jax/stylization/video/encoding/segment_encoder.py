"""Encodes segments of a video: as H.264, VP9 (WebM), MPEG-4 (AVI), or without loss (GIF)."""

import os
import pathlib

import numpy as np

from metastyle_jax.stylization.video import ffmpeg

# Pixel format and options of each encoder. Without B-frames (`bf`) and frames that are not shown
# (`auto-alt-ref`), packets have the order of frames, and there is one packet per frame:
# `joining.join` relies on both.
_ENCODERS = {
    'libx264': ('yuv420p', {'crf': '18', 'preset': 'medium', 'bf': '0'}),
    'libx264rgb': ('rgb24', {'qp': '0', 'preset': 'veryfast', 'bf': '0'}),
    'mpeg4': ('yuv420p', {'flags': '+qscale', 'global_quality': '236', 'g': '48'}),  # quality 2
    'libvpx-vp9': (
        'yuv420p',
        {'crf': '24', 'deadline': 'good', 'cpu-used': '4', 'row-mt': '1'}
        | {'auto-alt-ref': '0', 'lag-in-frames': '0'},
    ),
}


class SegmentEncoder:
    """Encodes the frames of one segment.

    Many players show H.264 only with 4:2:0 chroma subsampling, which needs an even width and
    height. So the last column or row is repeated if the width or height is odd.

    Args:
        path: the file to write.
        video_format: format of the frames.
        encoder: FFmpeg's name of the encoder, a key of `_ENCODERS`.

    Attributes:
        count: number of frames encoded so far.
    """

    def __init__(self, path: pathlib.Path, video_format: ffmpeg.VideoFormat, encoder: str) -> None:
        import av

        self._path, self.count = path, 0
        self._container = av.open(str(path), 'w')
        rate, size = video_format.rate, (video_format.height, video_format.width)
        pixel_format, options = _ENCODERS[encoder]
        self._stream = self._container.add_stream(encoder, rate=rate, options=options)
        self._added = [side % 2 if encoder in ('libx264', 'mpeg4') else 0 for side in size]
        self._stream.height = size[0] + self._added[0]
        self._stream.width = size[1] + self._added[1]
        self._stream.pix_fmt = pixel_format
        context = self._stream.codec_context
        # The true times are set when the segments are joined. Here the time base must be 1/rate,
        # because x264 writes the rate that it implies into the stream.
        self._time_base = context.time_base = 1 / rate
        context.sample_aspect_ratio = video_format.aspect
        self._matrix = None
        if encoder == 'libx264rgb':
            return
        if encoder == 'mpeg4':  # it has no tags, so players guess the matrix from the size
            self._matrix = ffmpeg.default_matrix(*size)
            return
        self._matrix = 'ITU709'
        context.color_primaries = context.color_trc = context.colorspace = ffmpeg.BT709
        context.color_range = ffmpeg.LIMITED_RANGE

    def write(self, pixels: np.ndarray) -> None:
        """Encodes one frame, `[H, W, 3]` uint8."""
        import av

        rows, columns = self._added
        if rows or columns:
            pixels = np.pad(pixels, ((0, rows), (0, columns), (0, 0)), 'edge')
        picture = av.VideoFrame.from_ndarray(pixels, format='rgb24')
        picture = picture.reformat(format=self._stream.pix_fmt, dst_colorspace=self._matrix)
        picture.pts, picture.time_base = self.count, self._time_base
        self._container.mux(self._stream.encode(picture))
        self.count += 1

    def close(self) -> None:
        """Encodes the frames that the encoder still holds, and waits until all is on the disk."""
        with self._container as container:
            container.mux(self._stream.encode())
        with self._path.open('rb+') as opened:
            os.fsync(opened.fileno())

    def abandon(self) -> None:
        """Closes the file without completing it."""
        self._container.close()


def count_frames(path: pathlib.Path) -> int:
    """Counts the frames of a video file; returns 0 if it is missing or cannot be read."""
    import av

    try:
        with av.open(str(path)) as opened:
            return sum(1 for packet in opened.demux(video=0) if packet.size)
    except (av.error.FFmpegError, OSError, IndexError):
        return 0
