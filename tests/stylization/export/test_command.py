"""The command `metastyle export`."""

import sys

import helpers
import jax.export
import pytest


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


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['--size=512'], 'size=512: write a height and a width, as 512x512'),
        (['--size=32x32x32x32'], 'write a height and a width'),
        (['--size=-32x32'], 'write a height and a width'),
        (['--size=32x8'], 'size=8: it must be a whole number of at least 16'),
        (['--size=0x32x32'], 'size=0: it must be a whole number of at least 1'),
        (['--size=99999x99999'], '--size=99999x99999: comparing the program with JAX'),
        (['--precision=int4'], "precision='int4': it must be one of float32, float16, int8"),
    ],
)
def test_senseless_values_are_refused_and_nothing_is_written(
    library_file, theta_file, tmp_path, monkeypatch, capsys, words, message
):
    words = [f'--style={library_file}:c', f'--theta={theta_file}', *words]
    before = sorted(tmp_path.iterdir())
    assert run_export(monkeypatch, *words, f'--out={tmp_path}/a.stablehlo') == 2
    assert message in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize('size', ['18x21', '1x18x21'])
def test_a_size_is_a_height_and_a_width_or_a_number_a_height_and_a_width(
    library_file, theta_file, tmp_path, monkeypatch, size
):
    words = [f'--style={library_file}:c', f'--theta={theta_file}', f'--size={size}']
    assert run_export(monkeypatch, *words, f'--out={tmp_path}/a.stablehlo') == 0
    exported = jax.export.deserialize(bytearray((tmp_path / 'a.stablehlo').read_bytes()))
    assert str(exported.in_avals[0].shape).endswith('18, 21, 3)')
    assert (exported.in_avals[0].shape[0] == 1) == (size == '1x18x21')
