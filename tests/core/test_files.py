"""Files: where none can be written, and how errors are shortened."""

import pytest

from metastyle_jax.core import errors, files


def check(path, *, overwrite=False):
    files.check_target(path, errors.UserError, overwrite=overwrite)


def test_a_new_file_in_an_existing_folder_can_be_written_and_is_not_created(tmp_path):
    check(tmp_path / 'new')
    assert not list(tmp_path.iterdir())


def test_an_existing_file_is_replaced_only_when_asked_for(tmp_path):
    (tmp_path / 'old').write_text('')
    check(tmp_path / 'old', overwrite=True)
    with pytest.raises(errors.UserError, match='exists already'):
        check(tmp_path / 'old')


@pytest.mark.parametrize('target', ['missing/file', 'file/inside', 'folder'])
def test_impossible_targets_are_refused(tmp_path, target):
    (tmp_path / 'file').write_text('')
    (tmp_path / 'folder').mkdir()
    with pytest.raises(errors.UserError, match=f'Cannot write .*{target}'):
        check(tmp_path / target, overwrite=True)


def test_a_written_file_is_whole_and_leaves_no_temporary_file(tmp_path):
    files.write_whole(tmp_path / 'file', b'first', errors.UserError)
    files.write_whole(tmp_path / 'file', b'second', errors.UserError)
    assert (tmp_path / 'file').read_bytes() == b'second'
    assert len(list(tmp_path.iterdir())) == 1


def test_an_error_is_shortened_to_one_line():
    assert files.first_line(ValueError('first.\nsecond')) == 'first'
    assert files.first_line(ValueError()) == 'ValueError'
    assert files.first_line(ValueError('x' * 500 + 'the cause')).endswith('the cause')
