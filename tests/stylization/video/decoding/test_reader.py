"""Reading video: damage, colours, rotation, and files that are no video."""

import fractions
import re

import numpy as np
import pytest

from metastyle_jax.stylization.video import conversion, ffmpeg
from metastyle_jax.stylization.video.decoding import reader

av = pytest.importorskip('av')
import clips  # noqa: E402
from clips import Echo, make_clip, read  # noqa: E402


def invert(pixels):
    return 1 - pixels


def make_frame(pixels, matrix):
    frame = av.VideoFrame.from_ndarray(pixels, format='rgb24')
    frame = frame.reformat(format='yuv444p', dst_colorspace=matrix)
    frame.pts, frame.time_base = 0, fractions.Fraction(1, 25)
    return frame


def make_still(path, pixels, matrix, *, tag=None, aspect=1):
    """A clip of one frame."""
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('libx264', rate=25, options={'crf': '1'})
        stream.height, stream.width, _ = pixels.shape
        stream.pix_fmt = 'yuv444p'
        stream.codec_context.sample_aspect_ratio = fractions.Fraction(aspect)
        if tag is not None:
            stream.codec_context.colorspace = tag
        container.mux(stream.encode(make_frame(pixels, matrix)))
        container.mux(stream.encode())
    return path


def test_damage_is_reported_with_its_time(tmp_path, caplog):
    times = range(0, 4000, 40)
    clip = clips.make_clip(tmp_path / 'clip.mkv', times=times, sound=False)
    whole = bytearray(clip.read_bytes())
    cut = tmp_path / 'cut.mkv'
    cut.write_bytes(whole[: len(whole) * 9 // 10])
    done = conversion.convert_video(cut, tmp_path / 'a.mkv', Echo())
    assert 50 < done < 100
    assert 'though its header says 4.00 s: the rest cannot be read' in caplog.text
    caplog.clear()
    with av.open(str(clip)) as original, av.open(str(tmp_path / 'clip.mp4'), 'w') as writer:
        stream = writer.add_stream_from_template(original.streams.video[0])
        for i, packet in enumerate(original.demux(video=0)):
            if packet.size:
                if i == 50:  # at two seconds
                    broken = av.Packet(b'\xff' * packet.size)
                    broken.pts, broken.dts, broken.time_base = (
                        packet.pts,
                        packet.dts,
                        packet.time_base,
                    )
                    packet = broken
                packet.stream = stream
                writer.mux(packet)
    done = conversion.convert_video(tmp_path / 'clip.mp4', tmp_path / 'b.mp4', Echo())
    assert 95 < done <= 100
    # One decoding thread names the frame before; several name it some frames later.
    assert re.search(r'clip.mp4 is damaged at about (1\.96|2\.\d\d) s', caplog.text)
    assert 'ends at' not in caplog.text


@pytest.mark.parametrize(
    ('size', 'matrix', 'tag'),
    [
        ((720, 1280), 'ITU709', None),  # untagged: as players assume
        ((576, 720), 'ITU601', None),
        ((720, 1280), 'ITU601', 6),
        ((576, 720), 'ITU709', 1),
    ],
)
def test_colours_are_read_as_players_show_them(tmp_path, size, matrix, tag):
    pixels = np.empty((*size, 3), np.uint8)
    pixels[:] = 200, 60, 30
    clip = make_still(tmp_path / 'clip.mkv', pixels, matrix, tag=tag)
    with reader.open_video(clip) as opened:
        (frame,) = opened.frames()
    assert np.abs(frame.pixels.astype(int) - pixels).max() <= 3
    assert conversion.convert_video(clip, tmp_path / 'out.mkv', lambda x: x) == 1
    (written,), *_ = read(tmp_path / 'out.mkv')  # the output is tagged
    assert np.abs(written.astype(int) - pixels).max() <= 4


def test_the_aspect_of_pixels_is_kept(tmp_path):
    grey = np.full((576, 720, 3), 99, np.uint8)
    clip = make_still(tmp_path / 'clip.mkv', grey, None, aspect='64/45')
    assert conversion.convert_video(clip, tmp_path / 'out.mp4', invert) == 1
    with reader.open_video(tmp_path / 'out.mp4') as opened:
        assert opened.aspect == fractions.Fraction(64, 45)


def test_a_file_that_is_cut_off_gives_its_complete_frames(tmp_path):
    clip = make_clip(tmp_path / 'clip.mkv', times=range(0, 8000, 40), sound=False)
    whole = clip.read_bytes()
    clip.write_bytes(whole[: len(whole) // 2])
    done = conversion.convert_video(clip, tmp_path / 'out.mkv', invert)
    assert 10 < done < 200
    assert len(read(tmp_path / 'out.mkv')[0]) == done


def test_files_that_are_no_video_are_named(tmp_path):
    (tmp_path / 'text.mp4').write_text('no video')
    with av.open(str(tmp_path / 'sound.mp4'), 'w') as container:
        tone = container.add_stream('aac', rate=16000, layout='mono')
        part = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), 'fltp', 'mono')
        part.sample_rate = 16000
        container.mux(tone.encode(part))
        container.mux(tone.encode())
    for name, message in {
        'text.mp4': 'no video that can be read',
        'missing.mp4': 'there is no such file',
        'sound.mp4': 'only sound',
    }.items():
        with pytest.raises(ffmpeg.VideoError, match=f'{name}.*{message}'):
            conversion.convert_video(tmp_path / name, tmp_path / 'out.mp4', invert)
        assert not (tmp_path / 'out.mp4').exists()
