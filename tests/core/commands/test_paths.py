"""Paths on the command line: ``~``, and addresses in the place of files."""

import os
import pathlib
import sys

import pytest
from absl import flags

from metastyle_jax.core import command_line, errors, flag_parsing
from metastyle_jax.core.commands import paths


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path / 'home'))
    (tmp_path / 'home').mkdir()
    return str(tmp_path / 'home')


def test_a_tilde_is_expanded_unless_a_file_has_that_name(home, tmp_path, monkeypatch):
    assert paths.expand('~/a.jpg') == f'{home}/a.jpg'
    assert paths.expand('~/l.safetensors:~x') == f'{home}/l.safetensors:~x'
    assert paths.expand('~root/a.jpg') == os.path.expanduser('~root/a.jpg') != '~root/a.jpg'
    for word in ('a~b.jpg', '~nobody-has-this-name/a.jpg', '', 'folder:~/x'):
        assert paths.expand(word) == word
    monkeypatch.chdir(tmp_path)
    (tmp_path / '~').mkdir()
    assert paths.expand('~') == '~'


@pytest.mark.parametrize(
    ('word', 'remedy'),
    [
        ('https://h.org/a/p.jpg', 'curl -L -o p.jpg https://h.org/a/p.jpg'),
        ('HTTP://h.org/p%20q.jpg?w=1&h=2', "curl -L -o 'p q.jpg' 'http://h.org/p%20q.jpg?w=1&h=2'"),
        (pathlib.Path('https://h.org/p.jpg'), 'curl -L -o p.jpg https://h.org/p.jpg'),
        ('https://h.org', 'curl -L -o download https://h.org'),
        ('s3://bucket/a/p.jpg', 'aws s3 cp s3://bucket/a/p.jpg p.jpg'),
        ('gs://bucket/p.jpg', 'gcloud storage cp gs://bucket/p.jpg p.jpg'),
        ('file:///tmp/my%20p.jpg', "without file://, '/tmp/my p.jpg'"),
        ('file://localhost/tmp/p.jpg', 'without file://, /tmp/p.jpg'),
        ('file:///C:/p.jpg', 'without file://, C:/p.jpg'),
    ],
)
def test_an_address_is_answered_with_the_command_that_makes_a_file_of_it(word, remedy):
    assert remedy in paths.address_remedy(word)


@pytest.mark.parametrize(
    'word', ['a.jpg', '/tmp/a.jpg', 'folder:/tmp', 'tfds:coco', 'C:/a.jpg', 'camera:0', '-', '']
)
def test_a_path_is_no_address(word):
    assert paths.address_remedy(word) == ''


def test_flags_expand_paths_and_refuse_addresses(home, monkeypatch):
    values = flags.FlagValues()
    add = command_line.Flags(values)
    add.path('theta', None, 'Initialization.', schemes=('gs', 's3'))
    add.path('out', None, 'File to write.', writes=True)
    add.several_paths('style', 'Styles.')
    add.path_list('inputs', None, 'Paths.')

    def parse(*words):
        values.unparse_flags()
        monkeypatch.setattr(sys, 'argv', ['command', *words])
        flag_parsing.parse(values, 'style', 'out', many=True)

    parse('~/a', '~/b', '-o', '~/c', '--theta=gs://bucket/run', '--inputs=~/d,x=~/e,f')
    assert values.style == [f'{home}/a', f'{home}/b']
    assert (values.out, values.theta) == (f'{home}/c', 'gs://bucket/run')
    assert values.inputs == [f'{home}/d', f'x={home}/e', 'f']
    for words, message in (
        (['--theta=https://h.org/t'], '--theta=https://h.org/t: .*curl'),
        (['--out=https://h.org/t.png'], '--out=https://h.org/t.png: only files.*are written'),
        (['a', 's3://bucket/b.safetensors'], '--style=s3://bucket/b.safetensors: .*aws s3 cp'),
    ):
        with pytest.raises(errors.UserError, match=message):
            parse(*words)


def test_a_folder_is_named_by_a_slash_or_by_being_there(tmp_path):
    assert paths.names_folder('new/')
    assert paths.names_folder(tmp_path)
    assert not paths.names_folder(tmp_path / 'new')
    (tmp_path / 'file').touch()
    with pytest.raises(errors.UserError, match='cannot be made'):
        paths.make_folder(tmp_path / 'file' / 'new', errors.UserError)
