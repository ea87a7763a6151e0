"""Films are told from pictures by their content."""

import numpy as np
import pytest
from PIL import Image

from metastyle_jax.stylization.video import ffmpeg
from metastyle_jax.stylization.video.decoding import film_files, reader

av = pytest.importorskip('av')
from clips import make_clip  # noqa: E402

FORMATS = {
    'mp4': 'libx264', 'mov': 'libx264', '3gp': 'libx264', 'matroska': 'libx264',
    'webm': 'libvpx', 'avi': 'mpeg4', 'flv': 'flv', 'mpegts': 'libx264', 'mpeg': 'mpeg2video',
    'vob': 'mpeg2video', 'asf': 'wmv2', 'ogg': 'libtheora', 'mxf': 'mpeg2video',
    'h264': 'libx264', 'm4v': 'mpeg4', 'mpeg1video': 'mpeg1video', 'ivf': 'libvpx', 'nut': 'ffv1',
    'yuv4mpegpipe': 'wrapped_avframe', 'f4v': 'libx264', 'mjpeg': 'mjpeg',
}  # fmt: skip


def make_film(path, kind, encoder, side=64):
    """Three frames in a container; skips a test whose encoder is missing."""
    if encoder not in av.codecs_available:
        pytest.skip(f'no encoder {encoder}')
    with av.open(str(path), 'w', format=kind) as container:
        stream = container.add_stream(encoder, rate=25)
        stream.height = stream.width = side
        stream.pix_fmt = 'yuvj420p' if encoder == 'mjpeg' else 'yuv420p'
        for i in range(3):  # of noise, because FFmpeg does not know very short files
            pixels = np.random.default_rng(i).integers(0, 255, (side, side, 3), np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels)
            container.mux(stream.encode(frame.reformat(format=stream.pix_fmt)))
        container.mux(stream.encode())
    return path


def make_animation(path, count=3, **options):
    """An animation of `count` frames of different brightness."""
    images = [Image.new('RGB', (48, 36), (40 * i, 99, 99)) for i in range(count)]
    images[0].save(path, save_all=True, append_images=images[1:], **options)
    return path


@pytest.mark.parametrize('kind', [kind for kind in FORMATS if kind != 'mjpeg'])
@pytest.mark.parametrize('name', ['film', 'film.jpg'])
def test_films_of_all_kinds_are_known_without_their_suffix(tmp_path, kind, name):
    clip = make_film(tmp_path / name, kind, FORMATS[kind])
    head = clip.read_bytes()[:1024]
    assert film_files.begins_as_film(head)
    assert not film_files.begins_as_picture(head)
    assert film_files.is_film(str(clip), 'out.mp4')
    with reader.open_video(clip) as opened:
        assert len(list(opened.frames())) == 3


@pytest.mark.parametrize(
    'suffix', ['.png', '.jpg', '.webp', '.gif', '.bmp', '.tif', '.ppm', '.avif']
)
def test_pictures_are_no_films_whatever_they_are_called(tmp_path, suffix):
    path = tmp_path / f'picture{suffix}'
    try:
        Image.new('RGB', (48, 36)).save(path)
    except ValueError:
        pytest.skip('this Pillow has no AVIF')
    named = path.rename(tmp_path / 'film.mp4')
    assert not film_files.is_film(str(named), 'out.mp4')
    if suffix not in ('.gif', '.avif'):  # FFmpeg takes these for films of one frame
        with (
            pytest.raises(ffmpeg.VideoError, match=r'film.mp4 is one picture and no film'),
            reader.open_video(named),
        ):
            pass


def test_files_without_content_are_judged_by_their_suffix(tmp_path):
    (tmp_path / 'empty.mts').touch()
    assert film_files.is_film(str(tmp_path / 'empty.mts'), 'out.mp4')
    assert film_files.is_film(str(tmp_path / 'missing.M2TS'), 'out.mp4')
    assert not film_files.is_film(str(tmp_path / 'missing.png'), 'out.png')
    assert not film_files.is_film(str(tmp_path), 'out')
    (tmp_path / 'notes.txt').write_text('no film\n' * 9)
    assert not film_files.is_film(str(tmp_path / 'notes.txt'), 'out.mp4')


def test_ffmpeg_is_asked_about_what_is_unknown(tmp_path):
    clip = make_clip(tmp_path / 'clip.ts', times=range(0, 4000, 40))
    cut = tmp_path / 'cut'  # begins in the middle of a packet
    cut.write_bytes(clip.read_bytes()[333:])
    assert not film_files.begins_as_film(cut.read_bytes()[:1024])
    assert film_files.is_film(str(cut), 'out.mp4')
    (tmp_path / 'noise').write_bytes(np.random.default_rng(0).bytes(4000))
    assert not film_files.is_film(str(tmp_path / 'noise'), 'out.png')


@pytest.mark.parametrize('suffix', ['.gif', '.png', '.webp'])
def test_a_picture_that_moves_is_a_film_if_the_output_is_one(tmp_path, suffix):
    moving = str(make_animation(tmp_path / f'moving{suffix}', duration=100))
    still = str(make_animation(tmp_path / f'still{suffix}', count=1))
    for output, wanted in {'out.mp4': True, 'out.mkv': True, '-': True, 'out.png': False}.items():
        assert film_files.is_film(moving, output) == wanted
        assert not film_files.is_film(still, output)
