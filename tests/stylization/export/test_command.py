"""The command `metastyle export`."""

import sys

import helpers


def run_export(monkeypatch, *words):
    """Runs `metastyle export` with these words in this process; returns its exit code."""
    monkeypatch.setattr(sys, 'argv', ['export', *map(str, words)])
    return helpers.run_command('export')


def test_an_export_of_a_style_replaces_an_older_export_and_never_the_library(
    library_file, theta_file, tmp_path, monkeypatch, capsys
):
    words = [f'--style={library_file}:c', f'--theta={theta_file}', '--format=safetensors']
    out = f'--out={tmp_path}/network.safetensors'
    assert run_export(monkeypatch, *words, out) == 0
    assert run_export(monkeypatch, *words, out, '--overwrite') == 0
    before = library_file.read_bytes()
    assert run_export(monkeypatch, *words, f'--out={library_file}', '--overwrite') == 2
    assert 'is the style itself' in capsys.readouterr().err
    assert library_file.read_bytes() == before
