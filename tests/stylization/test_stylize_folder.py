"""Picture files and folders, from Python."""

import logging
import re

import numpy as np
import pytest
from library_helpers import make_library
from PIL import ExifTags, Image
from stylization_helpers import make_style

import metastyle_jax
from metastyle_jax.core import files
from metastyle_jax.core.errors import UserError
from metastyle_jax.stylization import render, stylize_folder

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


def with_exif(path, image, **options):
    tags = Image.Exif()
    tags[271] = 'Canon'
    tags.get_ifd(ExifTags.IFD.GPSInfo)[1] = 'N'
    image.save(path, exif=tags, **options)


def test_the_metadata_of_photographs_go_to_the_results_but_the_place_only_on_request(tmp_path):
    photos = tmp_path / 'photos'
    photos.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    with_exif(photos / 'a.jpg', Image.fromarray(pixels), dpi=(300, 300))
    for keep in (False, True):
        options = {'keep_location': keep, 'overwrite': True, 'max_size': 22}
        file = metastyle_jax.stylize_file(STYLE, photos / 'a.jpg', tmp_path / 'b.jpg', **options)
        folder = metastyle_jax.stylize_folder(STYLE, photos, tmp_path / 'out', **options)
        for path in (file, folder.written[0]):
            with Image.open(path) as image:
                assert image.info['dpi'] == (300, 300)
                tags = image.getexif()
                assert tags[271] == 'Canon'
                assert tags.get_ifd(ExifTags.IFD.Exif)[40962] == image.width == 22
                assert bool(tags.get_ifd(ExifTags.IFD.GPSInfo)) == keep


def messages(caplog):
    return [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]


def test_what_will_be_seen_is_said_once_a_run(tmp_path, caplog):
    photos = tmp_path / 'photos'
    photos.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (24, 24, 4), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / 'clear.png')
    with_exif(tmp_path / 'broken.jpg', Image.fromarray(noise[..., :3]))
    data = (tmp_path / 'broken.jpg').read_bytes()
    (tmp_path / 'broken.jpg').write_bytes(data.replace(b'Exif\0\0MM', b'Exif\0\0XX'))
    for source, words in (
        ('clear.png', r'clear\.png: transparent areas become white in \.jpg; write \.png'),
        ('broken.jpg', r'broken\.jpg: damaged metadata \(EXIF\)'),
    ):
        caplog.clear()
        metastyle_jax.stylize_file(STYLE, tmp_path / source, tmp_path / f'{source}.jpg')
        assert len(messages(caplog)) == 1
        assert re.search(words, messages(caplog)[0])
    for i in range(4):
        Image.new('RGB', (24, 24), (40 * i, 90, 200)).save(photos / f'{i}.png')
    Image.fromarray(noise[..., :3]).save(photos / 'noise.png')
    caplog.clear()
    metastyle_jax.stylize_folder(STYLE, photos, tmp_path / 'out')
    (message,) = messages(caplog)
    assert message.startswith('4 of 5 pictures (')
    assert 'one colour' in message


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


def test_a_stopped_folder_goes_on_and_changes_are_done_anew(tmp_path, monkeypatch):
    photos, out = tmp_path / 'photos', tmp_path / 'out'
    photos.mkdir()
    rendered, render_picture = [], render.render
    for i, name in enumerate(('a.png', 'a.tif', 'b.png')):
        Image.new('RGB', (24, 20 + i), (60 * i, 9, 9)).save(photos / name)

    def counted(network, pixels, **options):
        rendered.append(pixels.shape[0])
        if rendered == [20, 21] and not (out / 'b.png').exists():
            raise KeyboardInterrupt
        return render_picture(network, pixels, **options)

    monkeypatch.setattr(render, 'render', counted)
    with pytest.raises(KeyboardInterrupt):
        metastyle_jax.stylize_folder(STYLE, photos, out)
    with pytest.raises(UserError, match='a_png.png exists already: pass resume=True'):
        metastyle_jax.stylize_folder(STYLE, photos, out)

    def resume(style=STYLE, **options):
        rendered.clear()
        result = metastyle_jax.stylize_folder(style, photos, out, resume=True, **options)
        assert len(result.written) == len(rendered)
        return sorted(rendered), sorted(path.name for path in result.skipped)

    assert resume() == ([21, 22], ['a_png.png'])
    assert resume() == ([], ['a_png.png', 'a_tif.png', 'b.png'])
    Image.new('RGB', (24, 30), 'red').save(photos / 'b.png')  # another picture of the same name
    assert resume() == ([30], ['a_png.png', 'a_tif.png'])
    for change in ({'style': make_style(2)}, {'keep_colours': True}, {'max_size': 20}):
        assert len(resume(**change)[0]) == 3, change
    (out / 'b.png').write_bytes(b'')  # cut short by somebody else
    assert resume(max_size=20) == ([20], ['a_png.png', 'a_tif.png'])
    Image.new('RGB', (24, 24)).save(photos / 'c.png')
    (out / 'c.png').write_bytes(b'of somebody else')
    with pytest.raises(UserError, match='c.png exists already and is of no earlier run'):
        resume(max_size=20)
    assert (out / 'c.png').read_bytes() == b'of somebody else'


def test_a_run_stops_between_two_pictures_when_it_is_asked(tmp_path):
    for name in 'abc':
        Image.new('RGB', (24, 20)).save(tmp_path / f'{name}.png')
    asked = []
    result = metastyle_jax.stylize_folder(
        STYLE,
        tmp_path / '*.png',
        tmp_path / 'out',
        stopped=lambda: asked.append(1) or len(asked) > 2,
    )
    assert result.stopped
    assert [path.name for path in result.written] == ['a.png', 'b.png']
    again = metastyle_jax.stylize_folder(STYLE, tmp_path / '*.png', tmp_path / 'out', resume=True)
    assert (again.stopped, len(again.written), len(again.skipped)) == (False, 1, 2)


def test_existing_files_are_skipped_whatever_they_show(tmp_path):
    photos, out = tmp_path / 'photos', tmp_path / 'out'
    for folder in (photos, out):
        folder.mkdir()
    for name in ('a.png', 'b.png'):
        Image.new('RGB', (24, 20)).save(photos / name)
    (out / 'a.png').write_bytes(b'anything')
    result = metastyle_jax.stylize_folder(STYLE, photos, out, skip_existing=True)
    assert (result.written, result.skipped) == ([out / 'b.png'], [out / 'a.png'])
    assert (out / 'a.png').read_bytes() == b'anything'


def test_several_files_and_patterns_are_taken_from_python_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ('a.png', 'b.jpg'):
        Image.new('RGB', (24, 20)).save(name)
    result = metastyle_jax.stylize_folder(STYLE, ['*.png', 'b.jpg'], 'new/')
    assert [path.as_posix() for path in result.written] == ['new/a.png', 'new/b.jpg']
    monkeypatch.setenv('HOME', str(tmp_path))
    result = metastyle_jax.stylize_folder(STYLE, '~/a.png', '~/new', overwrite=True)
    assert result.written == [tmp_path / 'new' / 'a.png']
    assert metastyle_jax.stylize_file(STYLE, '~/a.png', '~/c.png') == tmp_path / 'c.png'
    assert metastyle_jax.stylize_file(STYLE, 'a.png', 'deep/new/').as_posix() == 'deep/new/a.png'


def test_a_picture_that_fails_while_it_is_read_does_not_stop_the_others(tmp_path, monkeypatch):
    for name in ('a.png', 'b.png'):
        Image.new('RGB', (24, 20)).save(tmp_path / name)
    sha256_of = files.sha256_of

    def fail(path):
        if path.name == 'a.png':
            raise OSError(5, 'Input/output error', str(path))
        return sha256_of(path)

    monkeypatch.setattr(files, 'sha256_of', fail)
    both = [tmp_path / 'a.png', tmp_path / 'b.png']
    result = metastyle_jax.stylize_folder(STYLE, both, tmp_path / 'out')
    assert result.left_out == {both[0]: f'{both[0]}: Input/output error'}
    assert result.written == [tmp_path / 'out' / 'b.png']
