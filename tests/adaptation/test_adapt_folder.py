"""A folder of paintings becomes one library of styles."""

import os

import jax
import numpy as np
import pytest
from library_helpers import FAST, IDLE, NORMS, make_library, run_adapt
from PIL import Image

import metastyle_jax
from metastyle_jax.adaptation import adapt_folder, style_group
from metastyle_jax.core.errors import UserError
from metastyle_jax.models import perceptual_loss, transformer
from metastyle_jax.storage import style_library, tensor_files, theta_files

pytestmark = pytest.mark.usefixtures('small_vgg')


def test_a_folder_becomes_one_library_and_a_broken_picture_is_left_out(
    theta, theta_file, paintings, tmp_path, monkeypatch, caplog
):
    out = tmp_path / 'library.safetensors'
    words = [f'--style={paintings}', f'--out={out}', f'--theta={theta_file}']
    options = [f'--{name}={value}' for name, value in FAST.items()]
    assert run_adapt(monkeypatch, *words, *options) == 1
    assert 'no style of broken.png' in caplog.text
    assert '5 styles new, 5 in all, 1 not usable: broken.png' in caplog.text
    found = style_library.load(out)
    assert found.names == ['b.png', 'c.jpg', 'd.bmp', 'deep/a.webp', 'deep/b.png']
    assert found.theta_sha256 == theta.fingerprint
    settings = {
        name: value for name, value in FAST.items() if name not in ('styles_at_once', 'devices')
    }
    assert settings.items() <= found.settings.items()
    for name in ('deep/b.png',):
        alone = metastyle_jax.adapt(paintings / name, theta, params='norm', **settings)
        picked = style_library.pick(found, name)
        assert picked.style_sha256 == alone.style_sha256
        assert picked.losses['total'] == pytest.approx(
            [alone.losses['total'][i] for i in (0, -1)], rel=1e-4
        )
        for key in set(NORMS) - set(IDLE):
            leaf = alone.params[key]
            np.testing.assert_allclose(picked.params[key], leaf, atol=1e-4)
    before = out.read_bytes()
    caplog.clear()
    assert run_adapt(monkeypatch, *words, *options) == 1  # nothing is left to do
    assert out.read_bytes() == before
    assert '5 styles are done already' in caplog.text
    assert '0 styles new, 5 in all, 5 skipped (done before), 1 not usable' in caplog.text


def test_paintings_of_one_colour_are_told_once(theta, tmp_path, caplog):
    settings = {**FAST, 'steps': 1}
    for i in range(3):
        Image.new('RGB', (40, 40), (80 * i, 20, 90)).save(tmp_path / f'{i}.png')
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / 'noise.png')
    metastyle_jax.adapt_many(tmp_path, theta, **settings)
    texts = [each.getMessage() for each in caplog.records if 'one colour' in each.getMessage()]
    assert len(texts) == 1
    assert texts[0].startswith('3 of 4 pictures (0.png, 1.png, 2.png): one colour, or nearly')
    caplog.clear()
    one_at_once = {**settings, 'styles_at_once': 1}
    assert metastyle_jax.adapt_many(tmp_path, theta, stopped=lambda: True, **one_at_once).stopped
    assert '1 of 4 pictures (0.png): one colour, or nearly' in caplog.text
    caplog.clear()
    for name in ('styles_at_once', 'devices'):
        settings.pop(name, None)
    metastyle_jax.adapt(tmp_path / '0.png', theta, params='norm', **settings)
    assert '0.png: one colour, or nearly' in caplog.text


def test_a_stopped_adaptation_continues_to_the_same_library_under_the_same_settings_only(
    theta, paintings, tmp_path
):
    out, calls = tmp_path / 'library.safetensors', []
    stop_in_third_group = lambda: calls.append(1) or len(calls) >= 5
    first = adapt_folder.adapt_many(paintings, theta, out=out, stopped=stop_in_third_group, **FAST)
    assert first.stopped
    assert len(style_library.load(out).entries) == 4
    second = adapt_folder.adapt_many(paintings, theta, out=out, **FAST)
    assert (second.done, second.stopped, list(second.failed)) == (1, False, ['broken.png'])
    whole, found = (
        adapt_folder.adapt_many(paintings, theta, **FAST).library,
        style_library.load(out),
    )
    assert found.entries == whole.entries
    for key, leaf in whole.params.items():
        np.testing.assert_allclose(found.params[key], leaf, atol=1e-6)
    with pytest.raises(UserError, match='steps was 2, is 3.*file with out=.*overwrite=True'):
        adapt_folder.adapt_many(paintings, theta, out=out, **{**FAST, 'steps': 3})
    for folder in ('one', 'two'):  # photographs of one name, and of other colours
        (tmp_path / folder).mkdir()
        Image.new('RGB', (20, 20), (folder == 'one') * 255).save(tmp_path / folder / 'photo.png')
    matched = {**FAST, 'match_colours': tmp_path / 'one' / 'photo.png'}
    adapt_folder.adapt_many(paintings, theta, out=tmp_path / 'matched.safetensors', **matched)
    matched['match_colours'] = tmp_path / 'two' / 'photo.png'
    with pytest.raises(UserError, match=r"match_colours was 'photo.png \w+', is 'photo.png"):
        adapt_folder.adapt_many(paintings, theta, out=tmp_path / 'matched.safetensors', **matched)
    other = transformer.init(jax.random.key(5), width=2, blocks=1)
    other = theta_files.Theta(other, tensor_files.fingerprint(other), {})
    with pytest.raises(UserError, match=f'{theta.fingerprint}, and this one is'):
        adapt_folder.adapt_many(paintings, other, out=out, **FAST)


def test_several_files_become_a_library_in_a_new_folder(theta, tmp_path):
    for i, name in enumerate(('x/a.png', 'y/a.png', 'y/b.tif', 'y/b.png')):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new('RGB', (20, 20), (60 * i, 0, 0)).save(tmp_path / name)
    (tmp_path / 'y' / 'notes.txt').write_text('no picture')
    (tmp_path / 'y' / 'gone.png').symlink_to('nowhere')
    words = [tmp_path / 'x' / 'a.png', tmp_path / 'y']
    result = adapt_folder.adapt_many(words, theta, out=f'{tmp_path}/new/', **FAST)
    assert result.library.names == ['b.png', 'b.tif', 'x_a.png', 'y_a.png']
    assert [path.name for path in result.others] == ['notes.txt']
    assert 'nowhere, which does not exist' in result.failed[str(tmp_path / 'y' / 'gone.png')]
    file = tmp_path / 'new' / adapt_folder.LIBRARY_NAME
    assert style_library.load(file).entries == result.library.entries
    again = adapt_folder.adapt_many([*reversed(words)], theta, out=tmp_path / 'new', **FAST)
    assert (again.done, sorted(again.skipped)) == (0, result.library.names)


def test_nothing_is_left_behind_if_no_picture_becomes_a_style(theta, tmp_path):
    (tmp_path / 'x.png').write_text('no picture')
    os.mkfifo(tmp_path / 'pipe.png')
    before = sorted(tmp_path.iterdir())
    for words in (tmp_path / 'x.png', [tmp_path / 'x.png', tmp_path / 'pipe.png']):
        with pytest.raises(UserError, match='pictures became a style'):
            adapt_folder.adapt_many(words, theta, out=f'{tmp_path}/new/', **FAST)
    assert sorted(tmp_path.iterdir()) == before


def test_styles_that_diverge_are_named_and_the_others_are_kept(theta):
    made = make_library(['a', 'b', 'c'])
    made.params[NORMS[1]][1] = np.nan
    loss = perceptual_loss.Loss(*(np.zeros(3) for _ in range(4)))
    chosen = [style_group.StyleImage(name, '00', ()) for name in 'abc']
    failed = {}
    empty = style_library.Library({}, {}, theta.fingerprint, {})
    found = adapt_folder._finite_styles(
        empty, chosen, style_group.GroupResult(made.params, loss, loss), failed
    )
    assert list(failed) == ['b']
    assert found.names == ['a', 'c']
    assert found.params[NORMS[1]].shape[0] == 2


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'styles_at_once': 0}, 'styles_at_once=0'),
        ({'devices': 9}, 'devices=9: there are 8'),
        ({'steps': 0}, 'steps=0'),
        ({'begin': 'x'}, "begin='x'"),
        ({'inner_steps': 2}, 'no learned rates'),
        ({'out': 'library.npz'}, 'must end in .safetensors'),
        ({'inner_steps': 1, 'begin': 'theta'}, 'no learned rates'),
    ],
)
def test_invalid_settings_of_a_library_are_refused(theta, paintings, change, message):
    with pytest.raises(UserError, match=message):
        adapt_folder.adapt_many(paintings, theta, **{**FAST, **change})
