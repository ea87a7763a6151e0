"""The cache of styles: bounded, whole files only, and no harm from other processes."""

import os

import numpy as np
import pytest
from stylization_helpers import make_style

from metastyle_jax.core import files
from metastyle_jax.core.errors import UserError
from metastyle_jax.instant import style_cache
from metastyle_jax.storage import style_files

KEYS = [digit * 64 for digit in 'abcd']


def put(cache, count):
    """Caches some styles, the first of which was used least recently."""
    for number, key in enumerate(KEYS[:count]):
        cache.put(key, make_style(number))
        os.utime(cache.folder / f'{key}.safetensors', (number, number))


def keys_of(cache):
    return [entry.path.stem for entry in cache.entries()]


def test_a_style_is_read_again_as_it_was(cache):
    cache.put(KEYS[0], make_style(1))
    found = cache.get(KEYS[0])
    assert found.style_name == 'style 1'
    for name, array in make_style(1).params.items():
        np.testing.assert_array_equal(found.params[name], array)
    assert cache.get(KEYS[1]) is None


def test_the_styles_that_were_used_least_recently_go_first(cache):
    put(cache, 3)
    size = cache.entries()[0].size
    cache.get(KEYS[0])
    assert keys_of(cache) == [KEYS[0], KEYS[2], KEYS[1]]
    cache.set_limit(2.5 * size / style_cache.MEGABYTE)
    assert keys_of(cache) == [KEYS[0], KEYS[2]]
    cache.put(KEYS[3], make_style(3))
    assert keys_of(cache) == [KEYS[3], KEYS[0]]


def test_the_limit_is_kept_for_later_runs(cache):
    assert cache.limit == style_cache.DEFAULT_LIMIT
    cache.set_limit(0.5)
    assert style_cache.StyleCache(cache.folder).limit == 0.5
    for text in ('', '{', '[]', '{"megabytes": -1}', '{"megabytes": "x"}', '{"megabytes": NaN}'):
        (cache.folder / 'limit.json').write_text(text)
        assert cache.limit == style_cache.DEFAULT_LIMIT
    for wrong in (-1, float('nan'), 'x'):
        with pytest.raises(UserError, match='limit='):
            cache.set_limit(wrong)


def test_nothing_is_cached_with_the_limit_zero(cache):
    put(cache, 2)
    cache.set_limit(0)
    cache.put(KEYS[2], make_style(1))
    assert keys_of(cache) == []


@pytest.mark.parametrize('data', [b'', b'no style', None])
def test_a_broken_file_counts_as_not_cached_and_is_replaced(cache, data):
    put(cache, 1)
    file = cache.folder / f'{KEYS[0]}.safetensors'
    file.write_bytes(file.read_bytes()[:-9] if data is None else data)
    assert cache.get(KEYS[0]) is None
    assert cache.entries()[0].name() == ''
    cache.put(KEYS[0], make_style(2))
    assert cache.get(KEYS[0]).style_name == cache.entries()[0].name() == 'style 2'


def test_clearing_leaves_the_files_of_others_alone(cache):
    put(cache, 2)
    other = cache.folder / 'mine.safetensors'
    style_files.save_style(other, make_style(1))
    (cache.folder / '.0123456789abcdef.part').touch()
    assert cache.clear() == 2
    assert [path.name for path in cache.folder.iterdir()] == ['mine.safetensors']


def test_remains_of_a_killed_process_are_removed_once_they_are_old(cache):
    put(cache, 1)
    old, new = cache.folder / '.00.part', cache.folder / '.11.part'
    for path in (old, new):
        path.touch()
    os.utime(old, (0, 0))
    cache.trim()
    assert not old.exists()
    assert new.exists()


def test_a_file_that_another_process_removes_is_no_error(cache, monkeypatch):
    put(cache, 3)
    entries = cache.entries()
    entries[1].path.unlink()
    monkeypatch.setattr(cache, 'entries', lambda: entries)
    cache.set_limit(0)
    monkeypatch.undo()
    assert keys_of(cache) == []


@pytest.mark.parametrize('error', [KeyboardInterrupt, OSError(28, 'No space left on device')])
def test_an_interrupted_write_leaves_nothing(cache, monkeypatch, caplog, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(files.os, 'replace', fail)
    if error is KeyboardInterrupt:
        with pytest.raises(KeyboardInterrupt):
            cache.put(KEYS[0], make_style(1))
    else:
        cache.put(KEYS[0], make_style(1))
        assert 'No space left' in caplog.text
    assert [*cache.folder.iterdir()] == []


def test_a_folder_that_cannot_be_written_is_warned_of_once(tmp_path, caplog):
    (tmp_path / 'file').touch()
    cache = style_cache.StyleCache(tmp_path / 'file' / 'styles')
    for key in KEYS:
        cache.put(key, make_style(1))
        assert cache.get(key) is None
    assert caplog.text.count('are not cached') == 1
    assert cache.entries() == []
    assert cache.clear() == 0
    with pytest.raises(UserError, match='cannot be made'):
        cache.set_limit(5)


def test_a_folder_in_the_place_of_a_file_is_left_alone(cache, caplog):
    (cache.folder / f'{KEYS[0]}.safetensors').mkdir(parents=True)
    cache.put(KEYS[0], make_style(1))
    assert cache.get(KEYS[0]) is None
    assert 'are not cached' in caplog.text
    assert cache.clear() == 0
