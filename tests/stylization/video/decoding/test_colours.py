"""Colours of frames: matrices, ranges, high dynamic range, wide gamuts and transparency."""

import fractions

import numpy as np
import pytest

from metastyle_jax.stylization.video import conversion, ffmpeg
from metastyle_jax.stylization.video.decoding import reader

av = pytest.importorskip('av')
from clips import read  # noqa: E402

LUMA = {1: (0.2126, 0.0722), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}  # red, blue
COLOURS = [(200, 60, 30), (20, 140, 220), (250, 250, 250), (90, 200, 80)]


def encode_yuv(rgb, matrix, *, full, bits):
    """RGB in 0..255 to the codes of YUV, by the formulas of ITU-R BT.601, BT.709 and BT.2020."""
    (red, blue), (r, g, b) = LUMA[matrix], np.moveaxis(np.asarray(rgb) / 255, -1, 0)
    luma = red * r + (1 - red - blue) * g + blue * b
    chroma = [(b - luma) / (2 - 2 * blue), (r - luma) / (2 - 2 * red)]
    step = 2 ** (bits - 8)
    if full:
        codes = [luma * (2**bits - 1), *(c * (2**bits - 1) + 128 * step for c in chroma)]
    else:
        codes = [(16 + 219 * luma) * step, *((128 + 224 * c) * step for c in chroma)]
    return [np.round(code) for code in codes]


def make_film(path, rgb, kind, *, matrix=1, trc=1, primaries=1, full=False, frames=1):
    """A film without losses, of `[H, W, 3]` RGB in 0..255 in a YUV format."""
    bits = 10 if kind.endswith('10le') else 8
    planes = encode_yuv(rgb, matrix, full=full, bits=bits)
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('ffv1', rate=10)
        (stream.height, stream.width), stream.pix_fmt = rgb.shape[:2], kind
        context = stream.codec_context
        context.colorspace, context.color_trc, context.color_primaries = matrix, trc, primaries
        context.color_range = 2 if full else 1
        for i in range(frames):
            frame = av.VideoFrame(rgb.shape[1], rgb.shape[0], kind)
            for plane, codes in zip(frame.planes, planes, strict=True):
                wide, high = rgb.shape[1] // plane.width, rgb.shape[0] // plane.height
                rows = codes[::high, ::wide].astype('<u2' if bits > 8 else np.uint8)
                whole = np.zeros((plane.height, plane.line_size // rows.itemsize), rows.dtype)
                whole[:, : plane.width] = rows
                plane.update(whole.tobytes())
            frame.colorspace, frame.color_range = matrix, context.color_range
            frame.color_trc, frame.color_primaries = trc, primaries
            frame.pts, frame.time_base = i, fractions.Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def stripes(colours, *, height=32, width=32):
    return np.concatenate([np.full((height, width, 3), colour) for colour in colours], axis=1)


def read_stripes(path, count):
    """Colours in the middle of the stripes of the first frame."""
    with reader.open_video(path) as opened:
        pixels = next(iter(opened.frames())).pixels
    width = pixels.shape[1] // count
    return pixels[16, width // 2 :: width].astype(int)


@pytest.mark.parametrize('kind', ['yuv420p', 'yuv422p10le', 'yuv444p', 'yuv420p10le'])
@pytest.mark.parametrize('matrix', [1, 6, 9])
@pytest.mark.parametrize('full', [False, True])
def test_matrices_and_ranges_are_converted(tmp_path, kind, matrix, full):
    clip = make_film(tmp_path / 'a.mkv', stripes(COLOURS), kind, matrix=matrix, full=full)
    assert np.abs(read_stripes(clip, 4) - COLOURS).max() <= 2


def test_grey_of_limited_range_is_converted(tmp_path):
    grey = np.full((32, 32, 3), 200)
    with av.open(str(tmp_path / 'a.mkv'), 'w') as container:
        stream = container.add_stream('ffv1', rate=10)
        stream.height = stream.width = 32
        stream.pix_fmt, stream.codec_context.color_range = 'gray', 1
        code = np.round(16 + 219 * grey[..., 0] / 255).astype(np.uint8)
        frame = av.VideoFrame.from_ndarray(code, format='gray')
        frame.color_range = 1
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert np.abs(read_stripes(tmp_path / 'a.mkv', 1) - 200).max() <= 1


# What FFmpeg's filters zscale and tonemap=clip make of these codes, with white at 203 cd/m².
@pytest.mark.parametrize(
    ('trc', 'code', 'wanted', 'told'),
    [
        (16, (122, 73, 59), (203, 17, 39), r'high dynamic range \(PQ\) is reduced'),
        (18, (122, 73, 59), (161, 71, 62), r'high dynamic range \(HLG\) is reduced'),
        (18, (144, 144, 144), (164, 164, 164), r'high dynamic range \(HLG\) is reduced'),
        (14, (122, 73, 59), (144, 63, 54), 'wide gamut is converted'),
        (14, (180, 120, 60), (210, 109, 39), 'wide gamut is converted'),
    ],
)
def test_hdr_and_wide_gamuts_become_bt709(tmp_path, caplog, trc, code, wanted, told):
    clip = make_film(
        tmp_path / 'a.mkv', stripes([code]), 'yuv420p10le',
        matrix=9, trc=trc, primaries=9, frames=3,
    )  # fmt: skip
    assert np.abs(read_stripes(clip, 1) - wanted).max() <= 4
    assert caplog.text.count('a.mkv: its') == 1
    caplog.clear()
    conversion.convert_video(clip, tmp_path / 'out.mkv', lambda x: x)
    caplog_lines = [line for line in caplog.messages if 'a.mkv: its' in line]
    assert len(caplog_lines) == 1
    with av.open(str(tmp_path / 'out.mkv')) as opened:
        context = opened.streams.video[0].codec_context
        assert (context.colorspace, context.color_trc, context.color_primaries) == (1, 1, 1)
        assert context.color_range == 1
    frames, *_ = read(tmp_path / 'out.mkv')
    assert len(frames) == 3
    assert np.abs(frames[0][16, 16].astype(int) - wanted).max() <= 6


def test_bright_light_keeps_its_order_and_its_colour(tmp_path):
    codes = [(c, c, c) for c in (100, 140, 160, 180, 190)]
    clip = make_film(
        tmp_path / 'a.mkv', stripes(codes), 'yuv444p10le', matrix=9, trc=16, primaries=9
    )
    read_codes = read_stripes(clip, 5)
    assert (np.diff(read_codes[:, 0]) > 0).all()
    assert read_codes.max() <= 255
    assert np.abs(read_codes - read_codes[:, :1]).max() <= 1  # grey


def make_transparent(path, codec, kind):
    rgba = np.zeros((32, 32, 4), np.uint8)
    rgba[:, :16] = 200, 60, 30, 255
    with av.open(str(path), 'w') as container:
        stream = container.add_stream(codec, rate=10, options={'auto-alt-ref': '0', 'crf': '4'})
        stream.height, stream.width, stream.pix_fmt = 32, 32, kind
        for i in range(3):
            frame = av.VideoFrame.from_ndarray(rgba, format='rgba').reformat(format=kind)
            frame.pts, frame.time_base = i, fractions.Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ('suffix', 'codec', 'kind'),
    [
        ('.mov', 'prores_ks', 'yuva444p10le'),
        ('.mov', 'qtrle', 'argb'),
        ('.mov', 'png', 'rgba'),
        ('.webm', 'libvpx-vp9', 'yuva420p'),
        ('.mkv', 'libvpx', 'yuva420p'),
    ],
)
def test_transparent_parts_become_white(tmp_path, caplog, suffix, codec, kind):
    if codec not in av.codecs_available:
        pytest.skip(f'no encoder {codec}')
    clip = make_transparent(tmp_path / f'a{suffix}', codec, kind)
    with reader.open_video(clip) as opened:
        frames = [frame.pixels.astype(int) for frame in opened.frames()]
    assert len(frames) == 3
    assert np.abs(frames[0][16, 4] - [200, 60, 30]).max() <= 12
    assert np.abs(frames[0][16, 28] - 255).max() <= 2
    assert caplog.text.count('its transparent parts become white') == 1


def test_dolby_vision_without_a_compatible_picture_is_refused(tmp_path):
    with av.open(str(tmp_path / 'b.mp4'), 'w') as container:
        if 'libx265' not in av.codecs_available:
            pytest.skip('no encoder libx265')
        stream = container.add_stream('libx265', rate=10)
        stream.height, stream.width, stream.pix_fmt = 64, 64, 'yuv420p'
        frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8))
        frame = frame.reformat(format='yuv420p')
        frame.pts, frame.time_base = 0, fractions.Fraction(1, 10)  # MP4 needs times
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    whole = (tmp_path / 'b.mp4').read_bytes()
    (tmp_path / 'b.mp4').write_bytes(whole.replace(b'hev1', b'dvhe').replace(b'hvc1', b'dvh1'))
    with (
        pytest.raises(ffmpeg.VideoError, match=r'b.mp4 is Dolby Vision .* convert it first'),
        reader.open_video(tmp_path / 'b.mp4'),
    ):
        pass
