"""Decides from the first bytes of a file whether it is a film or a picture.

The suffix is not used for this, because it may be wrong or missing. For known formats this module
loads neither NumPy nor PyAV, so that the stylization of a picture starts fast.
"""

import pathlib
from typing import Any

from metastyle_jax.stylization.video import ffmpeg
from metastyle_jax.stylization.video.encoding import containers

SUFFIXES = (  # of files that are called films if they are missing, empty or unreadable
    *('.mp4', '.mov', '.mkv', '.m4v', '.avi', '.webm', '.flv', '.mpg', '.mpeg', '.ts', '.wmv'),
    *('.ogv', '.3gp', '.3g2', '.mts', '.m2ts', '.vob', '.mxf', '.asf', '.h264', '.264', '.hevc'),
    *('.h265', '.265', '.y4m', '.dv', '.f4v', '.divx', '.mjpeg', '.ivf', '.nut', '.rm', '.rmvb'),
)
_HEAD = 1024  # bytes of a file that are looked at
# Brands of pictures among the files that begin like an MP4.
_PICTURE_BRANDS = (
    *(b'heic', b'heix', b'heim', b'heis', b'mif1', b'avif', b'jp2 ', b'jpx ', b'jpm ', b'crx '),
)
_QUICKTIME = (b'moov', b'mdat', b'wide', b'free', b'skip', b'pnot')  # a file without a brand
_STARTS = (
    b'\x1aE\xdf\xa3',  # Matroska, WebM
    b'FLV\x01',
    b'0&\xb2u\x8ef\xcf\x11',  # ASF, WMV
    b'OggS',
    b'\x06\x0e+4',  # MXF
    b'.RMF',
    b'YUV4MPEG2 ',
    b'DKIF',  # IVF
    b'nut/multimedia container',
    b'BBCD',  # Dirac
    b'\x1f\x07\x00',  # DV
    b'\x00\x00\x00\x01',  # H.264, H.265
    b'\x00\x00\x00\x00\x01\xbc',  # GXF
    *(b'ID3', b'fLaC'),  # sound, which the reader of films refuses by this name
)
_PICTURES = (
    *(b'\xff\xd8\xff', b'\x89PNG', b'GIF8', b'BM', b'II*\x00', b'MM\x00*', b'\xff\x0a', b'8BPS'),
    *(b'\x00\x00\x00\x0cjP', b'P1', b'P2', b'P3', b'P4', b'P5', b'P6', b'Pf', b'PF', b'%PDF'),
)
_PACKET_SIZES = ((188, 0), (192, 4), (204, 0))  # of MPEG-TS, and where in a packet its mark is


def is_film(input: str, output: str) -> bool:
    """Whether an input is stylized as a film rather than as a picture.

    An animated picture (GIF, PNG, WebP, AVIF) counts as a film only if the output is a film or '-'.
    For any other output, only its first frame is stylized.

    Args:
        input: a file, a folder, 'camera:NAME', or '-' for the standard input.
        output: the name of the file to write, or '-' for the standard output.
    """
    path = pathlib.Path(input)
    if ffmpeg.is_live(input):
        return True
    if path.is_dir():
        return False
    try:
        with path.open('rb') as file:
            head = file.read(_HEAD)
    except OSError:
        head = b''
    if not head:
        return path.suffix.lower() in SUFFIXES
    if begins_as_picture(head):
        is_output_film = pathlib.PurePath(output).suffix.lower() in containers.CONTAINERS
        return (is_output_film or output == ffmpeg.STANDARD_STREAM) and is_animation(path)
    return begins_as_film(head) or (not _is_text(head) and _opens_in_ffmpeg(path))


def begins_as_film(head: bytes) -> bool:
    """Whether the first bytes of a file belong to a known format of films or of sound."""
    if head[4:8] == b'ftyp' or head[4:8] in _QUICKTIME or head.startswith(_STARTS):
        return True
    if head[:4] == b'RIFF' and head[8:12] in (b'AVI ', b'AVIX', b'WAVE'):
        return True
    if head[:3] == b'\x00\x00\x01' and head[3:4] != b'\x00':  # MPEG, but no icon of Windows
        return True
    return any(
        len(head) > 2 * size + mark and head[mark : 2 * size + mark + 1 : size] == b'GGG'
        for size, mark in _PACKET_SIZES
    )


def begins_as_picture(head: bytes) -> bool:
    """Whether the first bytes of a file belong to a known format of pictures, even animated."""
    if head[4:8] == b'ftyp':
        return head[8:12] in _PICTURE_BRANDS or b'avif' in head[16:64]
    return head.startswith(_PICTURES) or (head[:4] == b'RIFF' and head[8:12] == b'WEBP')


def is_animation(path: pathlib.Path) -> bool:
    """Whether a file is a GIF, PNG, WebP or AVIF with several frames."""
    from metastyle_jax.stylization.video.decoding import animations

    try:
        with animations.open_image(path) as image:
            return bool(getattr(image, 'is_animated', False))
    except Exception:  # Pillow raises almost any class for damaged files
        return False


def holds_picture(container: Any) -> bool:
    """Whether PyAV opened the file as a still picture, since FFmpeg reads pictures like films."""
    kind = container.format.name
    return bool(kind == 'image2' or kind.endswith('_pipe'))


def _is_text(head: bytes) -> bool:
    return all(8 < byte < 127 for byte in head)


def _opens_in_ffmpeg(path: pathlib.Path) -> bool:
    """Whether FFmpeg finds a film in a file of unknown format.

    The suffix decides if PyAV is not installed or cannot read the file.
    """
    try:
        import av
    except ImportError:
        return path.suffix.lower() in SUFFIXES
    try:
        with av.open(str(path)) as opened:
            sizes = [s.codec_context.width for s in opened.streams.video if s.codec_context]
            return any(sizes) and not holds_picture(opened)
    except (av.error.FFmpegError, OSError):
        return path.suffix.lower() in SUFFIXES
