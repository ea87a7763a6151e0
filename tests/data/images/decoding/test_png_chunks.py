"""The chunks of a PNG are found, and nothing else is taken for a PNG."""

import io

from pictures import chunk, encode, gradient, png
from PIL import Image

from metastyle_jax.data.images.decoding import png_chunks


def test_the_chunks_of_a_png_are_listed_with_their_places():
    stream = io.BytesIO(png(dpi=(300, 300)))
    found = list(png_chunks.chunks(stream))
    assert [each.kind for each in found] == [b'IHDR', b'pHYs', b'IDAT', b'IEND']
    joined = b''.join(png_chunks.whole(stream, each) for each in found)
    assert png_chunks.SIGNATURE + joined == stream.getvalue()
    assert len(png_chunks.data_of(stream, found[0], 13)) == 13
    assert png_chunks.data_of(stream, found[0], 12) == b''


def test_what_follows_the_end_of_a_png_is_no_part_of_it():
    data = png()
    found = list(png_chunks.chunks(io.BytesIO(data + chunk(b'eXIf', b'another file'))))
    assert found == list(png_chunks.chunks(io.BytesIO(data)))


def test_a_cut_file_and_another_format_end_the_list():
    cut = png_chunks.chunks(io.BytesIO(png()[:60]))
    assert [each.kind for each in cut] == [b'IHDR', b'IDAT']
    assert not list(png_chunks.chunks(io.BytesIO(encode(Image.fromarray(gradient()), 'BMP'))))
