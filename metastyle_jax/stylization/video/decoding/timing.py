"""Makes the times of packets and frames continuous and increasing.

The clock of a file may start at any time, may jump, and may be missing.
"""

import fractions
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from absl import logging

_TS_DISCONT = 0x200  # FFmpeg's flag of containers whose clock may jump, such as MPEG-TS
_LONGEST_GAP = 10.0  # seconds; a longer gap is a jump of the clock, as in the program `ffmpeg`
_BACKWARDS = 0.01  # seconds; decoding times that go back by more are a jump of the clock
_JOINING = 2.0  # seconds between two streams after the same jump of the clock, at most
_DEFAULT_RATE = fractions.Fraction(25)
_SLOWEST, _FASTEST = fractions.Fraction(1, 100), 960  # frames per second that are believed


class Timeline:
    """Corrects the times of packets after each jump of a file's clock.

    In recorded broadcasts, and in files that were joined byte by byte, the clock jumps to another
    time in mid-film. The times after a jump are moved so that each stream continues where it was
    before. Picture and sound that jump together are moved by the same time, so they stay in step.

    Args:
        container: the file, opened by PyAV.
    """

    def __init__(self, container: Any) -> None:
        self._container = container
        self._may_skip = _clock_may_skip(container)
        self._offsets = [0.0]  # seconds added to the clock: after each jump another
        self._offset_of: dict[int, float] = {}
        self._last: dict[int, float] = {}  # corrected decoding time, by stream
        self._next: dict[int, float] = {}

    @property
    def jumps(self) -> int:
        """Number of jumps so far."""
        return len(self._offsets) - 1

    def packets(
        self,
        streams: Sequence[Any],
        *,
        damaged: Callable[[float], None],
        errors: tuple[type[Exception], ...],
    ) -> Iterator[Any]:
        """Yields the packets of some streams, with corrected times; continues after damage.

        Args:
            streams: the streams of the container to read.
            damaged: called whenever reading fails, with the time in seconds of the last packet that
                was read. Reading continues as long as more packets follow.
            errors: classes of errors that PyAV raises at damage. Other errors are not caught.
        """
        wanted = {stream.index for stream in streams}
        # The clocks of all streams jump together, so picture and sound are always read.
        clocks = [*self._container.streams.video, *self._container.streams.audio]
        read = [*clocks, *(stream for stream in streams if stream not in clocks)]
        time, progressed = 0.0, True
        while progressed:
            progressed = False
            try:
                for packet in self._container.demux(*read):
                    progressed = progressed or packet.size > 0
                    self._correct(packet)
                    if packet.stream_index not in wanted:
                        continue
                    shown = packet.dts if packet.pts is None else packet.pts
                    time = time if shown is None else float(shown * packet.time_base)
                    yield packet
                return
            except errors:
                damaged(time)

    def _correct(self, packet: Any) -> None:
        """Changes the times of a packet in place if the clock of its stream has jumped."""
        index, base = packet.stream_index, packet.time_base
        if packet.dts is not None:
            raw = float(packet.dts * base)
            offset = self._offset_of.get(index, self._offsets[0])
            if self._is_jump(index, raw + offset):
                offset = self._offset_after_jump(index, raw)
            self._offset_of[index] = offset
            self._note(index, raw + offset, float((packet.duration or 0) * base))
        moved = round(self._offset_of.get(index, 0.0) / base)
        if moved:
            packet.pts = None if packet.pts is None else packet.pts + moved
            packet.dts = None if packet.dts is None else packet.dts + moved

    def _is_jump(self, index: int, time: float) -> bool:
        expected = self._next.get(index, self._end())
        if self._may_skip and abs(time - expected) > _LONGEST_GAP and self._next:
            return True
        return index in self._last and time + _BACKWARDS < self._last[index]

    def _offset_after_jump(self, index: int, raw: float) -> float:
        """Returns the seconds to add to a stream's clock after a jump.

        If another stream has made the same jump already, its offset is used again.
        """
        for offset in reversed(self._offsets):
            near = abs(raw + offset - self._end()) <= _JOINING
            if near and not self._is_jump(index, raw + offset):
                return offset
        # No stream may begin before its last packet ends, so all begin when the last has ended.
        self._offsets.append(self._end() - raw)
        return self._offsets[-1]

    def _note(self, index: int, time: float, duration: float) -> None:
        """Records the time and duration of the last packet of a stream.

        A missing duration is replaced by the time since the packet before, at most one second.
        """
        if not duration and index in self._last:
            duration = min(max(0.0, time - self._last[index]), 1.0)
        self._last[index], self._next[index] = time, time + duration

    def _end(self) -> float:
        """Returns the second at which the last of the packets so far ends."""
        return max(self._next.values(), default=0.0)


class FrameClock:
    """Gives each frame of a video stream a time; the times begin near 0 and always increase.

    Args:
        stream: PyAV's video stream.
        first: PyAV's first frames of the stream.
        sound_start: time in the file, in seconds, at which the sound begins; None without sound.
        name: name of the file in messages.

    Attributes:
        rate: frames per second, on average.
        time_base: seconds per unit of the times.
        start: time in the file, in seconds, that becomes time 0: the earlier of the beginnings of
            picture and sound.
        last_duration: how long the most recently read frame is shown, in units of `time_base`.
    """

    def __init__(
        self, stream: Any, first: Sequence[Any], sound_start: float | None, name: str
    ) -> None:
        self.time_base = fractions.Fraction(stream.time_base)
        self.rate = choose_rate(stream, [frame.pts for frame in first], name)
        self._usual_duration = max(1, round(1 / self.rate / self.time_base))
        begin = self._first_time(first)
        if begin is not None and sound_start is not None:
            seconds = float(begin * self.time_base)
            # Decoders drop sound before 0, so it does not count.
            sound_start = max(sound_start, min(seconds, 0.0))
            if abs(sound_start - seconds) < _LONGEST_GAP or not _clock_may_skip(stream.container):
                begin = min(begin, round(sound_start / self.time_base))
        self._start = begin or 0
        self.start = self._start * self.time_base
        self._last: int | None = None
        self.last_duration = self._usual_duration

    def _first_time(self, first: Sequence[Any]) -> int | None:
        """Time of the first frame in units of the stream; None if no frame has a time."""
        for i, frame in enumerate(first):
            if frame.pts is not None:
                return int(frame.pts) - i * self._usual_duration
        return None

    def time_of(self, frame: Any) -> int:
        """Returns the time of the next frame in units of `time_base`.

        It is always later than the time of the frame before, because players require that.
        """
        pts, last = frame.pts, self._last
        if pts is not None:
            pts -= self._start
        if last is not None and (pts is None or pts <= last):
            pts = last + (self._usual_duration if pts is None else 1)
        self._last = max(0, pts or 0)
        known = frame.pts is not None and frame.duration
        self.last_duration = int(frame.duration) if known else self._usual_duration
        return self._last


def sound_start(container: Any) -> float | None:
    """Returns the time in the file, in seconds, at which the sound begins; None without sound."""
    starts = [
        float(stream.start_time * stream.time_base)
        for stream in container.streams.audio
        if stream.start_time is not None
    ]
    return min(starts, default=None)


def choose_rate(stream: Any, times: Sequence[int | None], name: str) -> fractions.Fraction:
    """Determines the frames per second of a stream, even if its file names a wrong rate or none.

    Args:
        stream: PyAV's video stream.
        times: times of the first frames, in units of the stream; None for a frame without a time.
        name: name of the file in messages.

    Returns:
        The rate from the file if it is plausible, else the measured rate of the first frames, else
        25 with a warning.
    """
    known = [time for time in times if time is not None]
    # Without times, the container's rate is a guess, and the codec's own rate is better.
    named = [stream.average_rate, stream.guessed_rate, stream.base_rate]
    if not known:
        named = [stream.guessed_rate, stream.codec_context.framerate, stream.average_rate]
    for rate in named:
        if rate and _SLOWEST <= rate <= _FASTEST:
            return fractions.Fraction(rate)
    steps = sorted(b - a for a, b in zip(known, known[1:], strict=False) if b > a)
    if steps:
        measured = 1 / (steps[len(steps) // 2] * fractions.Fraction(stream.time_base))
        if _SLOWEST <= measured <= _FASTEST:
            return measured.limit_denominator(1001)
    logging.warning('%s does not say its frames per second: %s are taken', name, _DEFAULT_RATE)
    return _DEFAULT_RATE


def _clock_may_skip(container: Any) -> bool:
    """Whether FFmpeg's description of the container format says that its clock may jump."""
    return bool(container.format.flags & _TS_DISCONT)
