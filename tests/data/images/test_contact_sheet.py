import numpy as np
import pytest

from metastyle_jax.data.images import contact_sheet, image_files

RGB = np.full((64, 64, 3), 0.5, np.float32)


def test_contact_sheet_places_pictures_and_captions():
    red = np.zeros((100, 50, 3), np.float32)
    red[..., 0] = 1
    tiny = np.zeros((4, 4, 3), np.float32)
    plain = contact_sheet.contact_sheet([[red, tiny], [tiny]], captions=[['', ''], ['']], cell=64)
    assert plain.shape == (4 + 68 + 8, 4 + 2 * 68, 3)  # rows of 64 and 4, and gaps of 4
    assert plain.dtype == np.float32
    np.testing.assert_allclose(plain[36, 36], [1, 0, 0], atol=1e-5)
    assert (plain[72:, 72:] == 1).all()  # the short row is padded with white

    words = [['a title', 'long ' * 3000], ['two\nlines \udcff', '']]
    grid = contact_sheet.contact_sheet([[red, tiny], [tiny, tiny]], captions=words, cell=64)
    strip = (grid.shape[0] - plain.shape[0]) // 2
    assert strip > 0
    assert grid.shape[1] == plain.shape[1]
    assert grid[68 : 68 + strip, 4:68].min() < 0.5  # ink
    assert (grid[68 : 68 + strip, 136:] == 1).all()  # the long caption stays in its cell
    assert (grid[-4 - strip : -4, 72:] == 1).all()  # no caption, no ink
    assert 0 <= grid.min() <= grid.max() <= 1


def test_captions_lose_accents_not_letters():
    sheets = [
        contact_sheet.contact_sheet([[RGB]], captions=[[caption]], cell=128)
        for caption in ('Cézanne – “Ångström”', 'Cezanne - "Angstrom"')
    ]
    np.testing.assert_array_equal(*sheets)


@pytest.mark.parametrize(
    ('rows', 'captions'), [([], []), ([[]], [[]]), ([[RGB]], [[]]), ([[RGB]], [['a'], ['b']])]
)
def test_contact_sheet_refuses_a_wrong_layout(rows, captions):
    with pytest.raises(image_files.ImageError, match='contact sheet'):
        contact_sheet.contact_sheet(rows, captions=captions, cell=32)
