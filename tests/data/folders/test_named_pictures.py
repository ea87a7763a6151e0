"""The paintings that a user names: files, folders, patterns, or a data source."""

import os

import helpers
import pytest

from metastyle_jax.core.errors import UserError
from metastyle_jax.data.folders import named_pictures


def names(words):
    source, failed, others = named_pictures.open_pictures(words)
    return [source.name(i) for i in range(len(source))], failed, others


def test_files_folders_and_sources_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ('a.png', 'folder/b.png', 'folder/c.png'):
        helpers.write_image(tmp_path / name)
    for words, many in (
        ('a.png', False), (['a.png'], False), ('*.png', False), ('folder/*', True),
        ('folder', True), (['a.png', 'folder'], True), ('sample:', True), (['folder:folder'], True),
    ):  # fmt: skip
        assert named_pictures.is_many(words) == many, words
    assert names(['a.png', 'folder'])[0] == ['a.png', 'b.png', 'c.png']
    assert names('folder:folder')[0] == ['b.png', 'c.png']
    with pytest.raises(UserError, match='no such file'):
        named_pictures.is_many(['a.png', 'sample:'])


def test_pictures_of_one_name_are_told_apart_and_bytes_that_are_no_utf8_can_be_read(tmp_path):
    for name in ('x/a.png', 'y/a.png', 'y/a.bmp'):
        helpers.write_image(tmp_path / name)
    os.rename(tmp_path / 'y' / 'a.bmp', os.path.join(os.fsencode(tmp_path / 'y'), b'caf\xe9.bmp'))
    (tmp_path / 'y' / 'text.md').write_text('no picture')
    found, failed, others = names([tmp_path / 'x', tmp_path / 'y'])
    assert found == ['x_a.png', 'y_a.png', 'caf\\xe9.bmp']
    assert not failed
    assert others == [tmp_path / 'y' / 'text.md']
    with pytest.raises(UserError, match='holds no pictures'):
        named_pictures.open_pictures(tmp_path / 'y' / 'text.md')
