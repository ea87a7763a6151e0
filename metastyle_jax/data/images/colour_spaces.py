"""Converts colours to sRGB: transfer functions, primaries, high dynamic range, PNG colour chunks.

A PNG may describe the meaning of its values in three ways. As its specification demands, the cICP
chunk takes precedence over an ICC profile, see `icc_profiles`, and a profile over the gAMA chunk.

Sources: PNG specification, third edition, section 11.3.2; ITU-T H.273 for the codes of cICP; ITU-R
BT.1886, BT.2100 and BT.2390 for transfer functions and tone mapping.
"""

import functools
import struct
from collections.abc import Callable
from typing import BinaryIO, NamedTuple

import numpy as np

from metastyle_jax.data.images.decoding import png_chunks

_WHITE = 203.0  # cd/m² of diffuse white in HDR, ITU-R BT.2408
_HLG_PEAK = 1000.0  # cd/m², the nominal display of BT.2100

# Chromaticities (x, y) of red, green, blue and white, by the code of H.273.
_D65 = (0.3127, 0.3290)
_PRIMARIES = {
    1: ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060), _D65),  # BT.709, sRGB
    4: ((0.670, 0.330), (0.210, 0.710), (0.140, 0.080), (0.310, 0.316)),  # NTSC 1953
    5: ((0.640, 0.330), (0.290, 0.600), (0.150, 0.060), _D65),  # BT.601 with 625 lines
    6: ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070), _D65),  # BT.601 with 525 lines
    7: ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070), _D65),  # SMPTE 240M
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), _D65),  # BT.2020, BT.2100
    11: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), (0.314, 0.351)),  # DCI P3
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), _D65),  # Display P3
}
_SRGB = _PRIMARIES[1]
_PQ, _HLG = 16, 18


class PngColours(NamedTuple):
    """What the chunks of a PNG say about its colours.

    Attributes:
        cicp: H.273 codes of primaries, transfer function, matrix and range; None if absent.
        is_srgb: whether there is an sRGB chunk.
        gamma: exponent of the encoding, 0.45455 for most pictures; None if absent.
        chromaticities: (x, y) of red, green, blue and white; None if absent.
    """

    cicp: tuple[int, int, int, int] | None = None
    is_srgb: bool = False
    gamma: float | None = None
    chromaticities: tuple[tuple[float, float], ...] | None = None


def png_colours(stream: BinaryIO) -> PngColours:
    """Reads the chunks of a PNG that describe its colours; broken chunks are ignored.

    Args:
        stream: the file; its position is kept.
    """
    found: dict[str, object] = {}
    position = stream.tell()
    try:
        for chunk in png_chunks.chunks(stream):
            if chunk.kind == b'IDAT':  # the pixels, which all of these must precede
                break
            data = png_chunks.data_of(stream, chunk, 32)
            if chunk.kind == b'cICP' and len(data) == 4:
                found['cicp'] = tuple(data)
            elif chunk.kind == b'sRGB':
                found['is_srgb'] = True
            elif chunk.kind == b'gAMA' and len(data) == 4 and any(data):
                found['gamma'] = struct.unpack('>I', data)[0] / 100_000
            elif chunk.kind == b'cHRM' and len(data) == 32:
                white, *rest = np.array(struct.unpack('>8I', data)).reshape(4, 2) / 100_000
                found['chromaticities'] = tuple(tuple(map(float, x)) for x in (*rest, white))
    finally:
        stream.seek(position)
    return PngColours(**found)  # type: ignore[arg-type]


class Encoding(NamedTuple):
    """Describes how encoded RGB is converted to linear light with the primaries of sRGB.

    Attributes:
        decode: maps encoded values in 0..1 to linear light, in which 1 is diffuse white.
        matrix: `[3, 3]` float32; `light @ matrix` converts `[..., 3]` linear light to the primaries
            of sRGB.
        is_hdr: whether light above diffuse white is possible.
    """

    decode: Callable[[np.ndarray], np.ndarray]
    matrix: np.ndarray
    is_hdr: bool


def encoding_of(primaries: int, transfer: int) -> Encoding | None:
    """Returns the encoding for H.273 codes, which PNG and video use; None for unknown codes.

    Args:
        primaries: code of the primaries.
        transfer: code of the transfer function.
    """
    if primaries not in _PRIMARIES or transfer not in _DECODE:
        return None
    matrix = _to_srgb_primaries(_PRIMARIES[primaries]).T.astype(np.float32)
    return Encoding(_DECODE[transfer], matrix, transfer in (_PQ, _HLG))


def is_hdr(colours: PngColours) -> bool:
    """Whether a picture has a high dynamic range, which `from_png` reduces."""
    return colours.cicp is not None and colours.cicp[1] in (_PQ, _HLG)


def from_png(rgb: np.ndarray, colours: PngColours) -> np.ndarray:
    """Converts the RGB values of a PNG to sRGB.

    The cICP chunk decides if there is one; else gamma and chromaticities decide.

    Args:
        rgb: `[..., 3]` uint8 or float32 in 0..1, the values in the file.
        colours: what the file says about its colours.

    Returns:
        sRGB of the same shape and type; `rgb` itself if no conversion is needed or possible.
    """
    if colours.cicp is not None:
        primaries, transfer, *_ = colours.cicp
        if primaries not in _PRIMARIES or transfer not in _DECODE:
            return rgb
        if (primaries, transfer) == (1, 13):
            return rgb
        return _convert(rgb, _DECODE[transfer], _PRIMARIES[primaries], hdr=is_hdr(colours))
    if colours.is_srgb or colours.gamma is None or not 0.01 < colours.gamma < 10:
        return rgb
    chromaticities = colours.chromaticities or _SRGB
    exponent = 1 / colours.gamma
    if abs(exponent - 2.2) < 0.05 and np.allclose(chromaticities, _SRGB, atol=2e-3):
        return rgb  # how programs that know no sRGB chunk say sRGB
    return _convert(rgb, lambda x: x**exponent, chromaticities)


def _convert(
    rgb: np.ndarray,
    decode: Callable[[np.ndarray], np.ndarray],
    primaries: tuple[tuple[float, float], ...],
    *,
    hdr: bool = False,
) -> np.ndarray:
    """Decodes RGB to linear light, converts the primaries, tone-maps if `hdr`, encodes as sRGB."""
    matrix = _to_srgb_primaries(primaries).T.astype(np.float32)
    is_bytes = rgb.dtype == np.uint8
    table = decode(np.arange(256) / 255).astype(np.float32) if is_bytes else None
    result = np.empty_like(rgb)
    flat, out = rgb.reshape(-1, 3), result.reshape(-1, 3)
    for start in range(0, len(flat), 2**20):  # a large picture in float32 takes gigabytes
        part = flat[start : start + 2**20]
        linear = (table[part] if table is not None else decode(part)) @ matrix
        encoded = encode_srgb(tone_map(linear) if hdr else linear)
        out[start : start + 2**20] = np.round(255 * encoded) if is_bytes else encoded
    return result


@functools.cache
def _to_srgb_primaries(primaries: tuple[tuple[float, float], ...]) -> np.ndarray:
    """Returns the matrix from linear RGB with the given primaries to linear sRGB.

    It maps white to white, even if the white points differ.
    """
    return np.linalg.inv(_to_xyz(_SRGB)) @ _adapt_white(primaries[3]) @ _to_xyz(primaries)


def _to_xyz(primaries: tuple[tuple[float, float], ...]) -> np.ndarray:
    """Returns the matrix from linear RGB with the given primaries to CIE XYZ; white has Y = 1."""
    xyz = np.array([[x / y, 1.0, (1 - x - y) / y] for x, y in primaries])
    return xyz[:3].T * np.linalg.solve(xyz[:3].T, xyz[3])


def _adapt_white(white: tuple[float, float]) -> np.ndarray:
    """Returns the Bradford matrix that adapts CIE XYZ from a white point to that of sRGB."""
    cone = np.array(
        [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
    )
    source, target = (cone @ np.array([x / y, 1.0, (1 - x - y) / y]) for x, y in (white, _SRGB[3]))
    return np.linalg.inv(cone) @ np.diag(target / source) @ cone


def encode_srgb(linear: np.ndarray) -> np.ndarray:
    """Encodes linear light as sRGB, both in 0..1; values outside of 0..1 are clipped first."""
    linear = np.clip(linear, 0.0, 1.0)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def _decode_srgb(x: np.ndarray) -> np.ndarray:
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)


def decode_pq(x: np.ndarray) -> np.ndarray:
    """Decodes PQ (SMPTE ST 2084) to linear light, in which 1 is diffuse white.

    Args:
        x: encoded values in 0..1.
    """
    power = np.maximum(x, 0.0) ** (1 / 78.84375)
    base = np.maximum(power - 0.8359375, 0.0) / (18.8515625 - 18.6875 * power)
    return 10_000 / _WHITE * base ** (1 / 0.1593017578125)


def encode_pq(linear: np.ndarray) -> np.ndarray:
    """Encodes linear light as PQ; the inverse of `decode_pq`."""
    power = np.maximum(linear * _WHITE / 10_000, 0.0) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375


def decode_hlg(x: np.ndarray) -> np.ndarray:
    """Decodes HLG (hybrid log-gamma) to linear light of the display, in which 1 is diffuse white.

    The system gamma of BT.2100 is applied to each channel alone, so greys stay grey.

    Args:
        x: encoded values in 0..1.
    """
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(x <= 0.5, x**2 / 3, (np.exp((x - c) / a) + b) / 12)
    return _HLG_PEAK / _WHITE * scene**1.2


def tone_map(linear: np.ndarray) -> np.ndarray:
    """Maps high dynamic range to at most diffuse white, and keeps the ratios of the channels.

    The curve is that of BT.2390, section 5.4.1. In PQ encoding, values below a knee stay unchanged,
    and a spline maps the values above it to the range from the knee to white.

    Args:
        linear: `[..., 3]` linear light, in which 1 is diffuse white.

    Returns:
        `[..., 3]` linear light, at most 1.
    """
    peak = _HLG_PEAK / _WHITE
    largest = np.maximum(linear.max(-1, keepdims=True), 1e-6)
    scale = encode_pq(np.array(peak))
    e, limit = encode_pq(np.minimum(largest, peak)) / scale, encode_pq(np.array(1.0)) / scale
    knee = 1.5 * limit - 0.5
    t = np.clip((e - knee) / (1 - knee), 0.0, 1.0)
    spline = (
        (2 * t**3 - 3 * t**2 + 1) * knee
        + (t**3 - 2 * t**2 + t) * (1 - knee)
        + (-2 * t**3 + 3 * t**2) * limit
    )
    mapped = decode_pq(np.where(e < knee, e, spline) * scale)
    return linear * (mapped / largest)


_DECODE: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    **dict.fromkeys((1, 6, 14, 15), lambda x: x**2.4),  # shown as BT.1886 says
    4: lambda x: x**2.2,
    5: lambda x: x**2.8,
    8: lambda x: x,
    13: _decode_srgb,
    _PQ: decode_pq,
    17: lambda x: x**2.6,
    _HLG: decode_hlg,
}
