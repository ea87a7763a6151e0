"""The command `metastyle adapt` for a folder."""

import functools
import os
import signal

import pytest
from library_helpers import FAST, run_adapt

from metastyle_jax.adaptation import adapt_folder
from metastyle_jax.storage import style_files, style_library

pytestmark = pytest.mark.usefixtures('small_vgg')


def test_a_signal_ends_the_command_with_the_exit_code_of_the_signal(
    theta_file, paintings, tmp_path, monkeypatch
):
    adapt_many = adapt_folder.adapt_many

    def signalled(*args, **options):
        os.kill(os.getpid(), signal.SIGTERM)
        return adapt_many(*args, **options)

    monkeypatch.setattr(adapt_folder, 'adapt_many', functools.wraps(adapt_many)(signalled))
    out = tmp_path / 'library.safetensors'
    words = [f'--style={paintings}', f'--out={out}', f'--theta={theta_file}']
    options = [f'--{name}={value}' for name, value in FAST.items()]
    assert run_adapt(monkeypatch, *words, *options) == 128 + signal.SIGTERM
    assert not out.exists()  # the first group was not finished


def test_several_words_make_a_library_and_one_makes_a_style(
    theta_file, paintings, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(paintings)
    options = [f'--theta={theta_file}', *(f'--{name}={value}' for name, value in FAST.items())]
    out = tmp_path / 'new'
    assert run_adapt(monkeypatch, 'b.png', 'deep/b.png', '-o', f'{out}/', *options) == 0
    assert style_library.load(out / 'library.safetensors').names == [
        'deep_b.png',
        f'{paintings.name}_b.png',
    ]
    options = [word for word in options if 'devices' not in word and 'at_once' not in word]
    assert run_adapt(monkeypatch, 'b.*', '-o', f'{out}/one/', '--params=norm', *options) == 0
    assert style_files.load_style(out / 'one' / 'b.safetensors').style_name == 'b.png'
    name = tmp_path / os.fsdecode(b'caf\xe9.png')
    name.write_bytes((paintings / 'b.png').read_bytes())
    assert (
        run_adapt(monkeypatch, name, '-o', f'{out}/x.safetensors', '--params=norm', *options) == 0
    )
    assert style_files.load_style(out / 'x.safetensors').style_name == r'caf\xe9.png'
    assert run_adapt(monkeypatch, 'b.png', 'no.png', '-o', f'{out}/y/', *options) == 2
    assert 'no.png: no such file or folder' in capsys.readouterr().err
    assert not (out / 'y').exists()


def test_a_folder_without_a_usable_picture_and_params_all_are_refused(
    theta_file, tmp_path, monkeypatch, capsys
):
    (tmp_path / 'bad').mkdir()
    (tmp_path / 'bad' / 'x.png').write_bytes(b'no picture')
    out = tmp_path / 'library.safetensors'
    words = [f'--style={tmp_path}/bad', f'--out={out}', f'--theta={theta_file}']
    assert run_adapt(monkeypatch, *words) == 2
    assert 'none of 1 pictures became a style; x.png' in capsys.readouterr().err
    assert run_adapt(monkeypatch, *words, '--params=all') == 2
    assert "--params='all': a library holds instance norms" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    ('words', 'told'),
    [
        (['b.png'], ['--out must be given', 'adapt b.png -o b.safetensors']),
        (['b.png', 'photo.jpg'],
         ['adapt b.png -o b.safetensors', 'stylize photo.jpg --style=b.safetensors -o out.png',
          'adapt b.png photo.jpg -o library.safetensors']),
        (['deep'], ['adapt deep -o deep.safetensors']),
        (['b.png', 'photo.jpg', '-o', 'out.png'],
         ['adapt b.png', 'stylize photo.jpg --style=b.safetensors -o out.png']),
        (['b.png', '-o', 'out.jpg'], ['stylize photo.jpg --style=b.safetensors -o out.jpg']),
        (['b.png', '-o', 'out'], ['adapt b.png -o out.safetensors']),
        (['s.safetensors', '-o', 'x.safetensors'],
         ['is a style file already', 'stylize photo.jpg --style=s.safetensors -o out.png']),
        (['b.png', '--style=b.png', '-o', 'x.safetensors'], ['adapt b.png -o x.safetensors']),
        (['-o', 'x.safetensors'], ['--style must', 'adapt painting.jpg -o x.safetensors']),
    ],
)  # fmt: skip
def test_the_command_that_would_have_worked_is_told(words, told, paintings, monkeypatch, capsys):
    monkeypatch.chdir(paintings)
    before = sorted(paintings.rglob('*'))
    assert run_adapt(monkeypatch, *words) == 2
    error = capsys.readouterr().err
    for text in told:
        assert text in error
    assert sorted(paintings.rglob('*')) == before
