"""`metastyle stylize --style=painting.jpg`."""

import helpers
import instant_helpers
import numpy as np
import pytest
from PIL import Image
from stylization_helpers import make_style, run_command

import metastyle_jax
from metastyle_jax.instant import instant_style
from metastyle_jax.storage import style_files


@pytest.fixture
def words(photo, theta_file, tmp_path):
    out = tmp_path / 'out.png'
    return [f'--input={photo}', f'--theta={theta_file}', f'--output={out}', '--overwrite']


def pixels_of(path):
    with Image.open(path) as image:
        return np.asarray(image) / 255


def test_the_command_is_the_function(painting, photo, theta_file, words, tmp_path, monkeypatch):
    out, kept = tmp_path / 'out.png', tmp_path / 'kept.safetensors'
    instant = [f'--style={painting}', '--steps=0']
    assert run_command(monkeypatch, *words, *instant, f'--save_style={kept}') == 0
    options = {'theta': theta_file}
    style = metastyle_jax.instant_style(painting, theta_file, steps=0)
    expected = metastyle_jax.stylize(style, photo, **options)
    np.testing.assert_allclose(pixels_of(out), expected, atol=1 / 255)
    np.testing.assert_array_equal(metastyle_jax.stylize(kept, photo, **options), expected)
    assert run_command(monkeypatch, *words, *instant, '--strength=0.5', '--keep_colours') == 0
    look = {'strength': 0.5, 'keep_colours': True}
    expected = metastyle_jax.stylize(style, photo, **look, **options)
    np.testing.assert_allclose(pixels_of(out), expected, atol=1 / 255)


def test_styles_with_commas_blends_grids_and_masks(
    painting, photo, theta_file, words, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    instant_helpers.write_painting(tmp_path / 'b.png', seed=1)
    style_files.save_style('c.safetensors', make_style(1))
    # Without learned rates no step is taken, by default as with --steps=0.
    instant_helpers.write_theta(theta_file, rates=False, overwrite=True)
    out, options = tmp_path / 'out.png', {'theta': theta_file}
    for given in ('painting.png,b.png', 'painting.png, c.safetensors'):
        styles = given.replace(' ', '').split(',')
        assert run_command(monkeypatch, *words, f'--style={given}', '--steps=0') == 0
        expected = metastyle_jax.stylize(styles, photo, **options)
        np.testing.assert_allclose(pixels_of(out), expected, atol=1 / 255)
    two = [*words, '--style=painting.png,c.safetensors', '--steps=0']
    assert run_command(monkeypatch, *two, '--grid=2') == 0
    first = metastyle_jax.stylize('painting.png', photo, **options)
    np.testing.assert_allclose(pixels_of(out)[:, :24], first, atol=1 / 255)
    assert run_command(monkeypatch, *two, '--animate=2') == 0
    Image.fromarray(np.repeat(np.uint8([[0, 255]]), 12, 1).repeat(20, 0)).save('mask.png')
    assert run_command(monkeypatch, *two, '--mask=mask.png', '--feather=0') == 0
    np.testing.assert_allclose(pixels_of(out)[:, :12], first[:, :12], atol=1 / 255)


def test_a_folder_is_stylized_and_resumed(painting, photo, theta_file, tmp_path, monkeypatch):
    helpers.write_images(tmp_path / 'photos', 2)
    words = [tmp_path / 'photos', f'--style={painting}', f'--theta={theta_file}', '--steps=0']
    out = tmp_path / 'new'
    assert run_command(monkeypatch, *words, '-o', out) == 0
    (out / '01.png').unlink()
    assert run_command(monkeypatch, *words, '-o', out, '--resume') == 0
    assert {path.name for path in out.glob('[!.]*')} == {'00.png', '01.png'}


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (['--style=missing.jpg'], '--style=missing.jpg: no such file'),
        (['--style=painting.png,missing.jpg'], '--style=missing.jpg: no such file'),
        (['--style=text.jpg'], 'text.jpg'),
        (['--style=lost.jpg'], 'lost.jpg'),
        (['--style=painting.png', '--steps=-1'], '--steps=-1: it must be a whole number'),
        (['--style=s.safetensors', '--steps=1'], '--steps is for a painting as --style'),
        (['--style=s.safetensors', '--save_style=x.safetensors'], '--save_style is for a painting'),
        (['--style=painting.png', '--save_style=x.png'], 'must end in .safetensors'),
        (['--style=painting.png', '--save_style=no/x.safetensors'], 'mkdir -p no'),
        (['--style=painting.png,b.png', '--save_style=x.safetensors'], 'is for one painting'),
        (['--style=painting.png', '--all'], '--all takes a library'),
        (['--style=painting.png', '--weights=1,2'], '--weights'),
        (['--style=painting.png', '--theta=missing.safetensors'], 'There is no θ at'),
    ],
)
def test_mistakes_are_answered_and_nothing_is_written(
    changes, message, painting, words, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    instant_helpers.write_painting(tmp_path / 'b.png', seed=1)
    (tmp_path / 'lost.jpg').symlink_to('nowhere')
    (tmp_path / 'text.jpg').write_text('This is a text and no picture.')
    style_files.save_style('s.safetensors', make_style(1))
    assert run_command(monkeypatch, *words, *changes) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / 'out.png').exists()
    assert not [*tmp_path.rglob('x.*')]


def test_an_existing_style_file_is_not_replaced(painting, words, tmp_path, monkeypatch, capsys):
    kept = tmp_path / 'kept.safetensors'
    kept.write_bytes(b'mine')
    words = [word for word in words if word != '--overwrite']
    style = [f'--style={painting}', '--steps=0', f'--save_style={kept}']
    assert run_command(monkeypatch, *words, *style) == 2
    assert 'exists already' in capsys.readouterr().err
    assert kept.read_bytes() == b'mine'


def test_the_painting_is_never_replaced(painting, photo, theta_file, monkeypatch, capsys):
    before = painting.read_bytes()
    words = [f'--style={painting}', f'--input={photo}', f'--theta={theta_file}', '--overwrite']
    assert run_command(monkeypatch, *words, f'--output={painting}', '--steps=0') == 2
    assert f'--output={painting}: this file is the painting' in capsys.readouterr().err
    assert painting.read_bytes() == before


def test_what_else_is_wrong_is_told_before_the_style_is_made(
    painting, photo, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(instant_style, 'instant_style', None)
    there = tmp_path / 'there.png'
    there.touch()
    for changes, message in (
        ([f'--input={photo}', f'--output={there}'], 'exists'),
        ([f'--input={photo}', f'--output={there}', '--grid=2'], '--grid'),
        ([f'--input={tmp_path}/none.jpg', f'--output={tmp_path}/new.png'], 'none.jpg'),
    ):
        assert run_command(monkeypatch, f'--style={painting}', *changes) == 2
        assert message in capsys.readouterr().err
