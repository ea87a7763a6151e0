"""Reads the metadata of photographs in all file formats.

Dates, camera, exposure, people, rights, description and resolution are copied from a photograph to
its stylized picture. `exif_tags`, `xmp_packet` and `iptc_records` say what is left out.
"""

from typing import Any, NamedTuple

from PIL import Image

from metastyle_jax.data.images import image_files
from metastyle_jax.data.images.decoding import pillow_modes
from metastyle_jax.data.images.metadata import exif_tags, iptc_records, png_texts, xmp_packet

_XMP_TAG, _IPTC_TAG, _PHOTOSHOP_TAG = 700, 33723, 34377  # of TIFF


class PhotoMetadata(NamedTuple):
    """Metadata of a photograph that are copied to its stylized picture.

    Attributes:
        exif: the EXIF data.
        xmp: the XMP data, unchanged from the file; b'' for none.
        iptc: the records of the IPTC data.
        texts: the texts that exist among 'Title', 'Author', 'Description', 'Copyright' and
            'Comment', from any of the sources.
        dpi: pixels per inch in x and y of the upright picture; None if unknown.
        size: height and width of the upright photograph.
        keep_location: whether to keep metadata that say where the photograph was taken.
        damaged: the kinds of metadata that are damaged, such as 'EXIF', for a warning.
    """

    exif: exif_tags.ExifData
    xmp: bytes
    iptc: list[iptc_records.Record]
    texts: dict[str, str]
    dpi: tuple[float, float] | None
    size: tuple[int, int]
    keep_location: bool
    damaged: tuple[str, ...]


def read(
    source: image_files.EncodedImage, *, keep_location: bool = False, name: str | None = None
) -> PhotoMetadata:
    """Reads the metadata of a photograph; damaged parts are left out.

    Args:
        source: a path, or the bytes of a picture file.
        keep_location: whether to keep metadata that say where the photograph was taken.
        name: name of the picture in error messages; by default the path.

    Raises:
        ImageError: the file is not a picture, see `image_files.probe`.
    """
    with image_files.opened(source, name) as (image, turn, size):
        dpi = _dpi(image, turn)
        exif, is_broken = exif_tags.EMPTY, False
        raw = {kind: image.info.get(kind) for kind in ('exif', 'xmp')}
        raw['iptc'] = _iptc(image)
        comment = image.info.get('comment')
        if image.format == 'TIFF':
            stream: Any = getattr(image, 'fp', None)
            exif, is_broken = exif_tags.parse(stream, keep_location=keep_location)
            raw['exif'], raw['xmp'] = None, raw['xmp'] or _bytes_of_tag(image, _XMP_TAG)
        is_png = image.format == 'PNG'
    data = {kind: each for kind, each in raw.items() if isinstance(each, bytes) and each}
    png: dict[str, bytes] = {}
    if is_png:
        # `opened` may leave the texts out of its stream, so they are read from the file itself.
        with image_files.open_stream(source, name or 'picture') as file:
            png = png_texts.read(file)
        data = {**{kind: png[kind] for kind in ('exif', 'xmp', 'iptc') if kind in png}, **data}
    damaged = ['EXIF'] if is_broken else []
    if 'exif' in data:
        exif, is_broken = exif_tags.parse_bytes(data['exif'], keep_location=keep_location)
        damaged += ['EXIF'] if is_broken else []
    iptc = data.get('iptc', b'')
    if iptc.startswith(b'8BIM'):
        iptc = iptc_records.from_photoshop(iptc)
    records, is_broken = iptc_records.parse(iptc, keep_location=keep_location)
    damaged += ['IPTC'] if is_broken else []
    xmp = data.get('xmp', b'')
    try:
        if xmp:  # only to find damage; what is left out depends on the size of the result
            xmp_packet.clean(xmp, size=size, is_resized=False, keep_location=True)
    except ValueError:
        xmp, damaged = b'', [*damaged, 'XMP']
    titled = {title: png[title] for title in png_texts.TITLES if title in png}
    if isinstance(comment, bytes):
        titled = {'Comment': comment, **titled}
    texts = _texts(titled, records, xmp, exif)
    return PhotoMetadata(exif, xmp, records, texts, dpi, size, keep_location, tuple(damaged))


def _texts(
    titled: dict[str, bytes],
    records: list[iptc_records.Record],
    xmp: bytes,
    exif: exif_tags.ExifData,
) -> dict[str, str]:
    """Merges title -> text of all sources; EXIF replaces XMP, XMP replaces IPTC, IPTC `titled`."""
    texts = {
        **{title: exif_tags.text_of(data) for title, data in titled.items()},
        **iptc_records.texts(records),
        **xmp_packet.texts(xmp),
        **exif.texts,
    }
    texts = {title: text for title, text in texts.items() if text}
    if 'Comment' in texts:
        texts.setdefault('Description', texts['Comment'])
    return texts


def _dpi(image: Image.Image, turn: int) -> tuple[float, float] | None:
    """Returns pixels per inch in x and y of the upright picture; None if unknown or implausible."""
    found = image.info.get('dpi')
    if found is None and image.format not in ('JPEG', 'TIFF', 'PNG'):
        found = _dpi_of_exif(image)
    try:
        x, y = map(float, found)  # type: ignore[arg-type]
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    if not (1 <= x < 65535 and 1 <= y < 65535):
        return None
    # A PNG counts pixels a metre: 300 dots an inch come back as 299.9994.
    x, y = (round(side) if abs(side - round(side)) < 0.01 else side for side in (x, y))
    return (y, x) if turn >= 5 else (x, y)


def _dpi_of_exif(image: Image.Image) -> tuple[float, float] | None:
    """Reads the resolution from the EXIF data; None if it is missing or damaged."""
    try:
        tags = Image.Image.getexif(image)
        scale = 2.54 if tags.get(296) == 3 else 1.0
        return float(tags[282]) * scale, float(tags[283]) * scale
    except (*pillow_modes.METADATA_ERRORS, ZeroDivisionError):
        return None


def _iptc(image: Image.Image) -> bytes | None:
    """Returns the IPTC data of a JPEG or TIFF; None or b'' if there are none."""
    if image.format == 'TIFF':
        found = _bytes_of_tag(image, _IPTC_TAG)
        return found or iptc_records.from_photoshop(_bytes_of_tag(image, _PHOTOSHOP_TAG) or b'')
    resources = image.info.get('photoshop')
    return resources.get(0x0404) if isinstance(resources, dict) else None


def _bytes_of_tag(image: Image.Image, tag: int) -> bytes | None:
    """Returns the bytes of a TIFF tag; None if the tag is missing or of another type."""
    try:
        found = getattr(image, 'tag_v2', {}).get(tag)
    except pillow_modes.METADATA_ERRORS:
        return None
    if isinstance(found, tuple) and all(isinstance(each, int) for each in found):
        # Some programs write the type LONG, for which there is no reason.
        return b''.join(each.to_bytes(4, 'little') for each in found)
    return found if isinstance(found, bytes) else None
