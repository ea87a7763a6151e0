"""Encoded sound: it comes with its picture, whatever the original is like."""

import random

import numpy as np
import pytest

from metastyle_jax.stylization.video import conversion

av = pytest.importorskip('av')
from films import make_film, offset, tracks  # noqa: E402

FRAME = 0.05  # seconds


@pytest.mark.parametrize('suffix', ['.mp4', '.mkv', '.mov', '.webm', '.avi'])
@pytest.mark.parametrize(
    'sound',
    [
        {'codec': 'wmav2', 'rate': 44100, 'layout': 'stereo'},
        {'codec': 'mp2', 'layout': 'stereo'},
        {'codec': 'ac3', 'layout': '5.1'},
        {'codec': 'pcm_s16le', 'rate': 8000},
    ],
)
def test_sound_comes_with_its_picture(tmp_path, suffix, sound):
    kind = {'wmav2': 'film.asf'}.get(sound['codec'], 'film.mkv')
    film = make_film(tmp_path / kind, sounds=[sound])
    out = tmp_path / f'out{suffix}'
    conversion.convert_video(film, out, lambda x: x)
    assert len(tracks(out)) == 1
    # The encoders of the test film delay the sound by up to half a frame.
    assert abs(offset(out) - offset(film)) < (2 * FRAME if suffix == '.avi' else FRAME / 2)


def test_the_last_frames_that_a_decoder_holds_are_kept(tmp_path):
    film = make_film(tmp_path / 'film.asf', sounds=[{'codec': 'wmav2', 'rate': 44100}])
    conversion.convert_video(film, tmp_path / 'out.mkv', lambda x: x)
    # A frame of this codec has 2048 samples.
    assert abs(loud_samples(tmp_path / 'out.mkv') - loud_samples(film)) < 1024


def loud_samples(path):
    """Number of loud samples of the decoded sound of a file."""
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray()[0] for frame in container.decode(audio=0)]
    return np.count_nonzero(np.abs(np.concatenate(frames)) > 0.1)


@pytest.mark.parametrize('suffix', ['.mp4', '.webm'])
def test_sound_that_begins_later_stays_late(tmp_path, suffix):
    film = make_film(tmp_path / 'film.mkv', sounds=[{'codec': 'ac3', 'begin': 0.3}])
    conversion.convert_video(film, tmp_path / f'out{suffix}', lambda x: x)
    assert abs(offset(tmp_path / f'out{suffix}') - offset(film)) < FRAME / 2


def damage(path, target, part):
    """Copies a file, and overwrites some of its packets of sound."""
    data, chance = bytearray(path.read_bytes()), random.Random(0)
    with av.open(str(path)) as opened:
        for packet in opened.demux(audio=0):
            place = data.find(bytes(packet)) if packet.size > 8 else -1
            if place >= 0 and chance.random() < part:
                data[place : place + packet.size] = chance.randbytes(packet.size)
    target.write_bytes(data)
    return target


@pytest.mark.parametrize('suffix', ['.mp4', '.webm'])
@pytest.mark.parametrize('codec', ['aac', 'ac3'])
@pytest.mark.parametrize('part', [0.3, 1])
def test_damaged_sound_does_not_cost_the_film_and_is_told(tmp_path, suffix, codec, part, caplog):
    film = make_film(tmp_path / 'whole.mkv', sounds=[{'codec': codec}])
    film, out = damage(film, tmp_path / 'film.mkv', part), tmp_path / f'out{suffix}'
    assert conversion.convert_video(film, out, lambda x: x) == 20
    told = [line for line in caplog.messages if 'is damaged in' in line]
    assert len(told) == 1
    with av.open(str(out)) as opened:
        for stream in opened.streams.audio:
            for packet in opened.demux(stream):
                packet.decode()  # raises an error at a damaged packet
