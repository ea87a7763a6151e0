"""A photograph's metadata are in the picture made of it, in every format that can be written."""

import struct
import zlib

import numpy as np
import pytest
from pictures import chunk, encode, gradient, png
from PIL import ExifTags, Image, features

from metastyle_jax.data.images import image_files, image_writing
from metastyle_jax.data.images.decoding import tiff_directories
from metastyle_jax.data.images.metadata import exif_tags, photo_metadata

SHORT, LONG, RATIONAL = tiff_directories.SHORT, tiff_directories.LONG, tiff_directories.RATIONAL
XMP = """<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF
 xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""
 xmlns:tiff="http://ns.adobe.com/tiff/1.0/" xmlns:exif="http://ns.adobe.com/exif/1.0/"
 xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/"
 xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:crs="http://ns.adobe.com/camera-raw-settings/1.0/"
 xmlns:drone="http://www.dji.com/drone-dji/1.0/"
 tiff:Orientation="6" exif:GPSLatitude="48,8.0N" photoshop:City="Munich" xmp:Rating="4"
 crs:Exposure="+1" drone:GpsLatitude="48.1"><exif:PixelXDimension>48</exif:PixelXDimension>
 <dc:description><rdf:Alt><rdf:li xml:lang="x-default">Größe in XMP</rdf:li></rdf:Alt>
 </dc:description><xmp:Thumbnails><rdf:Alt><rdf:li>/9j/4AAQ</rdf:li></rdf:Alt></xmp:Thumbnails>
</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>"""
FORMATS = [
    'jpg', 'png', 'tif', 'webp',
    pytest.param('avif', marks=pytest.mark.skipif(not features.check('avif'), reason='no AVIF')),
    'heic',
]  # fmt: skip


def tag(kind, *values):
    return tiff_directories.tag_of(ORDER, kind, values)


ORDER = '>'


def exif_bytes():
    """EXIF of a turned photograph with a place, notes of the maker and sizes."""
    raw = tiff_directories.TiffTag
    photo = {
        33434: tag(RATIONAL, 1, 250), 36867: tiff_directories.text_tag('2024:05:06 07:08:09'),
        37500: raw(7, 900, b'secret' * 150), 40962: tag(LONG, 48), 40963: tag(LONG, 32),
        40961: tag(SHORT, 65535), 42036: tiff_directories.text_tag('RF 24-70'),
        37510: raw(7, 13, b'ASCII\0\0\0hello'), 60000: tag(LONG, 7),
    }  # fmt: skip
    place = {1: tiff_directories.text_tag('N'), 2: tag(RATIONAL, 48, 1, 8, 1, 0, 1)}
    image = {
        270: tiff_directories.text_tag('Größe am Fluß'), 271: tiff_directories.text_tag('Canon'),
        274: tag(SHORT, 6), 282: tag(RATIONAL, 300, 1), 283: tag(RATIONAL, 300, 1),
        296: tag(SHORT, 2), 315: tiff_directories.text_tag('Zoë'),
        33432: tiff_directories.text_tag('© Zoë'), 34665: photo, 34853: place,
    }  # fmt: skip
    return exif_tags.PREFIX + tiff_directories.file_of(ORDER, image)


def iptc_bytes():
    records = {90: b'Munich', 120: 'IPTC Größe'.encode(), 80: b'Zoe', 200: b'preview'}
    return b''.join(
        struct.pack('>BBBH', 0x1C, 2, name, len(text)) + text for name, text in records.items()
    )


def photograph(**options):
    """A JPEG, 48 x 32 as stored, with metadata of every kind."""
    body = iptc_bytes()
    body = b'Photoshop 3.0\08BIM\4\4\0\0' + struct.pack('>I', len(body)) + body
    segment = b'\xff\xed' + struct.pack('>H', len(body) + 2 + len(body) % 2) + body
    options = {'exif': exif_bytes(), 'xmp': XMP.encode(), 'comment': b'a comment', **options}
    segment += b'\0' * (len(body) % 2)
    return encode(Image.fromarray(gradient()), 'JPEG', extra=segment, dpi=(300, 300), **options)


def written(folder, suffix, source, *, shape=(48, 32), **options):
    """The file of a picture with the metadata of a photograph; and what was left out of them."""
    path = folder / f'a.{suffix}'
    metadata = photo_metadata.read(source, **options)
    rgb = np.full((*shape, 3), 0.5, np.float32)
    return path, image_writing.write(path, rgb, overwrite=True, metadata=metadata)


@pytest.mark.parametrize('suffix', FORMATS)
def test_metadata_go_to_the_result(tmp_path, suffix):
    if suffix == 'heic':
        pytest.importorskip('pillow_heif')
    path, left_out = written(tmp_path, suffix, photograph())
    assert left_out == []
    with Image.open(path) as image:
        assert image.size == (32, 48)
        tags = Image.Image.getexif(image)
        image.load()
    assert tags[271] == 'Canon'
    assert tags[282] == tags[283] == 300
    assert tags[270].encode('latin-1').decode() == 'Größe am Fluß'
    assert tags[315].encode('latin-1').decode() == 'Zoë'
    assert tags.get(274, 1) == 1
    photo = tags.get_ifd(ExifTags.IFD.Exif)
    assert photo[36867] == '2024:05:06 07:08:09'
    assert photo[33434] == pytest.approx(1 / 250)
    assert photo[42036] == 'RF 24-70'
    assert photo[37510].endswith(b'hello')
    assert (photo[40962], photo[40963], photo[40961]) == (32, 48, 1)
    assert not {37500, 60000} & set(photo)
    assert not tags.get_ifd(ExifTags.IFD.GPSInfo)
    again = photo_metadata.read(path, keep_location=True)
    assert again.damaged == ()
    assert again.dpi == (300, 300)
    assert again.texts['Description'] == 'Größe am Fluß'
    assert 'Größe in XMP' in again.xmp.decode()
    data = path.read_bytes()
    for secret in (b'secret', b'GPSLat', b'GpsLat', b'Munich', b'/9j/4AAQ', b'preview', b'+1'):
        assert secret not in data
    for kept in ('tiff:Orientation="1"', '<exif:PixelXDimension>32<', 'xmp:Rating="4"'):
        assert kept in again.xmp.decode()
    if suffix in ('jpg', 'tif'):
        assert b'IPTC Gr' in data
    if suffix in ('jpg', 'png'):
        assert b'a comment' in data


@pytest.mark.parametrize('suffix', ['jpg', 'png', 'tif', 'webp'])
def test_the_place_is_kept_on_request(tmp_path, suffix):
    path, _ = written(tmp_path, suffix, photograph(), keep_location=True)
    with Image.open(path) as image:
        assert Image.Image.getexif(image).get_ifd(ExifTags.IFD.GPSInfo)[2] == (48, 8, 0)
    again = photo_metadata.read(path, keep_location=True)
    assert 'exif:GPSLatitude="48,8.0N"' in again.xmp.decode()
    assert 'Munich' in again.xmp.decode()
    assert (b'Munich' in [text for *_, text in again.iptc]) == (suffix in ('jpg', 'tif'))


@pytest.mark.parametrize('encoder', ['PNG', 'TIFF', 'WEBP'])
def test_metadata_are_read_from_every_format(tmp_path, encoder):
    rest = {} if encoder == 'TIFF' else {'xmp': XMP.encode()}
    if encoder == 'PNG':
        rest = {}
    data = encode(Image.fromarray(gradient()), encoder, exif=exif_bytes(), dpi=(300, 300), **rest)
    path, _ = written(tmp_path, 'jpg', data)
    with Image.open(path) as image:
        tags = image.getexif()
        assert image.info['dpi'] == (300, 300)
    assert tags[271] == 'Canon'
    assert tags.get_ifd(ExifTags.IFD.Exif)[42036] == 'RF 24-70'
    assert tags.get(274, 1) == 1  # Pillow takes that of XMP, where EXIF has none


def test_a_picture_without_metadata_makes_a_file_without_metadata(tmp_path):
    path, _ = written(tmp_path, 'jpg', encode(Image.fromarray(gradient()), 'JPEG'))
    with Image.open(path) as image:
        assert not {'exif', 'xmp', 'comment', 'dpi'} & set(image.info)


@pytest.mark.parametrize('key', ['Description', 'Comment'])
def test_texts_of_a_png_become_the_description(tmp_path, key):
    data = png()
    text = chunk(b'iTXt', f'{key}\0\0\0\0\0'.encode() + 'Größe'.encode())
    path, _ = written(tmp_path, 'jpg', data[:-12] + text + data[-12:], shape=(32, 48))
    with Image.open(path) as image:
        assert image.getexif()[270].encode('latin-1').decode() == 'Größe'
    path, _ = written(tmp_path, 'png', data[:-12] + text + data[-12:], shape=(32, 48))
    with Image.open(path) as image:
        assert image.text[key] == 'Größe'


@pytest.mark.parametrize(
    'broken',
    [
        b'Exif\0\0', b'Exif\0\0MM\0*\xff\xff\xff\xff', b'Exif\0\0garbage', exif_bytes()[:90],
        exif_bytes()[:30] + b'\xff' * 40, b'Exif\0\0II*\0\x08\0\0\0\xff\xff',
        b'Exif\0\0II+\0\x08\0\0\0' + b'\xff' * 40,
    ],
)  # fmt: skip
def test_damaged_exif_is_named_and_the_rest_is_kept(tmp_path, broken):
    path, _ = written(tmp_path, 'jpg', photograph(exif=broken))
    with Image.open(path) as image:
        image.load()
        assert image.info['dpi'] == (300, 300)
    assert 'EXIF' in photo_metadata.read(photograph(exif=broken)).damaged


@pytest.mark.parametrize(
    'broken', [b'<x', b'<!DOCTYPE x [<!ENTITY a "b">]><x>&a;</x>', b'\xff\xfe', b'no xml']
)
def test_damaged_xmp_is_named_and_left_out(tmp_path, broken):
    metadata = photo_metadata.read(photograph(xmp=broken))
    assert metadata.damaged == ('XMP',)
    path, _ = written(tmp_path, 'jpg', photograph(xmp=broken))
    with Image.open(path) as image:
        assert 'xmp' not in image.info
        assert image.getexif()[271] == 'Canon'


def test_metadata_too_large_for_a_jpeg_are_left_out_and_named(tmp_path):
    large = tiff_directories.text_tag('x' * 60_000)
    more = tiff_directories.file_of(
        ORDER, {270: large, 271: tiff_directories.text_tag('Canon'), 305: large}
    )
    long_xmp = XMP.replace('Größe in XMP', 'y' * 90_000).encode()
    source = png(exif=exif_tags.PREFIX + more)
    text = chunk(b'iTXt', b'XML:com.adobe.xmp\0\0\0\0\0' + long_xmp)
    source = source[:-12] + text + source[-12:]
    path, left_out = written(tmp_path, 'jpg', source, shape=(32, 48))
    assert left_out == ['EXIF', 'XMP']
    with Image.open(path) as image:
        image.load()
        assert image.getexif()[271] == 'Canon'
    path, left_out = written(tmp_path, 'png', source, shape=(32, 48))
    assert left_out == []
    assert 'y' * 90_000 in photo_metadata.read(path).xmp.decode()


def test_large_compressed_texts_neither_stop_reading_nor_fill_the_memory():
    data = png()
    body = b'Description\0\0' + zlib.compress(b'z' * 30_000_000)
    small = chunk(b'tEXt', b'Author\0Zoe')
    data = data[:-12] + chunk(b'zTXt', body) + small + data[-12:]
    assert photo_metadata.read(data).texts == {'Author': 'Zoe'}


def test_a_turned_photograph_swaps_its_resolutions():
    data = encode(Image.fromarray(gradient()), 'JPEG', exif=exif_bytes(), dpi=(300, 150))
    assert photo_metadata.read(data).dpi == (150, 300)


def test_the_format_of_the_result_may_hold_transparency(tmp_path):
    alpha = np.zeros((16, 16), np.float32)
    for suffix in ('tif', 'png', 'webp', 'jpg'):
        path = tmp_path / f'a.{suffix}'
        image_writing.write(path, np.zeros((16, 16, 3), np.float32), alpha=alpha)
        is_held = image_files.read(path).alpha is not None
        assert is_held == image_writing.holds_alpha(path) == (suffix != 'jpg')


def test_broken_files_give_an_image_error_or_metadata():
    rng = np.random.default_rng(0)
    for data in (photograph(), png(exif=exif_bytes())):
        for _ in range(60):
            broken = bytearray(data)
            for place in rng.integers(2, min(len(data), 3000), 6):
                broken[place] = rng.integers(256)
            try:
                photo_metadata.read(bytes(broken))
            except image_files.ImageError:
                continue
