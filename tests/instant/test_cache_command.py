"""`metastyle cache`."""

import sys

import helpers
from stylization_helpers import make_style

KEY = 'a' * 64


def run(monkeypatch, *words):
    monkeypatch.setattr(sys, 'argv', ['cache', *words])
    return helpers.run_command('cache')


def test_the_command_lists_and_removes_styles(cache, monkeypatch, capsys):
    assert run(monkeypatch) == 0
    assert f'{cache.folder}: 0 styles, 0 bytes; the limit is 100 MB' in capsys.readouterr().out
    cache.put(KEY, make_style(1))
    (cache.folder / f'{"b" * 64}.safetensors').write_bytes(b'broken')
    assert run(monkeypatch) == 0
    text = capsys.readouterr().out
    size = sum(entry.size for entry in cache.entries())
    assert f'2 styles, {size} bytes' in text
    assert 'style 1\n' in text
    assert 'broken file\n' in text
    assert run(monkeypatch, '--clear') == 0
    assert 'removed 2 styles' in capsys.readouterr().out
    assert cache.entries() == []


def test_the_command_sets_the_limit(cache, monkeypatch, capsys):
    cache.put(KEY, make_style(1))
    assert run(monkeypatch, '--limit=0.001') == 0
    assert '0 styles, 0 bytes; the limit is 0.001 MB' in capsys.readouterr().out
    assert cache.limit == 0.001
    for words, message in (
        (['--limit=-1'], '--limit=-1'),
        (['--limit=1', '--clear'], 'exclude each other'),
        (['word'], "'word' is no flag"),
    ):
        assert run(monkeypatch, *words) == 2
        assert message in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_an_error_only_where_it_must_be(
    tmp_path, monkeypatch, capsys
):
    (tmp_path / 'file').touch()
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'file'))
    assert run(monkeypatch) == run(monkeypatch, '--clear') == 0
    assert run(monkeypatch, '--limit=1') == 2
    assert 'cannot be made' in capsys.readouterr().err
