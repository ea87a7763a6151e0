"""Encodes segments of a video as H.264."""

import os
import pathlib

import numpy as np

from metastyle_jax.stylization.video import ffmpeg

# Options of libx264. Without B-frames (`bf`), packets have the order of frames, and there is one
# packet per frame: `joining.join` relies on both.
_X264_OPTIONS = {'crf': '18', 'preset': 'medium', 'bf': '0'}
_LIMITED_RANGE = 1  # FFmpeg's number of luma in 16..235, the usual range of video


class SegmentEncoder:
    """Encodes the frames of one segment as H.264.

    Args:
        path: the file to write.
        video_format: of the frames.

    Attributes:
        count: number of frames encoded so far.
    """

    def __init__(self, path: pathlib.Path, video_format: ffmpeg.VideoFormat) -> None:
        import av

        self._path, self.count = path, 0
        self._container = av.open(str(path), 'w')
        rate = video_format.rate
        self._stream = self._container.add_stream('libx264', rate=rate, options=_X264_OPTIONS)
        self._stream.height, self._stream.width = video_format.height, video_format.width
        # Halved colour resolution needs even sides.
        odd = video_format.height % 2 or video_format.width % 2
        self._stream.pix_fmt = 'yuv444p' if odd else 'yuv420p'
        context = self._stream.codec_context
        # The true times are set when the segments are joined. Here the time base must be 1/rate,
        # because x264 writes the rate that it implies into the stream.
        self._time_base = context.time_base = 1 / rate
        context.sample_aspect_ratio = video_format.aspect
        # Of untagged video, players guess the colour matrix from the size of the frames.
        context.color_primaries = context.color_trc = context.colorspace = ffmpeg.BT709
        context.color_range = _LIMITED_RANGE

    def write(self, pixels: np.ndarray) -> None:
        """Encodes one frame, `[H, W, 3]` uint8."""
        import av

        picture = av.VideoFrame.from_ndarray(pixels, format='rgb24')
        picture = picture.reformat(format=self._stream.pix_fmt, dst_colorspace='ITU709')
        picture.pts, picture.time_base = self.count, self._time_base
        self._container.mux(self._stream.encode(picture))
        self.count += 1

    def close(self) -> None:
        """Encodes what the encoder still holds, and makes sure that it is on the disk."""
        with self._container as container:
            container.mux(self._stream.encode())
        with self._path.open('rb+') as opened:
            os.fsync(opened.fileno())

    def abandon(self) -> None:
        """Closes the file without completing it."""
        self._container.close()


def count_frames(path: pathlib.Path) -> int:
    """Counts the frames of a file; 0 if there is no such file or it cannot be read."""
    import av

    try:
        with av.open(str(path)) as opened:
            return sum(1 for packet in opened.demux(video=0) if packet.size)
    except (av.error.FFmpegError, OSError, IndexError):
        return 0
