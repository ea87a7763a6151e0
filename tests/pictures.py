"""Picture files that tests make, part by part."""

import io
import struct
import zlib

import numpy as np
from PIL import Image, ImageCms

HEIGHT, WIDTH = 32, 48


def gradient(height=HEIGHT, width=WIDTH):
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 255 // width, y * 255 // height, (x + y) % 256], -1).astype(np.uint8)


def encode(image, encoder, **options):
    buffer = io.BytesIO()
    image.save(buffer, encoder, **options)
    return buffer.getvalue()


def png(**options):
    return encode(Image.fromarray(gradient()), 'PNG', **options)


def chunk(kind, body):
    """A chunk of a PNG."""
    return struct.pack('>I', len(body)) + kind + body + struct.pack('>I', zlib.crc32(kind + body))


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def unlike_srgb():
    """A profile whose red and green primaries have changed places."""
    data = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
    data = data.replace(b'rXYZ', b'tmp_').replace(b'gXYZ', b'rXYZ').replace(b'tmp_', b'gXYZ')
    return data.replace('sRGB'.encode('utf-16-be'), 'swap'.encode('utf-16-be'))
