"""Converts the colours of video frames to the RGB of ordinary screens: BT.709 with gamma 2.4.

FFmpeg converts YUV to RGB. This module converts high dynamic range and wide gamuts itself, because
PyAV's wheels lack FFmpeg's filters for them. It uses the same tone curve as for pictures, see
`colour_spaces`.
"""

import functools
from typing import Any, NamedTuple

import numpy as np
from absl import logging

from metastyle_jax.data.images import colour_spaces
from metastyle_jax.stylization.video import ffmpeg

_PQ, _HLG = 16, 18  # FFmpeg's numbers of transfer functions
_BT2020, _WIDE = 9, (9, 11, 12)  # of primaries: BT.2020, DCI P3 and Display P3
_DOLBY_TAGS = ('dvh1', 'dvhe', 'dav1')  # of streams that only a Dolby Vision decoder shows rightly
# Without these options, FFmpeg shifts colours by several pixels and loses two levels.
_ACCURATE = 'BICUBIC', 'ACCURATE_RND', 'FULL_CHR_H_INT'
_GAMMA = 2.4  # of BT.1886
_STEPS = 4096  # of the tables below
_BLOCK = 2**15  # pixels that fit into a processor's cache
_WHITE = 255


class _Tables(NamedTuple):
    """Tables that convert one colour encoding to BT.709.

    Attributes:
        decode: `[65536]` float32, linear light of each 16-bit value.
        matrix: `[3, 3]` float32, converts linear light to the primaries of BT.709.
        gain: `[_STEPS + 1]` float32, factor by which tone mapping multiplies the light of a pixel.
            The index is proportional to the fourth root of the pixel's largest channel.
        largest: fourth root of the light at the last index of `gain`.
        encode: `[_STEPS + 1]` uint8, output value. The index is `_STEPS` times the square root of
            linear light in 0..1.
    """

    decode: np.ndarray
    matrix: np.ndarray
    gain: np.ndarray
    largest: float
    encode: np.ndarray


class ColourConverter:
    """Converts frames to RGB, and warns once about each kind of information that gets lost.

    Args:
        name: name of the video in messages.
        matrix: PyAV's name of the colour matrix for frames that do not name theirs; None for the
            matrix that players assume, see `ffmpeg.default_matrix`.
    """

    def __init__(self, name: str, matrix: str | None = None) -> None:
        self._name, self._matrix = name, matrix
        self._told: set[str] = set()

    def check(self, stream: Any, frame: Any) -> None:
        """Warns if the stream is Dolby Vision, whose extra metadata are ignored.

        Args:
            stream: PyAV's stream of the picture.
            frame: PyAV's first frame of the stream.

        Raises:
            VideoError: it is Dolby Vision of profile 5, whose colours only a Dolby Vision decoder
                can convert.
        """
        kinds = {getattr(data.type, 'name', '') for data in frame.side_data}
        tag = str(stream.codec_context.codec_tag)
        if not kinds & {'DOVI_METADATA', 'DOVI_RPU_BUFFER'} and tag not in _DOLBY_TAGS:
            return
        if frame.color_trc == ffmpeg.UNSPECIFIED:
            raise ffmpeg.VideoError(
                f'{self._name} is Dolby Vision without a compatible picture (profile 5), whose '
                'colours cannot be converted: convert it first, such as with ffmpeg -i FILE -vf '
                'libplacebo=colorspace=bt709:color_primaries=bt709:color_trc=bt709 -c:a copy '
                'sdr.mp4'
            )
        self._tell('its Dolby Vision metadata are ignored; its compatible picture is used')

    def to_rgb(self, frame: Any) -> np.ndarray:
        """Converts PyAV's frame to RGB, `[H, W, 3]` uint8; transparent parts become white."""
        if any(component.is_alpha for component in frame.format.components):
            return self.on_white(self._reformat(frame, 'rgba'))
        tables = self._tables(frame)
        if tables is None:
            return self._reformat(frame, 'rgb24')
        return _convert(self._reformat(frame, 'rgb48le'), tables)

    def on_white(self, rgba: np.ndarray) -> np.ndarray:
        """Blends an RGBA picture with white: `[H, W, 4]` uint8 to `[H, W, 3]` uint8."""
        rgb, opacity = rgba[..., :3], rgba[..., 3:].astype(np.uint32)
        if opacity.min() == _WHITE:
            return np.ascontiguousarray(rgb)
        self._tell('its transparent parts become white')
        return ((rgb * opacity + _WHITE * (_WHITE - opacity) + 127) // _WHITE).astype(np.uint8)

    def _tables(self, frame: Any) -> _Tables | None:
        """Returns the tables for a frame's colour encoding; None if FFmpeg's own suffice."""
        primaries, transfer = frame.color_primaries, frame.color_trc
        is_hdr = transfer in (_PQ, _HLG)
        if is_hdr:
            kind = 'PQ' if transfer == _PQ else 'HLG'
            self._tell(f'its high dynamic range ({kind}) is reduced to that of BT.709')
            primaries = _BT2020 if primaries == ffmpeg.UNSPECIFIED else primaries
        elif primaries not in _WIDE:
            return None
        else:
            self._tell('its wide gamut is converted to that of BT.709')
        return _make_tables(int(primaries), int(transfer))

    def _reformat(self, frame: Any, kind: str) -> np.ndarray:
        """Lets FFmpeg convert a frame to an RGB format, such as 'rgb24'; returns the pixels."""
        if frame.format.name.startswith('gray') and frame.color_range == ffmpeg.LIMITED_RANGE:
            # FFmpeg takes grey for full range, but not YUV.
            frame = frame.reformat(
                format='yuv444p16le', src_color_range='JPEG', dst_color_range='JPEG'
            )
            frame.color_range = ffmpeg.LIMITED_RANGE
        tagged = frame.colorspace != ffmpeg.UNSPECIFIED
        matrix = self._matrix or ffmpeg.default_matrix(frame.height, frame.width)
        converted = frame.reformat(
            format=kind, src_colorspace=None if tagged else matrix, interpolation=_interpolation()
        )
        pixels: np.ndarray = converted.to_ndarray()
        return pixels

    def _tell(self, what: str) -> None:
        if what not in self._told:
            logging.warning('%s: %s', self._name, what)
        self._told.add(what)


@functools.cache
def _interpolation() -> Any:
    from av.video.reformatter import Interpolation

    value = Interpolation(0)
    for name in _ACCURATE:
        value |= Interpolation[name]
    return value


@functools.cache
def _make_tables(primaries: int, transfer: int) -> _Tables | None:
    encoding = colour_spaces.encoding_of(primaries, transfer)
    if encoding is None:  # such as a transfer function that the file does not name
        encoding = colour_spaces.encoding_of(primaries, 1)
    if encoding is None:
        return None
    decode = encoding.decode(np.arange(65536) / 65535).astype(np.float32)
    # Primaries may turn into colours with up to this much more light in one channel.
    largest = float(decode[-1] * encoding.matrix.max() * 1.01) ** 0.25
    light = np.maximum(np.linspace(0, largest, _STEPS + 1) ** 4, 1e-9)
    gain = np.ones(_STEPS + 1)
    if encoding.is_hdr:
        grey = np.repeat(light[:, None], 3, axis=1)
        gain = colour_spaces.tone_map(grey)[:, 0] / light
    encode = np.linspace(0, 1, _STEPS + 1) ** (2 / _GAMMA)
    return _Tables(
        decode,
        encoding.matrix,
        gain.astype(np.float32),
        largest,
        np.round(255 * encode).astype(np.uint8),
    )


def _convert(pixels: np.ndarray, tables: _Tables) -> np.ndarray:
    """Converts pixels `[H, W, 3]` uint16 to BT.709 `[H, W, 3]` uint8."""
    flat = pixels.reshape(-1, 3)
    result = np.empty(flat.shape, np.uint8)
    for start in range(0, len(flat), _BLOCK):
        light = tables.decode.take(flat[start : start + _BLOCK]) @ tables.matrix
        np.maximum(light, 0, out=light)  # colours that BT.709 has not
        root = np.sqrt(np.sqrt(light.max(-1))) * np.float32(_STEPS / tables.largest)
        light *= tables.gain.take(np.round(root).astype(np.int32))[:, None]
        root = np.sqrt(np.minimum(light, 1)) * np.float32(_STEPS)
        result[start : start + _BLOCK] = tables.encode.take(np.round(root).astype(np.int32))
    return result.reshape(pixels.shape)
