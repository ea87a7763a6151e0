"""GIF, PNG and WebP that move are read as films."""

import numpy as np
import pytest
from PIL import Image

from metastyle_jax.stylization.video import conversion, ffmpeg
from metastyle_jax.stylization.video.decoding import animations, reader

av = pytest.importorskip('av')
from clips import Echo, read  # noqa: E402

DURATIONS = [100, 250, 40, 400]  # milliseconds


def make_animation(path, *, durations=DURATIONS, **options):
    """Frames of different brightness, for different times."""
    step = 240 // len(durations)  # Pillow joins frames that are equal
    images = [Image.new('RGB', (48, 36), (step * i, 99, 99)) for i in range(len(durations))]
    images[0].save(path, save_all=True, append_images=images[1:], duration=durations, **options)
    return path


@pytest.mark.parametrize(('suffix', 'options'), [
    ('.gif', {}), ('.png', {}), ('.webp', {'lossless': True}),
])  # fmt: skip
def test_frames_and_their_durations_are_kept(tmp_path, suffix, options):
    path, out = make_animation(tmp_path / f'a{suffix}', **options), tmp_path / 'out.mp4'
    assert conversion.convert_video(path, out, lambda x: x) == 4
    frames, times, _ = read(out)
    assert times == [0, 100, 350, 390]
    for i, frame in enumerate(frames):
        assert np.abs(frame.mean((0, 1)) - [60 * i, 99, 99]).max() < 4
    with av.open(str(out)) as opened:
        assert opened.duration / 1e6 == pytest.approx(sum(DURATIONS) / 1000, abs=0.01)


def test_transparency_becomes_white_and_frames_are_composed(tmp_path, caplog):
    first = Image.new('RGBA', (48, 36), (255, 0, 0, 255))
    first.paste((0, 0, 0, 0), (0, 0, 24, 36))
    second = Image.new('RGBA', (48, 36), (0, 0, 0, 0))
    second.paste((0, 0, 255, 255), (12, 0, 24, 36))
    for name, options in {'a.png': {'blend': 1}, 'a.gif': {'disposal': 1}}.items():
        caplog.clear()
        path = tmp_path / name
        first.save(path, save_all=True, append_images=[second], duration=100, **options)
        with reader.open_video(path) as opened:
            frames = [frame.pixels for frame in opened.frames()]
        assert [frame[0, x].tolist() for frame in frames for x in (0, 18, 40)] == [
            [255, 255, 255], [255, 255, 255], [255, 0, 0],
            [255, 255, 255], [0, 0, 255], [255, 0, 0],
        ]  # fmt: skip
        assert caplog.text.count('its transparent parts become white') == 1


def test_very_short_durations_are_those_of_browsers(tmp_path):
    path = make_animation(tmp_path / 'a.gif', durations=[0, 10, 20, 30])
    with reader.open_video(path) as opened:
        assert [frame.pts for frame in opened.frames()] == [0, 100, 200, 220]


def test_a_damaged_animation_gives_the_frames_before(tmp_path, caplog):
    path = make_animation(tmp_path / 'a.png')
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.rindex(b'fdAT') + 6])
    with reader.open_video(path) as opened:
        assert len(list(opened.frames())) in (3, 4)
    with (tmp_path / 'b.gif').open('wb') as file:
        file.write(b'GIF89a' + bytes(20))
    with pytest.raises(ffmpeg.VideoError, match=r'b.gif is damaged or cut short'):
        animations.AnimationReader(tmp_path / 'b.gif')


def test_a_stopped_animation_is_resumed(tmp_path):
    path = make_animation(tmp_path / 'a.gif', durations=[40] * 20)
    options = {'batch': 2, 'length': 8}
    whole, out = tmp_path / 'whole.mkv', tmp_path / 'out.mkv'
    conversion.convert_video(path, whole, Echo(), **options)
    stops = iter([False] * 6 + [True] * 99)
    conversion.convert_video(path, out, Echo(), stopped=lambda: next(stops), **options)
    assert conversion.convert_video(path, out, Echo(), resume=True, **options) == 20
    assert out.read_bytes() == whole.read_bytes()
