"""Detects the format of a file by its content, and removes large texts from PNG files.

The suffix may be wrong: phones and web sites often name HEIC or WebP files `.jpg`. So the first
bytes decide which format, and which remedy, an error message names.
"""

import io
from typing import BinaryIO

from metastyle_jax.data.images.decoding import png_chunks

SUFFIXES = (  # of the formats that can be decoded
    *('.png', '.jpg', '.jpeg', '.jpe', '.jfif', '.webp', '.gif', '.bmp', '.dib', '.tif', '.tiff'),
    *('.ppm', '.pgm', '.pbm', '.pnm', '.pfm', '.avif', '.jp2'),
)
_LARGE_TEXT = 512  # bytes of compressed text that may unfold to more than Pillow allows, 1 MiB
_BRANDS = {  # of files in the ISO base media format, at byte 8
    b'heic': 'HEIC', b'heix': 'HEIC', b'heim': 'HEIC', b'heis': 'HEIC', b'hevc': 'HEIC',
    b'hevx': 'HEIC', b'mif1': 'HEIC', b'msf1': 'HEIC', b'avif': 'AVIF', b'avis': 'AVIF',
    b'crx ': 'RAW',
}  # fmt: skip
_STARTS = (
    (b'\xff\xd8\xff', 'JPEG'), (png_chunks.SIGNATURE, 'PNG'), (b'GIF8', 'GIF'), (b'BM', 'BMP'),
    (b'\xff\x0a', 'JPEG XL'), (b'\x00\x00\x00\x0cJXL ', 'JPEG XL'), (b'8BPS', 'Photoshop'),
    (b'%PDF', 'PDF'), (b'%!PS', 'PostScript'), (b'FUJIFILMCCD-RAW', 'RAW'), (b'IIU\x00', 'RAW'),
    (b'IIRO', 'RAW'), (b'IIRS', 'RAW'), (b'FOVb', 'RAW'), (b'\x76\x2f\x31\x01', 'OpenEXR'),
    (b'#?RADIANCE', 'Radiance HDR'), (b'II*\x00\x10\x00\x00\x00CR', 'RAW'), (b'PK', 'ZIP'),
    (b'\x00\x00\x01\x00', 'ICO'), (b'gimp xcf', 'GIMP'), (b'DDS ', 'DDS'), (b'qoif', 'QOI'),
    (b'AT&TFORM', 'DjVu'), (b'II\xbc\x01', 'JPEG XR'), (b'\xd7\xcd\xc6\x9a', 'WMF'),
    (b'\x1f\x8b', 'gzip'), (b'\x0a\x05\x01\x08', 'PCX'), (b'\x01\xda', 'SGI'),
    (b'II+\x00', 'TIFF'), (b'MM\x00+', 'TIFF'), (b'II*\x00', 'TIFF'), (b'MM\x00*', 'TIFF'),
)  # fmt: skip
_REMEDIES = {
    'AVIF': 'AVIF that this installation of Pillow cannot decode: save it as PNG or JPEG',
    'BMP': 'a BMP of a kind that Pillow cannot decode, or is damaged: save it as PNG',
    'HEIC': "HEIC, which needs the extra heif: pip install 'metastyle_jax[heif]', or save it as "
    'JPEG',
    **{
        kind: f'{kind}, which is not read here: save it as PNG'
        for kind in ('ICO', 'DDS', 'QOI', 'DjVu', 'JPEG XR', 'WMF', 'PCX', 'SGI')
    },
    'GIMP': 'a GIMP document: export it as PNG',
    'gzip': 'compressed (gzip): unpack it; export an SVG drawing as PNG',
    'JPEG XL': 'JPEG XL, which Pillow cannot decode: save it as PNG or JPEG',
    'OpenEXR': 'OpenEXR: save it as a 16-bit PNG or a TIFF',
    'PDF': 'a PDF document: save the page as PNG',
    'Photoshop': 'a Photoshop document: save it as PNG or TIFF',
    'PostScript': 'PostScript: save the page as PNG',
    'RAW': 'RAW data of a camera: develop it, and save it as JPEG or TIFF',
    'Radiance HDR': 'a Radiance HDR picture: save it as PNG or TIFF',
    'SVG': 'an SVG drawing: export it as PNG',
    'TIFF': 'a TIFF of a kind that Pillow cannot decode, or is damaged: save it as PNG',
    'ZIP': 'a ZIP archive: unpack it',
    'text': 'a text or a web page, and no picture: download the picture itself',
}


def kind_of(stream: BinaryIO) -> str:
    """Detects the format of a file by its content.

    Args:
        stream: the file; its position is kept.

    Returns:
        The name of the format, such as 'JPEG', 'HEIC', 'SVG', 'RAW' or 'text'; '' if it is unknown.
    """
    position = stream.tell()
    stream.seek(0)
    head = stream.read(1024)
    stream.seek(position)
    if head[4:8] == b'ftyp':
        brands = [head[8:12], *(head[i : i + 4] for i in range(16, min(len(head), 64), 4))]
        if b'avif' in brands:  # such files name the brands of HEIC as well
            return 'AVIF'
        return next((_BRANDS[brand] for brand in brands if brand in _BRANDS), '')
    for start, kind in _STARTS:
        if head.startswith(start):
            return kind
    if head[:4] == b'RIFF' and head[8:12] == b'WEBP':
        return 'WebP'
    text = head.lstrip(b'\xef\xbb\xbf \t\r\n').lower()
    if b'<svg' in text:
        return 'SVG'
    if text.startswith((b'<', b'{')) or (head and all(8 < byte < 127 for byte in head)):
        return 'text'
    return ''


def remedy_of(kind: str) -> str:
    """Returns a text about a format that cannot be read, with a remedy, for error messages.

    It is '' for formats that can be read, so that the file must be damaged.
    """
    return _REMEDIES.get(kind, '')


def without_large_text(stream: BinaryIO) -> BinaryIO:
    """Removes all texts from a PNG with large texts, because Pillow refuses such a file.

    Args:
        stream: the file.

    Returns:
        A copy without texts if the file is a PNG with large texts; else the stream itself, at its
        old position.
    """
    position = stream.tell()
    kept, is_large = [], False
    for chunk in png_chunks.chunks(stream):
        if chunk.kind in png_chunks.TEXTS:
            is_large |= chunk.length > (2**20 if chunk.kind == b'tEXt' else _LARGE_TEXT)
        else:
            kept.append(chunk)
    if is_large:
        parts = (png_chunks.whole(stream, chunk) for chunk in kept)
        return io.BytesIO(png_chunks.SIGNATURE + b''.join(parts))
    stream.seek(position)
    return stream
