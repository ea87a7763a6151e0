"""Which files are pictures: by suffix or by content."""

import os

import helpers
import pytest
from PIL import Image

from metastyle_jax.core import files
from metastyle_jax.core.errors import UserError
from metastyle_jax.data import file_sources
from metastyle_jax.data.folders import picture_listing


@pytest.fixture
def folder(tmp_path):
    top = tmp_path / 'photos'
    for name in ('b.png', 'deep/c.JPG'):
        helpers.write_image(top / name)
    for name, fmt in (('photo', 'JPEG'), ('photo.dat', 'JPEG'), ('x.bin', 'PPM'), ('y', 'BMP')):
        Image.new('RGB', (16, 16)).save(top / name, fmt)
    texts = {'text.jpg': 'no picture', 'notes.txt': 'BMW', 'P1': 'P1 is the first', 'empty': ''}
    for name, text in texts.items():
        (top / name).write_text(text)
    (top / '.DS_Store').write_bytes(b'\0\0\0\1Bud1')
    (top / 'Thumbs.db').write_bytes(b'\xd0\xcf\x11\xe0')
    (top / '.hidden').mkdir()
    helpers.write_image(top / '.hidden' / 'd.png')
    helpers.write_image(top / '.e.png')
    return top


def names(listing):
    return [picture.name for picture in listing.pictures]


def test_content_or_suffix_decides_what_is_a_picture(folder):
    found = picture_listing.find(folder)
    assert names(found) == ['b.png', 'deep/c.JPG', 'photo', 'photo.dat', 'text.jpg', 'x.bin', 'y']
    others = [path.name for path in found.others]
    assert others == ['.DS_Store', '.e.png', 'P1', 'Thumbs.db', 'empty', 'notes.txt']
    assert not found.unreadable
    assert {picture.folder for picture in found.pictures} == {'photos'}


def test_a_file_that_a_killed_run_has_left_half_written_is_no_picture(folder, monkeypatch):
    picture, parts = (folder / 'b.png').read_bytes(), []
    monkeypatch.setattr(os, 'replace', lambda part, whole: parts.append(part))
    files.write_whole(folder / 'deep' / 'new.png', picture, UserError)
    parts[0].write_bytes(picture)  # a killed process neither renames nor removes it
    for words in (folder, folder / 'deep' / '*', folder / 'deep'):
        found = picture_listing.find(words)
        assert parts[0] not in [each.path for each in found.pictures]
        assert 'c.JPG' in {each.path.name for each in found.pictures}
    assert parts[0] in picture_listing.find(folder).others
    assert parts[0] not in file_sources.list_images(folder)


def test_broken_links_loops_and_pipes_are_no_danger(folder):
    os.symlink('nowhere.jpg', folder / 'gone.jpg')
    os.symlink('nowhere', folder / 'gone')
    os.symlink('nowhere', folder / 'gone.txt')
    os.symlink('loop.png', folder / 'loop.png')
    os.symlink(folder, folder / 'deep' / 'back')
    os.symlink('b.png', folder / 'alias')
    os.mkfifo(folder / 'pipe')
    found = picture_listing.find(folder)
    assert {path.name: reason for path, reason in found.unreadable.items()} == {
        'gone.jpg': 'is a link to nowhere.jpg, which does not exist; remove it',
        'gone': 'is a link to nowhere, which does not exist; remove it',
        'loop.png': 'is a link that leads back to itself; remove it',
    }
    assert 'alias' in names(found)
    assert 'b.png' in names(found)
    assert {'pipe', 'gone.txt'} <= {path.name for path in found.others}


def test_a_folder_that_cannot_be_listed_is_told_and_the_others_are_found(folder, monkeypatch):
    scandir = os.scandir

    def refuse(path):
        if os.path.basename(path) == 'deep':
            raise PermissionError(13, 'Permission denied', path)
        return scandir(path)

    monkeypatch.setattr(os, 'scandir', refuse)
    found = picture_listing.find(folder)
    assert found.unreadable == {folder / 'deep': 'cannot be listed: Permission denied'}
    assert 'b.png' in names(found)
    with pytest.raises(UserError, match='cannot be listed'):
        picture_listing.list_folder(folder, strict=True)
    with pytest.raises(UserError, match='cannot be listed'):
        picture_listing.find(folder / 'deep')


def test_names_that_are_no_utf8_are_found(tmp_path):
    name = os.fsdecode(b'caf\xe9.png')
    helpers.write_image(tmp_path / name)
    assert names(picture_listing.find(tmp_path)) == [name]


def test_several_words_patterns_and_tildes_are_expanded(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setenv('HOME', str(folder))
    helpers.write_image(folder / '[1].png')
    found = picture_listing.find(['b.png', '~/deep', '*.dat', './b.png', '[1].png', '.e.png'])
    assert names(found) == ['b.png', 'c.JPG', 'photo.dat', '[1].png', '.e.png']
    assert [picture.folder for picture in found.pictures[:2]] == ['photos', 'deep']
    assert names(picture_listing.find('**/*.JPG')) == ['c.JPG']
    # A folder and a file in it: one picture, with its name below the folder.
    for words in (['.', 'deep/c.JPG'], ['deep/c.JPG', '.']):
        found = names(picture_listing.find(words))
        assert found.count('deep/c.JPG') == 1
        assert 'c.JPG' not in found
    # A link to a folder names the same files once more.
    os.symlink('deep', folder / 'link')
    found = picture_listing.find(['deep', 'link', 'link/c.JPG'])
    assert [str(picture.path) for picture in found.pictures] == ['deep/c.JPG']
    for word, message in (
        ('no.jpg', 'no.jpg: no such file or folder'),
        ('*.gif', r'\*.gif: no file fits this pattern'),
        ('https://h.org/a.jpg', 'curl -L -o a.jpg'),
        ('file:///tmp/a.jpg', 'without file://'),
    ):
        with pytest.raises(UserError, match=message):
            picture_listing.find(['b.png', word])


def test_a_picture_is_known_by_content_and_a_missing_file_by_its_suffix(folder):
    for name, expected in (
        ('photo', True), ('text.jpg', False), ('none.jpg', True), ('none.safetensors', False),
        ('deep', False),
    ):  # fmt: skip
        assert picture_listing.is_picture(folder / name) == expected, name
