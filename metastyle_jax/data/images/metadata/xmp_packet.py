"""Chooses which XMP properties are copied from a photograph to its stylized picture.

Source: XMP specification, part 1, 2012 (ISO 16684-1) and part 2 for the names.
"""

import re
from xml.dom import minidom
from xml.parsers import expat

_RDF = 'http://www.w3.org/1999/02/22-rdf-syntax-ns#'
_DC = 'http://purl.org/dc/elements/1.1/'
_TIFF, _EXIF = 'http://ns.adobe.com/tiff/1.0/', 'http://ns.adobe.com/exif/1.0/'
_LIMIT = 2**21  # bytes; larger ones hold pictures or long histories
# Where the photograph was taken, in whatever vocabulary.
_PLACES = re.compile(
    r'gps.*|lat|lon|long|latitude|longitude|.*altitude|location|location(created|shown|name|id)|'
    r'city|state|country|country(code|name)|sublocation|provincestate|worldregion|shotlocation|'
    r'coverage|geo.*',
    re.IGNORECASE,
)
# What shows the old picture, describes how its pixels are stored, or refers to other parts of its
# file: previews, depth, gain maps for HDR, settings of RAW developers, regions in its pixels.
_SPACES_LEFT_OUT = re.compile(
    r'.*/(xmp/note|photos/1\.0/(depthmap|image|camera|container.*|audio)|hdr-gain-map|'
    r'camera-raw-settings|HDRGainMap|pixeldatainfo|hdrtoningmap|schemas/regions|'
    r'crs|crss)(/.*|#)?',
    re.IGNORECASE,
)
_LEFT_OUT = {
    _TIFF: 'BitsPerSample Compression PhotometricInterpretation SamplesPerPixel YCbCrPositioning '
    'PlanarConfiguration YCbCrSubSampling YCbCrCoefficients TransferFunction WhitePoint '
    'PrimaryChromaticities ReferenceBlackWhite XResolution YResolution ResolutionUnit NativeDigest',
    _EXIF: 'MakerNote SubjectArea SubjectLocation ComponentsConfiguration CompressedBitsPerPixel '
    'RelatedSoundFile ImageUniqueID NativeDigest',
    'http://ns.adobe.com/xap/1.0/': 'Thumbnails',
    'http://ns.adobe.com/photoshop/1.0/': 'ICCProfile ColorMode DocumentAncestors History',
    'http://ns.adobe.com/xap/1.0/mm/': 'History Pantry Ingredients',
}
_PANORAMA = 'http://ns.google.com/photos/1.0/panorama/'


def clean(
    data: bytes, *, size: tuple[int, int], is_resized: bool, keep_location: bool
) -> bytes | None:
    """Removes properties that are wrong for a stylized picture; sets its size and orientation.

    Args:
        data: XMP data of the photograph.
        size: height and width of the stylized picture.
        is_resized: whether `size` differs from the size of the photograph.
        keep_location: whether to keep properties that name places.

    Returns:
        XMP data for the picture; None if no property is left.

    Raises:
        ValueError: the data are damaged, or too large.
    """
    document = _parsed(data)
    height, width = size
    corrected: dict[tuple[str | None, str | None], str] = {
        (_TIFF, 'Orientation'): '1', (_TIFF, 'ImageWidth'): str(width),
        (_TIFF, 'ImageLength'): str(height), (_EXIF, 'PixelXDimension'): str(width),
        (_EXIF, 'PixelYDimension'): str(height), (_EXIF, 'ColorSpace'): '1',
    }  # fmt: skip

    def is_left_out(node: minidom.Node) -> bool:
        space, name = node.namespaceURI or '', node.localName or ''
        return (
            bool(_SPACES_LEFT_OUT.fullmatch(space))
            or name in _LEFT_OUT.get(space, '').split()
            or (not keep_location and space != _RDF and bool(_PLACES.fullmatch(name)))
            or (is_resized and space == _PANORAMA)
        )

    def visit(element: minidom.Element) -> None:
        for attribute in list(element.attributes.values()):
            if attribute.prefix == 'xmlns' or attribute.name == 'xmlns':
                continue
            if is_left_out(attribute):
                element.removeAttributeNode(attribute)
            elif value := corrected.get((attribute.namespaceURI, attribute.localName)):
                attribute.value = value
        for child in list(element.childNodes):
            if child.nodeType != child.ELEMENT_NODE:
                continue
            if is_left_out(child):
                element.removeChild(child)
            elif value := corrected.get((child.namespaceURI, child.localName)):
                for node in list(child.childNodes):
                    child.removeChild(node)
                child.appendChild(document.createTextNode(value))
            else:
                visit(child)

    if document.documentElement is not None:
        visit(document.documentElement)
    descriptions = document.getElementsByTagNameNS(_RDF, 'Description')
    if not any(_says_something(each) for each in descriptions):
        return None
    # Without the declaration of XML, which the packet's own instructions replace.
    return ''.join(node.toxml() for node in document.childNodes).encode()


def texts(data: bytes) -> dict[str, str]:
    """Returns the texts that exist among 'Description', 'Author', 'Copyright' and 'Title'.

    The result is empty if the data are damaged.
    """
    try:
        document = _parsed(data)
    except ValueError:
        return {}
    names = {
        'Description': 'description', 'Author': 'creator', 'Copyright': 'rights', 'Title': 'title'
    }  # fmt: skip
    found: dict[str, str] = {}
    for title, name in names.items():
        for element in document.getElementsByTagNameNS(_DC, name):
            items = element.getElementsByTagNameNS(_RDF, 'li')
            words = [_text_of(item) for item in items] or [_text_of(element)]
            if text := ', '.join(words) if name == 'creator' else words[0]:
                found.setdefault(title, text)
    return found


def _parsed(data: bytes) -> minidom.Document:
    """Parses XMP data; raises ValueError if they are damaged or too large, or define entities.

    Definitions of entities are refused, because a short one can expand to gigabytes.
    """
    if len(data) > _LIMIT:
        raise ValueError(f'{len(data):,} bytes')
    data = data.strip(b'\0 \t\r\n')
    if b'<!' in data.replace(b'\0', b'').replace(b'<!--', b'').replace(b'<![CDATA[', b''):
        raise ValueError('it defines entities')
    try:
        document = minidom.parseString(data)
    except (expat.ExpatError, UnicodeError, LookupError, AttributeError) as error:
        raise ValueError(str(error)) from error
    return document


def _says_something(description: minidom.Element) -> bool:
    """Whether an element `rdf:Description` has at least one property."""
    attributes = description.attributes.values()
    properties = [a for a in attributes if a.prefix not in ('xmlns', 'rdf') and a.name != 'xmlns']
    return bool(properties) or any(
        child.nodeType == child.ELEMENT_NODE for child in description.childNodes
    )


def _text_of(element: minidom.Element) -> str:
    """Returns the text directly inside an element."""
    return ''.join(
        child.data for child in element.childNodes if child.nodeType == child.TEXT_NODE
    ).strip()
