"""The likeliest first mistakes are answered with the command that would have worked."""

import os
import signal

import helpers
import numpy as np
import pytest
from PIL import Image
from stylization_helpers import make_style, run_command

import metastyle_jax
from metastyle_jax.storage import style_files
from metastyle_jax.stylization import stylize_folder

STYLIZE = 'metastyle stylize photo.jpg --style=painting.jpg'


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A working directory as a user has it."""
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    for name in ('photo.jpg', 'painting.jpg', 'my painting.png', 'photos/a.png'):
        helpers.write_image(tmp_path / name)
    Image.fromarray(pixels).save('picture', 'PNG')
    style_files.save_style('s.safetensors', make_style(1))
    return tmp_path


@pytest.mark.parametrize(
    ('words', 'told'),
    [
        (['photo.jpg', '--style=my painting.png', '--max_size=64'],
         ["stylize photo.jpg '--style=my painting.png' --max_size=64 -o out.png"]),
        (['photo.jpg', '--style=painting.jpg', '--style=s.safetensors'],
         ['--style=painting.jpg --style=s.safetensors -o out.png']),
        (['photo.jpg', '--style=missing.jpg', '-o', 'out.png'],
         ['--style=missing.jpg: no such file; check the path']),
        (['photo.jpg', 'painting.jpg', '-o', 'out.png'],
         ['--style must be given', f'{STYLIZE} -o out.png']),
        (['painting.jpg', 'photo.jpg'], ['--style and --output must', f'{STYLIZE} -o']),
        (['photo.jpg', '-o', 'out.png'], ['--style must be given', f'{STYLIZE} -o out.png']),
        (['photo.jpg', 's.safetensors', '-o', 'out.png'],
         ['metastyle stylize photo.jpg --style=s.safetensors -o out.png']),
        (['s.safetensors', '--style=photo.jpg', '-o', 'out.png'],
         ['metastyle stylize photo.jpg --style=s.safetensors -o out.png']),
        (['photo.jpg', 'l.safetensors:monet', '-o', 'out.png'],
         ['metastyle stylize photo.jpg --style=l.safetensors:monet -o out.png']),
        (['photo.jpg', '--style=s.safetensors'],
         ['--output must be', 'metastyle stylize photo.jpg --style=s.safetensors -o out.png']),
        (['photos', '--style=s.safetensors'],
         ['metastyle stylize photos --style=s.safetensors -o stylized/']),
        (['photo.jpg', '--style=s.safetensors', '-o', 'out'],
         ['photo.jpg --style=s.safetensors -o out.png', '--style=s.safetensors -o out/']),
        (['photo.jpg', '--style=s.safetensors', '--output=out'],
         ['photo.jpg --style=s.safetensors --output=out.png']),
        (['photo.jpg', '--style=s.safetensors', '-o', 'photo.jpg'],
         ['is the input itself', 'photo.jpg --style=s.safetensors -o photo_stylized.jpg']),
        (['photo.jpg', '--style=s.safetensors', '-o', 'no where/out.png'],
         ["See that its folder exists: mkdir -p 'no where'"]),
        (['photo.jpg', '--style=.', '-o', 'out.png'], ['is a folder', '--style=s.safetensors']),
        (['photo.jpg', '--style=photos', '-o', 'out.png'], ['it holds no .safetensors file']),
        (['photo.jpg', '--input=photo.jpg', '--style=s.safetensors', '-o', 'out.png'],
         ['leave one of them out:\n  stylize photo.jpg --style=s.safetensors -o out.png']),
    ],
)  # fmt: skip
def test_the_command_that_would_have_worked_is_told(words, told, folder, monkeypatch, capsys):
    before = sorted(folder.rglob('*'))
    assert run_command(monkeypatch, *words) == 2
    error = capsys.readouterr().err
    for text in told:
        assert text in error
    assert sorted(folder.rglob('*')) == before


@pytest.mark.parametrize('output', ['new/', 'new/deep/'])
def test_one_picture_goes_to_a_folder_that_is_made(output, folder, monkeypatch, caplog):
    words = ['photo.jpg', '--style=s.safetensors', '-o', output]
    assert run_command(monkeypatch, *words) == 0
    assert (folder / output / 'photo.jpg').is_file()
    assert run_command(monkeypatch, *words, '--resume') == 0
    assert f'{output}: 0 stylized, 1 skipped (done before)' in caplog.text
    assert run_command(monkeypatch, *words, '--skip_existing') == 0
    assert f'{output}: 0 stylized, 1 skipped (the output exists)' in caplog.text


def test_several_words_patterns_and_flags_are_one_run(folder, monkeypatch, caplog):
    words = ['--input=*.jpg', '--input=photos', '--input=picture', '--style=s.safetensors']
    assert run_command(monkeypatch, *words, '-o', 'new') == 0
    written = sorted(path.name for path in (folder / 'new').glob('[!.]*'))
    assert written == ['a.png', 'painting.jpg', 'photo.jpg', 'picture.png']
    assert 'new: 4 stylized' in caplog.text
    assert run_command(monkeypatch, 'photo.jpg', *words, '-o', 'new', '--resume') == 2
    words = ['photo.jpg', 's.safetensors', 'new', '--style=s.safetensors', '-o', 'new']
    assert run_command(monkeypatch, *words, '--resume') == 0
    assert '1 file is no picture: s.safetensors' in caplog.text


def test_a_signal_ends_the_run_after_a_picture_and_films_are_told(folder, monkeypatch, caplog):
    (folder / 'film.mp4').write_bytes(b'no picture')
    (folder / 'film.mkv').write_bytes(b'no picture')
    stylize = metastyle_jax.stylize_folder

    def signalled(*args, **options):
        os.kill(os.getpid(), signal.SIGINT)
        return stylize(*args, **options)

    words = ['*', '--style=s.safetensors', '-o', 'new']
    with monkeypatch.context() as patch:
        patch.setattr(stylize_folder, 'stylize_folder', signalled)
        assert run_command(monkeypatch, *words) == 128 + signal.SIGINT
    assert 'new: 0 stylized' in caplog.text
    assert '--resume continues' in caplog.text
    assert run_command(monkeypatch, *words, '--resume') == 0
    line = 'metastyle stylize film.mkv --style=s.safetensors -o film.mp4'
    assert f'a film is stylized alone: {line}' in caplog.text
    assert run_command(monkeypatch, 'film.mkv', 'film.mp4', *words[1:]) == 2


def test_a_name_that_is_no_utf8_is_taken_in_all_places(folder, monkeypatch, caplog):
    name = os.fsdecode(b'caf\xe9.png')
    helpers.write_image(folder / name)
    assert run_command(monkeypatch, name, '--style=s.safetensors', '-o', name, '--overwrite') == 2
    for output in ('new/', os.fsdecode(b'\xe9.png')):
        assert run_command(monkeypatch, name, '--style=s.safetensors', '-o', output) == 0
    assert (folder / 'new' / name).is_file()


def test_a_single_file_is_skipped_if_it_exists(folder, monkeypatch, caplog):
    (folder / 'out.png').write_bytes(b'anything')
    words = ['photo.jpg', '--style=s.safetensors', '-o', 'out.png', '--skip_existing']
    assert run_command(monkeypatch, *words) == 0
    assert (folder / 'out.png').read_bytes() == b'anything'
    assert 'skipped, because it exists: out.png' in caplog.text
    assert run_command(monkeypatch, *words, '--overwrite') == 2
    assert (folder / 'out.png').read_bytes() == b'anything'
