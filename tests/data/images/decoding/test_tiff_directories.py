"""Directories of TIFF are read and written byte by byte."""

import io
import struct

import pytest

from metastyle_jax.data.images.decoding import tiff_directories

LIMIT = 10_000


@pytest.mark.parametrize('order', ['<', '>'])
def test_a_directory_is_read_as_it_was_written(order):
    tags = {
        270: tiff_directories.text_tag('Größe'),
        256: tiff_directories.tag_of(order, tiff_directories.LONG, [7]),
        273: tiff_directories.tag_of(order, tiff_directories.LONG, [1, 2, 3]),
        258: tiff_directories.tag_of(order, tiff_directories.SHORT, [8]),
    }
    below = {37500: tiff_directories.TiffTag(7, 5, b'12345')}
    file = tiff_directories.file_of(order, {**tags, 34665: below}, b'pixels')
    stream = io.BytesIO(file)
    header = tiff_directories.read_header(stream)
    assert header == (order, False, 14)
    found, following, is_damaged = tiff_directories.read_directory(
        stream, header, header.first, limit=LIMIT
    )
    (place,) = tiff_directories.numbers(found.pop(34665), order)
    assert (found, following, is_damaged) == (tags, 0, False)
    assert tiff_directories.numbers(found[273], order) == (1, 2, 3)
    assert tiff_directories.number(found, 258, order, 1) == 8
    assert tiff_directories.number(found, 259, order, 1) == 1
    inner, _, _ = tiff_directories.read_directory(stream, header, place, limit=LIMIT)
    assert inner == below


def test_values_change_their_byte_order():
    tags = {
        name: tiff_directories.tag_of('>', kind, [1, 515])
        for name, kind in ((1, tiff_directories.SHORT), (2, tiff_directories.RATIONAL))
    }
    tags[3] = tiff_directories.text_tag('as it is')
    (turned,) = tiff_directories.swapped([tags])
    assert tiff_directories.numbers(turned[1], '<') == (1, 515)
    assert turned[2] == tiff_directories.tag_of('<', tiff_directories.RATIONAL, [1, 515])
    assert turned[3] == tags[3]


def test_what_is_cut_off_is_left_out_and_told():
    tags = {
        270: tiff_directories.text_tag('a long text'),
        258: tiff_directories.TiffTag(3, 1, b'8 '),
    }
    file = tiff_directories.file_of('<', tags)
    for end in (len(file) - 3, 20, 9):
        stream = io.BytesIO(file[:end])
        header = tiff_directories.read_header(stream)
        found, _, is_damaged = tiff_directories.read_directory(
            stream, header, header.first, limit=LIMIT
        )
        assert is_damaged
        assert 270 not in found
    beyond = b'\xff' * 8  # an offset that no stream can have
    tag = struct.pack('<QHHQ', 1, 270, 2, 20) + beyond + bytes(8)
    for first, rest in ((beyond, b''), (struct.pack('<Q', 16), tag)):
        stream = io.BytesIO(b'II+\0\x08\0\0\0' + first + rest)
        header = tiff_directories.read_header(stream)
        assert tiff_directories.read_directory(stream, header, header.first, limit=LIMIT) == (
            {}, 0, True
        )  # fmt: skip
    with pytest.raises(ValueError, match='no TIFF'):
        tiff_directories.read_header(io.BytesIO(b'nothing of the kind'))
