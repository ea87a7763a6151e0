"""Writes and reads small video files for the tests."""

import fractions

import av
import numpy as np

TIMES = [0, 40, 80, 160, 200, 240, 400, 440, 480, 520]  # ms; uneven


def make_clip(path, *, height=36, width=48, times=TIMES, sound=True, sound_at=0):
    """Writes frames of rising brightness, and a tone that begins at a time in ms."""
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('libx264', rate=25, options={'crf': '1'})
        stream.height, stream.width = height, width
        stream.pix_fmt = 'yuv444p' if height % 2 or width % 2 else 'yuv420p'
        stream.codec_context.time_base = fractions.Fraction(1, 1000)
        tone = container.add_stream('aac', rate=16000, layout='mono') if sound else None
        for i, time in enumerate(times):
            pixels = np.full((height, width, 3), 20 + 20 * i % 220, np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format='rgb24')
            frame.pts, frame.time_base = time, fractions.Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if tone is not None:
            wave = np.sin(np.arange(8192) / 10, dtype=np.float32)[None]
            for begin in range(0, 8192, 1024):
                part = av.AudioFrame.from_ndarray(
                    np.ascontiguousarray(wave[:, begin : begin + 1024]), 'fltp', 'mono'
                )
                part.sample_rate, part.pts = 16000, 16 * sound_at + begin
                container.mux(tone.encode(part))
            container.mux(tone.encode())
    return path


def read(path):
    """Reads frames, their times in ms after the first sound or picture, and packets of sound."""
    with av.open(str(path)) as container:
        frames = [(f.to_ndarray(format='rgb24'), f.time) for f in container.decode(video=0)]
    with av.open(str(path)) as container:
        packets = [p for s in container.streams.audio for p in container.demux(s) if p.size]
        begin = min([float(p.pts * p.time_base) for p in packets[:1]] + [frames[0][1]])
        sound = [bytes(p) for p in packets]
    return [pixels for pixels, _ in frames], [round(1000 * (t - begin)) for _, t in frames], sound


LENGTH = 8  # frames of a segment


class Echo:
    """A renderer whose output depends on all frames before; it can run `do` at the call `at`."""

    def __init__(self, at=None, do=lambda: None):
        self.calls, self.at, self.do, self.last = 0, at, do, None

    def __call__(self, pixels):
        self.calls += 1
        if self.calls == self.at:
            self.do()
        made = []
        for frame in pixels:
            self.last = frame if self.last is None else (frame + self.last) / 2
            made.append(self.last)
        return np.stack(made)

    def state(self):
        return {} if self.last is None else {'last': self.last}

    def restore(self, state):
        self.last = state['last']
