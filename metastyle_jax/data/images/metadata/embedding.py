"""Writes metadata to picture files: as options of Pillow's encoders, or to a TIFF's directory."""

import io
import struct
from typing import Any

from PIL import PngImagePlugin

from metastyle_jax.data.images.decoding import tiff_directories
from metastyle_jax.data.images.metadata import (
    exif_tags,
    iptc_records,
    photo_metadata,
    png_texts,
    xmp_packet,
)

_SEGMENT = 65_500  # bytes that a segment of a JPEG holds, less some
_UNDEFINED, _BYTE = 7, 1  # types of TIFF


def options(
    metadata: photo_metadata.PhotoMetadata, encoder: str, size: tuple[int, int]
) -> tuple[dict[str, Any], list[str]]:
    """Makes the options of Pillow's `Image.save` that write metadata.

    Args:
        metadata: metadata of the photograph.
        encoder: Pillow's name of the format.
        size: height and width of the picture to write.

    Returns:
        The options, which are empty for TIFF (see `with_directory`); and the kinds of metadata of
        which something is left out because it is too large for the format.
    """
    left_out: list[str] = []
    limit = _SEGMENT if encoder == 'JPEG' else None
    found: dict[str, Any] = {}
    exif, too_large = _exif(metadata, encoder, size, limit)
    left_out += ['EXIF'] if too_large else []
    xmp = _xmp(metadata, size)
    if xmp and limit and len(xmp) > limit:
        xmp, left_out = b'', [*left_out, 'XMP']
    if encoder == 'TIFF':
        return {}, left_out  # see `with_directory`
    if exif:
        found['exif'] = exif
    if encoder in ('JPEG', 'PNG') and metadata.dpi:
        found['dpi'] = metadata.dpi
    if xmp and encoder != 'PNG':
        found['xmp'] = xmp
    if encoder == 'JPEG':
        comment = metadata.texts.get('Comment', '').encode()
        if comment:
            found['comment'] = comment[:_SEGMENT]
        if metadata.iptc:
            found['extra'] = iptc_records.to_jpeg_segment(metadata.iptc)
            left_out += [] if found['extra'] else ['IPTC']
    if encoder == 'PNG':
        found['pnginfo'] = _png_info(metadata, xmp)
    return found, left_out


def with_directory(
    data: bytes, metadata: photo_metadata.PhotoMetadata, size: tuple[int, int]
) -> bytes:
    """Adds metadata to a TIFF: a new directory is appended, which replaces the old one.

    Args:
        data: contents of a TIFF file from Pillow.
        metadata: metadata of the photograph.
        size: height and width of the picture.

    Returns:
        The contents of the new file.
    """
    stream = io.BytesIO(data)
    header = tiff_directories.read_header(stream)
    tags, _, _ = tiff_directories.read_directory(stream, header, header.first, limit=2**31)
    exif = metadata.exif
    if exif.order != header.order:
        groups = tiff_directories.swapped((exif.image, exif.photo, exif.place))
        exif = exif_tags.ExifData(header.order, *groups)
    added = exif_tags.directory(exif, texts=metadata.texts, dpi=metadata.dpi, size=size)
    if xmp := _xmp(metadata, size):
        added[700] = tiff_directories.TiffTag(_BYTE, len(xmp), xmp)
    if metadata.iptc:
        iptc = iptc_records.to_bytes(metadata.iptc)
        added[33723] = tiff_directories.TiffTag(_UNDEFINED, len(iptc), iptc)
    data += b'\0' * (len(data) % 2)
    place = struct.pack(f'{header.order}I', len(data))
    directory = tiff_directories.to_bytes(header.order, {**tags, **added}, len(data))
    return data[:4] + place + data[8:] + directory


def _exif(
    metadata: photo_metadata.PhotoMetadata, encoder: str, size: tuple[int, int], limit: int | None
) -> tuple[bytes, bool]:
    """Encodes the EXIF data; returns them, b'' for none, and whether some were too large."""
    # JPEG and PNG have a place of their own for the resolution.
    has_place = encoder in ('JPEG', 'PNG')
    exif, texts, is_cut = metadata.exif, metadata.texts, False
    while True:
        is_needed = exif.image or exif.photo or exif.place
        dpi = metadata.dpi if is_needed or not has_place else None
        tags = exif_tags.directory(exif, texts=texts, dpi=dpi, size=size)
        if not tags:
            return b'', is_cut
        data = exif_tags.PREFIX + tiff_directories.file_of(exif.order, tags)
        if limit is None or len(data) <= limit:
            return data, is_cut
        is_cut = True
        if is_needed:
            exif = exif_tags.without_largest(exif)
        else:
            texts = {}


def _xmp(metadata: photo_metadata.PhotoMetadata, size: tuple[int, int]) -> bytes:
    """Encodes the XMP data for a picture; b'' for none."""
    if not metadata.xmp:
        return b''
    is_resized = size != metadata.size
    return (
        xmp_packet.clean(
            metadata.xmp, size=size, is_resized=is_resized, keep_location=metadata.keep_location
        )
        or b''
    )


def _png_info(metadata: photo_metadata.PhotoMetadata, xmp: bytes) -> PngImagePlugin.PngInfo:
    """Makes the text chunks of a PNG: title, author and others, and the XMP data."""
    info = PngImagePlugin.PngInfo()
    for title in png_texts.TITLES:
        if title in metadata.texts:
            info.add_itxt(title, metadata.texts[title])
    if xmp:
        info.add_itxt('XML:com.adobe.xmp', xmp.decode())
    return info
