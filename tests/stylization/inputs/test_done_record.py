"""The record of an output folder, also after the machine stopped in the middle of a line."""

import pytest

from metastyle_jax.core.errors import UserError
from metastyle_jax.stylization.inputs import done_record

DIGESTS = {'source_sha256': 'a', 'settings_sha256': 'b'}


def test_a_file_is_done_only_for_the_same_picture_settings_and_size(tmp_path):
    record = done_record.DoneRecord(tmp_path)
    record.begin('x.png')
    (tmp_path / 'x.png').write_bytes(b'123')
    assert record.is_own('x.png')
    assert not record.is_done('x.png', **DIGESTS)
    record.finish('x.png', **DIGESTS)
    for found in (record, done_record.DoneRecord(tmp_path)):
        assert found.is_done('x.png', **DIGESTS)
        assert not found.is_own('y.png')
        for change in ({'source_sha256': 'c'}, {'settings_sha256': 'c'}):
            assert not found.is_done('x.png', **{**DIGESTS, **change})
    (tmp_path / 'x.png').write_bytes(b'12')
    assert not record.is_done('x.png', **DIGESTS)
    (tmp_path / 'x.png').unlink()
    assert not record.is_done('x.png', **DIGESTS)


@pytest.mark.parametrize(
    'rest', [b'{"target": "y.', b'\xff\xfe', b'[1]\n{"target": 3}\n', b'[' * 9999]
)
def test_a_line_that_was_cut_short_harms_no_other(tmp_path, rest):
    record = done_record.DoneRecord(tmp_path)
    (tmp_path / 'x.png').touch()
    record.finish('x.png', **DIGESTS)
    with (tmp_path / done_record.NAME).open('ab') as opened:
        opened.write(rest)
    again = done_record.DoneRecord(tmp_path)
    assert again.is_done('x.png', **DIGESTS)
    (tmp_path / 'z\udce9.png').touch()
    again.finish('z\udce9.png', **DIGESTS)
    assert done_record.DoneRecord(tmp_path).is_done('z\udce9.png', **DIGESTS)


def test_a_record_that_cannot_be_read_or_written_is_an_error(tmp_path):
    (tmp_path / done_record.NAME).mkdir()
    with pytest.raises(UserError, match='cannot be read'):
        done_record.DoneRecord(tmp_path)
    with pytest.raises(UserError, match='cannot be written'):
        done_record.DoneRecord(tmp_path / 'none').begin('x.png')


def test_the_digest_of_settings_does_not_depend_on_their_order():
    one = done_record.settings_digest({'a': 1, 'b': None})
    assert one == done_record.settings_digest({'b': None, 'a': 1})
    assert one != done_record.settings_digest({'a': 1.5, 'b': None})
