"""Picture files and folders, from Python."""

import numpy as np
import pytest
from library_helpers import make_library
from PIL import Image
from stylization_helpers import make_style

import metastyle_jax
from metastyle_jax.core.errors import UserError
from metastyle_jax.stylization import stylize_folder

STYLE = make_style(1)


def test_a_file_is_stylized_and_keeps_its_transparency(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 24, 4), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / 'photo.png')
    (tmp_path / 'out').mkdir()
    written = metastyle_jax.stylize_file(STYLE, tmp_path / 'photo.png', tmp_path / 'out')
    assert written == tmp_path / 'out' / 'photo.png'
    with Image.open(written) as opened:
        np.testing.assert_array_equal(np.asarray(opened)[..., 3], pixels[..., 3])
        expected = metastyle_jax.stylize(STYLE, tmp_path / 'photo.png')
        np.testing.assert_allclose(np.asarray(opened)[..., :3] / 255, expected, atol=0.51 / 255)
    with pytest.raises(UserError, match='overwrite'):
        metastyle_jax.stylize_file(STYLE, tmp_path / 'photo.png', tmp_path / 'out')


def test_a_folder_tells_what_was_written_and_what_was_left_out(tmp_path, caplog):
    photos, out = tmp_path / 'photos', tmp_path / 'out'
    photos.mkdir()
    Image.new('RGB', (24, 24)).save(photos / 'square.png')
    Image.new('RGB', (400, 20)).save(photos / 'wide.png')
    result = metastyle_jax.stylize_folder(STYLE, photos, out, max_size=100)
    assert result.written == [out / 'square.png']
    assert list(result.left_out) == [photos / 'wide.png']
    assert 'max_size=100 would reduce' in result.left_out[photos / 'wide.png']
    (photos / 'square.png').unlink()
    with pytest.raises(UserError, match='none of the 1 pictures'):
        metastyle_jax.stylize_folder(STYLE, photos, out, max_size=100)


def test_a_folder_is_not_written_into_itself_or_to_a_picture(tmp_path):
    Image.new('RGB', (24, 24)).save(tmp_path / 'photo.png')
    with pytest.raises(UserError, match='is inside of input='):
        metastyle_jax.stylize_folder(STYLE, tmp_path, tmp_path / 'out')
    with pytest.raises(UserError, match='must be a folder too'):
        metastyle_jax.stylize_folder(STYLE, tmp_path, tmp_path / 'out.png')


def test_files_named_after_styles_stay_in_their_folder():
    names = ['../../etc/x', '/abs.jpg', 'a:b?.png', 'a.jpg', 'a.png', 'Mt. Fuji', '..']
    files = stylize_folder.file_names_of_styles(make_library(names))
    assert files == [
        'etc/x.png', 'abs.png', 'a_b_.png', 'a.jpg.png', 'a.png.png', 'Mt. Fuji.png', '_.png',
    ]  # fmt: skip


@pytest.mark.parametrize(
    'names',
    [
        ['What?.jpg', 'What:.jpg', 'What*.jpg'],
        ['a.jpg', 'a.png', 'a.jpg.png'],
        ['A.jpg', 'a.jpg'],
        ['x.jpg', 'X.png', 'x_2.jpg', 'x.jpg_2.png'],
        ['deep/?.jpg', 'deep/_.jpg', '..', '.'],
    ],
)
def test_no_two_styles_share_a_file_even_if_case_is_ignored(names):
    files = stylize_folder.file_names_of_styles(make_library(names))
    assert len({name.casefold() for name in files}) == len(names)
