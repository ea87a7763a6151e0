"""The flags of `metastyle stylize`, for pictures."""

import helpers
import numpy as np
import pytest
from absl import flags
from PIL import Image
from stylization_helpers import run_command

import metastyle_jax
from metastyle_jax.core.errors import UserError
from metastyle_jax.models import tiled_transformer
from metastyle_jax.storage import style_library
from metastyle_jax.stylization import mask_regions, render


def test_the_command_blends_and_draws_grids(files, photo, tmp_path, monkeypatch, pixels):
    out = tmp_path / 'out.png'
    words = [f'--input={photo}', f'--output={out}', '--overwrite']
    two = [f'--style={file}' for file in files[:2]]
    assert run_command(monkeypatch, *words, *two, '--weights=0.3,0.7', '--keep_colours') == 0
    expected = metastyle_jax.stylize(files[:2], photo, weights=[0.3, 0.7], keep_colours=True)
    with Image.open(out) as written:
        np.testing.assert_allclose(np.asarray(written) / 255, expected, atol=1 / 255)
    mask = tmp_path / 'mask.png'
    Image.fromarray(np.repeat(np.uint8([[0, 255]]), 12, 1).repeat(20, 0)).save(mask)
    assert run_command(monkeypatch, *words, *two, f'--mask={mask}', '--feather=0') == 0
    with Image.open(out) as written:
        left = np.asarray(written)[:, :12] / 255
    np.testing.assert_allclose(left, metastyle_jax.stylize(files[0], photo)[:, :12], atol=1 / 255)
    assert run_command(monkeypatch, *words, *two, '--grid=3') == 0
    with Image.open(out) as written:
        assert written.size == (3 * 24, 20)
    assert run_command(monkeypatch, *words, *(f'--style={file}' for file in files), '--grid=2') == 0
    with Image.open(out) as written:
        assert written.size == (2 * 24, 2 * 20)
        first = np.asarray(written)[:20, :24] / 255
    np.testing.assert_allclose(first, metastyle_jax.stylize(files[0], photo), atol=1 / 255)


@pytest.mark.parametrize('suffix', ['.webp', '.gif', '.png'])
def test_the_command_animates(files, photo, tmp_path, monkeypatch, suffix):
    out = tmp_path / f'tour{suffix}'
    words = [f'--style={file}' for file in files[:2]]
    words += [f'--input={photo}', f'--output={out}', '--animate=4', '--milliseconds=50']
    assert run_command(monkeypatch, *words) == 0
    expected = [
        metastyle_jax.stylize(files[:2], photo, weights=w)
        for w in ([1, 0], [0.5, 0.5], [0, 1], [0.5, 0.5])
    ]
    with Image.open(out) as written:
        assert written.n_frames == 4
        for i, frame in enumerate(expected):
            written.seek(i)
            shown = np.asarray(written.convert('RGB')) / 255
            assert written.info['duration'] == 50
            # GIF has 256 colours, WebP changes noise a little.
            bound = 1 / 255 if suffix == '.png' else 0.05
            assert np.sqrt(np.mean((shown - frame) ** 2)) < bound


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (['--animate=1'], '--animate=1 with 2 style'),
        (['--animate=4', '--grid=3'], '--animate cannot be combined with --grid'),
        (
            ['--animate=4', '--milliseconds=0'],
            '--milliseconds=0: it must be a whole number',
        ),
        (['--milliseconds=50'], '--milliseconds is for --animate: leave it out'),
        (['--feather=0.1'], '--feather is for --mask'),
        (['--steady=0.5'], '--steady is for video'),
        (['--batch=2'], '--batch is for video and --all'),
        (['--grid=3', '--mask=x.png'], '--grid cannot be combined with --mask'),
        (['--weights=0.3,0.6'], 'their sum is 0.9'),
        (['--weights=a,b'], 'write numbers'),
        (['--strength=2'], 'strength=2'),
        (['--strength=0.5'], 'give it with --theta='),
        (['--mask=/nowhere.png'], '/nowhere.png'),
        (['--mask=x.png', '--weights=0.5,0.5'], '--mask cannot be combined with --weights'),
        (['--grid=1'], '--grid=1: it must be a whole number of at least 2'),
        (['--grid=3', '--weights=0.5,0.5'], '--grid cannot be combined with --weights'),
    ],
)
def test_invalid_flags_are_refused_and_nothing_is_written(
    files, photo, tmp_path, monkeypatch, capsys, change, message
):
    out = tmp_path / 'out.png'
    words = [f'--style={file}' for file in files[:2]]
    words += [f'--input={photo}', f'--output={out}', *change]
    assert run_command(monkeypatch, *words) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_grids_and_animations_keep_transparency(files, tmp_path, monkeypatch):
    clear = np.random.default_rng(3).integers(0, 256, (20, 24, 4), np.uint8)
    Image.fromarray(clear).save(tmp_path / 'clear.png')
    words = [f'--style={file}' for file in files[:2]]
    words += [f'--input={tmp_path}/clear.png', '--overwrite']
    assert run_command(monkeypatch, *words, f'--output={tmp_path}/grid.png', '--grid=3') == 0
    with Image.open(tmp_path / 'grid.png') as written:
        np.testing.assert_array_equal(np.asarray(written)[..., 3], np.tile(clear[..., 3], (1, 3)))
    assert run_command(monkeypatch, *words, f'--output={tmp_path}/tour.png', '--animate=2') == 0
    with Image.open(tmp_path / 'tour.png') as written:
        written.seek(1)
        np.testing.assert_array_equal(np.asarray(written)[..., 3], clear[..., 3])


@pytest.mark.parametrize('change', [['--animate=3'], ['--grid=3'], ['--mask=x.png'], []])
def test_the_input_photograph_is_never_replaced(files, photo, monkeypatch, capsys, change):
    before = photo.read_bytes()
    words = [f'--style={file}' for file in files[:2]]
    words += [f'--input={photo}', f'--output={photo}', '--overwrite', *change]
    assert run_command(monkeypatch, *words) == 2
    assert 'is the input itself' in capsys.readouterr().err
    assert photo.read_bytes() == before


def test_an_animation_too_large_for_its_format_is_refused_before_rendering(
    files, tmp_path, monkeypatch, capsys
):
    Image.new('RGB', (16400, 16)).save(tmp_path / 'wide.png')
    monkeypatch.setattr(render, 'render', None)
    words = [f'--style={file}' for file in files[:2]]
    words += [f'--input={tmp_path}/wide.png', '--animate=3']
    assert run_command(monkeypatch, *words, f'--output={tmp_path}/out.webp') == 2
    assert '16400 x 16 pixels cannot be written as WEBP' in capsys.readouterr().err
    assert not (tmp_path / 'out.webp').exists()


def test_large_pictures_are_rendered_in_strips(files, photo, tmp_path, monkeypatch, capsys):
    assert tiled_transformer.fits(2000, 2500)
    assert not tiled_transformer.fits(3000, 4000)
    monkeypatch.setattr(tiled_transformer, 'ONE_PASS', 1000)
    out = tmp_path / 'out.png'
    assert (
        run_command(monkeypatch, f'--style={files[0]}', f'--input={photo}', f'--output={out}') == 0
    )
    assert 'strip' in capsys.readouterr().err
    with Image.open(out) as written:
        expected = metastyle_jax.stylize(files[0], photo, tile='never')
        np.testing.assert_allclose(np.asarray(written) / 255, expected, atol=1 / 255)


def test_the_commands_list_their_flags_without_jax():
    done = helpers.run_python(
        """
        import sys
        from metastyle_jax.instant import cache_command, command
        from metastyle_jax.stylization.export import command as export_command

        sys.argv = ['stylize', '--help']
        assert command.run_stylize() == export_command.run_export() == 0
        assert cache_command.run_cache() == 0
        heavy = {'jax', 'numpy', 'PIL', 'av', 'skimage', 'scipy'} & set(sys.modules)
        assert not heavy, heavy
        """
    )
    assert done.returncode == 0, done.stderr


def test_help_names_the_default_softness_of_masks():
    values = flags.FlagValues()
    helpers.command_module('stylize').define_flags(values)
    assert f'(default: {mask_regions.FEATHER:g})' in values['feather'].help


def test_the_command_picks_and_blends_styles_of_a_library(
    library_file, theta, theta_file, photo, tmp_path, monkeypatch, capsys
):
    found, out = style_library.load(library_file), tmp_path / 'out.png'
    words = [f'--input={photo}', f'--output={out}', '--overwrite', f'--theta={theta_file}']
    two = [f'--style={library_file}:{name}' for name in ('a', 'b')]
    picked = [style_library.pick(found, name) for name in ('a.jpg', 'deep/b.jpg')]
    for given, expected in (
        (two[:1], metastyle_jax.stylize(picked[0], photo, theta=theta)),
        (
            [*two, '--weights=0.3,0.7'],
            metastyle_jax.stylize(picked, photo, weights=[0.3, 0.7], theta=theta),
        ),
    ):
        assert run_command(monkeypatch, *words, *given) == 0
        with Image.open(out) as made:
            np.testing.assert_allclose(np.asarray(made) / 255, expected, atol=1 / 255)
    for style, message in (
        (f'{library_file}:d', 'There is no style'),
        (f'{library_file}', "a library of 3 styles.*'a.jpg', 'deep/b.jpg'.*all=True"),
    ):
        with pytest.raises(UserError, match=message):
            metastyle_jax.stylize(style, photo, theta=theta)


def test_the_command_renders_all_styles_of_a_library_to_a_folder_or_a_sheet(
    library_file, theta, theta_file, photo, tmp_path, monkeypatch, capsys
):
    words = [f'--style={library_file}', '--all', f'--input={photo}', f'--theta={theta_file}']
    assert run_command(monkeypatch, *words, f'--output={tmp_path}/out', '--batch=2') == 0
    for name in ('a', 'deep/b', 'c'):
        expected = metastyle_jax.stylize(f'{library_file}:{name}', photo, theta=theta)
        with Image.open(tmp_path / 'out' / f'{name}.png') as made:
            np.testing.assert_allclose(np.asarray(made) / 255, expected, atol=1 / 255)
    assert run_command(monkeypatch, *words, f'--output={tmp_path}/sheet.png') == 0
    with Image.open(tmp_path / 'sheet.png') as made:
        assert made.width > 2 * 256
    for change, message in (
        (f'--style={library_file}', 'one library'),
        (f'--input={tmp_path}', 'one picture'),
        (f'--output={tmp_path}/out', 'exists'),
    ):
        output = [] if change.startswith('--output') else [f'--output={tmp_path}/new']
        assert run_command(monkeypatch, *words, *output, change) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / 'new').exists()
    before = photo.read_bytes()
    assert run_command(monkeypatch, *words, f'--output={photo}', '--overwrite') == 2
    assert 'is the input itself' in capsys.readouterr().err
    assert photo.read_bytes() == before


def test_a_picture_in_all_styles_is_warned_of_once(
    library_file, theta_file, tmp_path, monkeypatch, caplog
):
    tags = Image.Exif()
    tags[271] = 'Canon'
    photo = tmp_path / 'plain.jpg'
    Image.new('RGB', (24, 24), 'red').save(photo, exif=tags)
    photo.write_bytes(photo.read_bytes().replace(b'Exif\0\0MM', b'Exif\0\0XX'))
    words = [f'--style={library_file}', '--all', f'--input={photo}', f'--theta={theta_file}']
    assert run_command(monkeypatch, *words, f'--output={tmp_path}/styles') == 0
    assert caplog.text.count('one colour, so that there is nothing to stylize') == 1
    assert caplog.text.count('damaged metadata (EXIF)') == 1
