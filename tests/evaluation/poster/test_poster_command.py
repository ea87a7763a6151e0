"""The command `metastyle poster`."""

import sys

import baselines_helpers
import helpers
import numpy as np
import pytest
from PIL import Image

from metastyle_jax.evaluation.poster import comparison_sheet, poster, poster_command, quality


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs the command in a folder with pictures; returns exit code and output."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name, size in (('photo.png', (48, 40)), ('painting.png', (40, 56))):
        Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(name)

    def start(*words):
        monkeypatch.setattr(sys, 'argv', ['metastyle poster', *words])
        code = helpers.run_command('poster')
        streams = capsys.readouterr()
        return code, streams.out + streams.err

    return start


def test_a_sheet_has_a_column_for_each_system_that_has_weights(run, tmp_path, monkeypatch, caplog):
    baselines_helpers.write_system(tmp_path, 'adain')
    load = quality.system_files.load

    def with_small_encoder(name, weights, **options):
        return load(name, weights, **options, vgg=tmp_path / 'vgg.npz')

    monkeypatch.setattr(quality.system_files, 'load', with_small_encoder)
    sheets = []
    draw = comparison_sheet.contact_sheet.contact_sheet
    monkeypatch.setattr(
        comparison_sheet.contact_sheet,
        'contact_sheet',
        lambda rows, **options: sheets.append((rows, options)) or draw(rows, **options),
    )
    code, text = run(
        '--pictures', '--style=painting.png', 'photo.png', '--systems=adain,wct', '--size=32',
        '--style_size=32', '--weights=adain=adain.safetensors,wct=missing', '-o', 'sheet.png',
    )  # fmt: skip
    assert code == 0, text
    assert 'wct is left out' in caplog.text
    ((rows, options),) = sheets
    assert [picture.shape for picture in rows[0]] == [(27, 38, 3), (32, 27, 3), (32, 27, 3)]
    assert options['captions'] == [['style', 'photograph', 'adain (vgg16)']]
    with Image.open('sheet.png') as sheet:
        assert sheet.width > 3 * 32


@pytest.mark.parametrize(
    ('words', 'expected'),
    [
        (['--pictures', '--style=painting.png'], '--input'),
        (['--pictures', 'photo.png'], '--style'),
        (['photo.png'], '--pictures'),
        (['--pictures', '--style=no.png', 'photo.png'], 'no.png'),
        (['--systems=adain,gan'], 'gan'),
        (['--weights=adain'], 'NAME=PATH'),
        (['--weights=gan=x'], 'gan'),
        (['--sizes=0'], 'sizes=0'),
        (
            ['--pictures', '--style=painting.png', 'photo.png', '--systems=wct', '--weights=wct=x'],
            'no system can be shown',
        ),
    ],
)
def test_mistakes_are_answered_and_nothing_is_written(run, tmp_path, words, expected):
    before = {path.name for path in tmp_path.iterdir()}
    code, text = run(*words)
    assert code == 2
    assert expected in text
    assert {path.name for path in tmp_path.iterdir()} == before


def test_results_of_another_run_are_kept(run, tmp_path, monkeypatch):
    folder = tmp_path / 'runs/poster'
    folder.mkdir(parents=True)
    (folder / 'results.json').write_text('{}')
    monkeypatch.setattr(poster, 'run', lambda *_, **__: pytest.fail('it measures'))
    code, text = run('--noquality')
    assert code == 2
    assert '--overwrite' in text


def test_weights_are_named():
    found = poster_command.parse_weights(['adain=a=b.safetensors', 'wct=runs/wct'])
    assert found == {'adain': 'a=b.safetensors', 'wct': 'runs/wct'}
