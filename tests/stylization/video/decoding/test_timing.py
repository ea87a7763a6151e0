"""Times of frames: clocks that begin anywhere, that jump, and that are missing."""

import fractions
import types

import numpy as np
import pytest

from metastyle_jax.stylization.video import conversion
from metastyle_jax.stylization.video.decoding import reader, timing

av = pytest.importorskip('av')
from clips import TIMES, make_clip, read  # noqa: E402

EVEN = range(0, 400, 40)


def times_of(path):
    """Times of frames in ms, as they are read."""
    with reader.open_video(path) as opened:
        return [round(1000 * frame.pts * opened.time_base) for frame in opened.frames()]


def starts(path):
    """Times in seconds of the first picture and the first sound of a file."""
    with av.open(str(path)) as opened:
        return [float(s.start_time * s.time_base) for s in opened.streams]


@pytest.mark.parametrize(('picture_at', 'sound_at'), [(40_001_000, 40_001_000), (700, 700)])
@pytest.mark.parametrize(('earlier', 'suffix'), [(0, '.mkv'), (200, '.mp4'), (-200, '.mkv')])
def test_a_film_begins_at_zero_and_its_sound_stays_in_step(
    tmp_path, picture_at, sound_at, earlier, suffix
):
    times = [picture_at + earlier + time for time in TIMES]
    clip = make_clip(tmp_path / 'clip.ts', times=times, sound_at=sound_at)
    before = starts(clip)
    conversion.convert_video(clip, tmp_path / f'out{suffix}', lambda x: x)
    after = starts(tmp_path / f'out{suffix}')
    # Encoders delay sound by a packet, so `before` tells how far the two are apart.
    assert after[0] - after[1] == pytest.approx(before[0] - before[1], abs=0.02)
    assert min(after) == pytest.approx(0, abs=0.02)
    assert np.diff(read(tmp_path / f'out{suffix}')[1]).tolist() == np.diff(TIMES).tolist()


def test_a_silent_film_begins_at_zero(tmp_path):
    clip = make_clip(tmp_path / 'a.ts', times=[550 + time for time in TIMES], sound=False)
    assert times_of(clip) == TIMES


def test_a_clock_that_runs_over_goes_on(tmp_path):
    begin = 1000 * 2**33 // 90_000 - 200  # ms; MPEG-TS has 33 bits for 1/90000 s
    times = [begin + time for time in EVEN]
    clip = make_clip(tmp_path / 'clip.ts', times=times, sound_at=begin)
    assert set(np.diff(times_of(clip))) == {40}


@pytest.mark.parametrize('at', [900_000, 0, 3000])  # ms: ahead, back, and a gap that is no jump
def test_a_clock_that_jumps_goes_on_where_it_was(tmp_path, caplog, at):
    parts = [
        make_clip(tmp_path / f'{i}.ts', times=[begin + t for t in EVEN], sound_at=begin)
        for i, begin in enumerate((0, at))
    ]
    both = tmp_path / 'both.ts'
    both.write_bytes(b''.join(part.read_bytes() for part in parts))
    times = times_of(both)
    assert len(times) == 20
    steps = np.diff(times)
    assert set(np.delete(steps, 9)) == {40}
    assert (steps[9] > 2000) if at == 3000 else (0 < steps[9] < 250)
    assert 'the rest cannot' not in caplog.text
    assert ('its clock jumps (1 x)' in caplog.text) == (at != 3000)


def test_streams_that_jump_together_stay_in_step(tmp_path):
    parts = [
        make_clip(tmp_path / f'{i}.ts', times=[begin + t for t in EVEN], sound_at=begin)
        for i, begin in enumerate((500_000, 0))
    ]
    both = tmp_path / 'both.ts'
    both.write_bytes(b''.join(part.read_bytes() for part in parts))
    corrected, raw = {0: [], 1: []}, {0: [], 1: []}
    with av.open(str(both)) as opened:
        timeline = timing.Timeline(opened)
        for packet in timeline.packets(opened.streams, damaged=pytest.fail, errors=()):
            if packet.dts is not None:
                corrected[packet.stream_index].append(float(packet.dts * packet.time_base))
    with av.open(str(both)) as opened:
        for packet in opened.demux():
            if packet.dts is not None:
                raw[packet.stream_index].append(float(packet.dts * packet.time_base))
    apart = [{k: v[i] for k, v in raw.items()} for i in (0, -1)]
    now = [{k: v[i] for k, v in corrected.items()} for i in (0, -1)]
    for before, after in zip(apart, now, strict=True):
        assert after[0] - after[1] == pytest.approx(before[0] - before[1], abs=0.001)


def make_elementary(path, rate):
    """A stream of H.264 without a container, which has no times."""
    with av.open(str(path), 'w', format='h264') as container:
        stream = container.add_stream('libx264', rate=rate, options={'bf': '2'})
        stream.height, stream.width, stream.pix_fmt = 36, 48, 'yuv420p'
        for i in range(12):
            pixels = np.full((36, 48, 3), 20 * i, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels)))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize('rate', [10, 50, fractions.Fraction(24000, 1001)])
def test_without_times_the_rate_of_the_codec_is_taken(tmp_path, rate):
    clip = make_elementary(tmp_path / 'clip.264', rate)
    assert conversion.convert_video(clip, tmp_path / 'out.mp4', lambda x: x) == 12
    with av.open(str(tmp_path / 'out.mp4')) as opened:
        assert opened.streams.video[0].average_rate == rate
        assert [frame.time for frame in opened.decode(video=0)] == pytest.approx(
            [float(i / rate) for i in range(12)], abs=1e-3
        )


def test_nonsensical_rates_are_measured(caplog):
    stream = types.SimpleNamespace(
        average_rate=fractions.Fraction(90000), guessed_rate=None, base_rate=None,
        time_base=fractions.Fraction(1, 90000),
        codec_context=types.SimpleNamespace(framerate=None),
    )  # fmt: skip
    assert timing.choose_rate(stream, [0, 3750, 7500, 11250], 'x') == 24
    assert timing.choose_rate(stream, [0, 3003, 6006, 90000], 'x') == fractions.Fraction(
        30000, 1001
    )
    assert caplog.text == ''
    assert timing.choose_rate(stream, [0], 'film.mp4') == 25
    assert 'film.mp4 does not say its frames per second: 25 are taken' in caplog.text
    stream.average_rate, stream.guessed_rate = fractions.Fraction(25), fractions.Fraction(10)
    assert timing.choose_rate(stream, [None, None], 'x') == 10
    assert timing.choose_rate(stream, [0, 3600], 'x') == 25
