"""Blends, strength and colours, from Python and from the command line."""

import sys

import helpers
import jax
import numpy as np
import pytest
from PIL import Image

import metastyle_jax
from metastyle_jax.core.errors import UserError
from metastyle_jax.data.images import colour_transfer
from metastyle_jax.models import tiled_transformer, transformer
from metastyle_jax.storage import style_files, tensor_files, theta_files
from metastyle_jax.stylization import blending, render


def network(seed):
    return transformer.init(jax.random.key(seed), width=2, blocks=1)


THETA = network(0)


def make_style(seed, theta=THETA):
    return style_files.Style(
        params={
            name: np.asarray(leaf) for name, leaf in tensor_files.flatten(network(seed)).items()
        },
        adapted='all',
        style_name=f'style {seed}',
        style_sha256='0' * 64,
        theta_sha256=tensor_files.fingerprint(theta),
        settings={},
        losses={},
    )


@pytest.fixture(scope='module')
def theta():
    return theta_files.Theta(THETA, tensor_files.fingerprint(THETA), {})


@pytest.fixture(scope='module')
def pixels():
    return np.random.default_rng(0).uniform(size=(20, 24, 3)).astype(np.float32)


@pytest.fixture
def files(tmp_path):
    found = []
    for seed in range(1, 5):
        found.append(tmp_path / f'{seed}.safetensors')
        style_files.save_style(found[-1], make_style(seed))
    return found


@pytest.fixture
def photo(tmp_path, pixels):
    path = tmp_path / 'photo.png'
    Image.fromarray(np.round(pixels * 255).astype(np.uint8)).save(path)
    return path


def command(monkeypatch, *words):
    monkeypatch.setattr(sys, 'argv', ['stylize', *map(str, words)])
    return helpers.command_module('stylize').run()


def test_a_blend_has_the_weighted_mean_of_all_parameters(pixels):
    one, two = make_style(1), make_style(2)
    blended = blending.blend([network(1), network(2)], [0.3, 0.7])
    for a, b, mean in zip(*map(jax.tree.leaves, (network(1), network(2), blended)), strict=True):
        np.testing.assert_allclose(mean, 0.3 * a + 0.7 * b, rtol=1e-6)
    found = metastyle_jax.stylize([one, two], pixels, weights=[0.3, 0.7])
    np.testing.assert_allclose(
        found, transformer.apply_with_margin(blended, pixels[None])[0], atol=1e-5
    )
    np.testing.assert_array_equal(
        metastyle_jax.stylize([one, two], pixels, weights=[1, 0]),
        metastyle_jax.stylize(one, pixels),
    )
    equal = metastyle_jax.stylize([one, two], pixels, weights=[0.5, 0.5])
    np.testing.assert_array_equal(metastyle_jax.stylize([one, two], pixels), equal)


@pytest.mark.parametrize(
    ('weights', 'message'),
    [
        ([0.5], '2 styles need 2 weights'),
        ([1.5, -0.5], 'none may be negative'),
        ([0.5, 0.4], 'their sum is 0.9, it must be 1'),
        ([float('nan'), 1.0], 'none may be negative'),
    ],
)
def test_weights_that_are_none_are_refused(pixels, weights, message):
    with pytest.raises(UserError, match=message):
        metastyle_jax.stylize([make_style(1), make_style(2)], pixels, weights=weights)


def test_styles_of_different_theta_are_not_blended(pixels):
    with pytest.raises(UserError, match="'style 1' and 'style 2' were adapted from different θ"):
        metastyle_jax.stylize([make_style(1), make_style(2, network(9))], pixels)
    with pytest.raises(UserError, match='no style is given'):
        metastyle_jax.stylize([], pixels)
    small = transformer.init(jax.random.key(0), width=4, blocks=1)
    with pytest.raises(UserError, match='different sizes'):
        blending.blend([THETA, small], [0.5, 0.5])


def test_strength_goes_from_the_photograph_to_the_style(theta, pixels):
    style = make_style(1)
    at = lambda strength: metastyle_jax.stylize(style, pixels, strength=strength, theta=theta)
    np.testing.assert_array_equal(at(0.0), pixels)
    between = blending.blend([network(1), THETA], [0.25, 0.75])
    made = transformer.apply_with_margin(between, pixels[None])[0]
    np.testing.assert_allclose(at(0.25), 0.75 * pixels + 0.25 * made, atol=1e-6)
    np.testing.assert_allclose(at(1.0), metastyle_jax.stylize(style, pixels), atol=1e-6)
    for middle in (0.25, 0.5, 0.75):  # continuous
        assert np.abs(at(middle + 1e-4) - at(middle - 1e-4)).max() < 1e-2


@pytest.mark.parametrize('strength', [-0.1, 1.1, float('nan')])
def test_strengths_out_of_range_are_refused(pixels, strength):
    with pytest.raises(UserError, match='strength='):
        metastyle_jax.stylize(make_style(1), pixels, strength=strength)


def test_strength_needs_the_theta_of_the_style(pixels):
    with pytest.raises(UserError, match='needs the θ that the style was adapted from.*--theta'):
        metastyle_jax.stylize(make_style(1), pixels, strength=0.7)


def test_kept_colours_leave_the_brightness_of_the_style(pixels):
    style = make_style(1)
    plain = metastyle_jax.stylize(style, pixels)
    kept = metastyle_jax.stylize(style, pixels, keep_colours=True)
    luma = np.array([0.299, 0.587, 0.114], np.float32)
    inside = (kept > 0).all(-1) & (kept < 1).all(-1)
    assert inside.mean() > 0.3
    np.testing.assert_allclose((kept @ luma)[inside], (plain @ luma)[inside], atol=1e-3)
    chroma = lambda image: image - (image @ luma)[..., None]
    np.testing.assert_allclose(chroma(kept)[inside], chroma(pixels)[inside], atol=2e-3)
    np.testing.assert_allclose(colour_transfer.keep(pixels, pixels), pixels, atol=1e-3)
    with pytest.raises(UserError, match='of one size'):
        colour_transfer.keep(pixels[1:], pixels)


def test_a_painting_gets_the_histogram_of_a_photograph(pixels):
    photo = pixels * np.array([1.0, 0.5, 0.1], np.float32)
    painting = np.random.default_rng(1).beta(2, 5, size=(30, 30, 3)).astype(np.float32)
    matched = colour_transfer.match(painting, photo)
    assert matched.shape == painting.shape
    for quantile in (0.1, 0.5, 0.9):
        found, wanted = (np.quantile(x, quantile, axis=(0, 1)) for x in (matched, photo))
        np.testing.assert_allclose(found, wanted, atol=0.02)
    order = np.argsort(painting[..., 0].ravel())
    assert (np.diff(matched[..., 0].ravel()[order]) >= -1e-6).all()  # bright stays bright


def test_each_style_fills_its_region(pixels):
    left = np.zeros(pixels.shape[:2], np.float32)
    left[:, :12] = 1
    one, two = make_style(1), make_style(2)
    found = metastyle_jax.stylize([one, two], pixels, masks=[1 - left], feather=0)
    first, second = (metastyle_jax.stylize(style, pixels) for style in (one, two))
    np.testing.assert_allclose(found[:, :12], first[:, :12], atol=1e-6)
    np.testing.assert_allclose(found[:, 12:], second[:, 12:], atol=1e-6)
    both = metastyle_jax.stylize([one, two], pixels, masks=[left, 1 - left], feather=0)
    np.testing.assert_allclose(both, found, atol=1e-6)
    soft = blending.regions([left], count=2, feather=0.1)
    np.testing.assert_allclose(soft.sum(0), 1, atol=1e-6)
    assert np.abs(np.diff(soft[1, 0])).max() < 0.3  # no step of 1 from pixel to pixel
    assert soft[1, 0, 0] > 0.99
    assert soft[1, 0, -1] < 0.01
    reduced = metastyle_jax.stylize([one, two], pixels, masks=[left], max_size=20)
    assert reduced.shape == (17, 20, 3)


def test_pillow_images_are_taken_and_given(pixels):
    one, two = make_style(1), make_style(2)
    photo = Image.fromarray(np.rint(pixels * 255).astype(np.uint8))
    mask = np.zeros(pixels.shape[:2], np.float32)
    mask[:, 12:] = 1
    for options in ({'style': one}, {'style': [one, two], 'masks': [mask]}):
        expected = metastyle_jax.stylize(image=np.asarray(photo), **options)
        assert isinstance(expected, np.ndarray)
        if 'masks' in options:
            options['masks'] = [Image.fromarray((mask * 255).astype(np.uint8))]
        found = metastyle_jax.stylize(image=photo, **options)
        assert isinstance(found, Image.Image)
        np.testing.assert_allclose(np.asarray(found) / 255, expected, rtol=0, atol=0.5 / 255)


@pytest.mark.parametrize(
    ('masks', 'message'),
    [
        ([], '0 mask.s. for 2 style'),
        ([np.zeros((20, 24))] * 3, '3 mask.s. for 2 style'),
        ([np.zeros((20, 23))], '23 x 20 pixels and the image 24 x 20'),
        ([np.full((20, 24), 0.4)] * 2, 'gap of 100.0 %'),
        ([np.full((20, 24), 0.6)] * 2, 'overlap: their sum is up to 1.20'),
        ([np.full((20, 24), 2.0)], 'mask 1 is no mask'),
        ([np.full((20, 24), np.nan)], 'mask 1 is no mask'),
        ([np.zeros((0, 0))], '0 x 0 pixels and the image 24 x 20'),
    ],
)
def test_masks_that_do_not_divide_are_refused(pixels, masks, message):
    with pytest.raises(UserError, match=message):
        metastyle_jax.stylize([make_style(1), make_style(2)], pixels, masks=masks)


def test_corners_of_a_grid_are_the_styles():
    (strip,) = blending.corners(2, 3)
    assert strip == [[1, 0], [0.5, 0.5], [0, 1]]
    square = blending.corners(4, 3)
    assert square[0][0] == [1, 0, 0, 0]
    assert square[0][-1] == [0, 1, 0, 0]
    assert square[-1][0] == [0, 0, 1, 0]
    assert square[1][1] == [0.25] * 4
    for row in square:
        for weights in row:
            blending.check_weights(weights, 4)


def test_the_command_blends_and_draws_grids(files, photo, tmp_path, monkeypatch, pixels):
    out = tmp_path / 'out.png'
    words = [f'--input={photo}', f'--output={out}', '--overwrite']
    two = [f'--style={file}' for file in files[:2]]
    assert command(monkeypatch, *words, *two, '--weights=0.3,0.7', '--keep_colours') == 0
    expected = metastyle_jax.stylize(files[:2], photo, weights=[0.3, 0.7], keep_colours=True)
    with Image.open(out) as made:
        np.testing.assert_allclose(np.asarray(made) / 255, expected, atol=1 / 255)
    mask = tmp_path / 'mask.png'
    Image.fromarray(np.repeat(np.uint8([[0, 255]]), 12, 1).repeat(20, 0)).save(mask)
    assert command(monkeypatch, *words, *two, f'--mask={mask}', '--feather=0') == 0
    with Image.open(out) as made:
        left = np.asarray(made)[:, :12] / 255
    np.testing.assert_allclose(left, metastyle_jax.stylize(files[0], photo)[:, :12], atol=1 / 255)
    assert command(monkeypatch, *words, *two, '--grid=3') == 0
    with Image.open(out) as made:
        assert made.size == (3 * 24, 20)
    assert command(monkeypatch, *words, *(f'--style={file}' for file in files), '--grid=2') == 0
    with Image.open(out) as made:
        assert made.size == (2 * 24, 2 * 20)
        first = np.asarray(made)[:20, :24] / 255
    np.testing.assert_allclose(first, metastyle_jax.stylize(files[0], photo), atol=1 / 255)


def test_a_tour_comes_by_every_style_at_an_even_pace_and_back():
    weights = np.array(blending.tour(3, 12))
    np.testing.assert_allclose(weights[::4], np.eye(3), atol=1e-12)
    np.testing.assert_allclose(weights.sum(1), 1)
    steps = np.abs(weights - np.roll(weights, -1, 0)).sum(1)
    np.testing.assert_allclose(steps, 0.5)


@pytest.mark.parametrize('suffix', ['.webp', '.gif', '.png'])
def test_the_command_animates(files, photo, tmp_path, monkeypatch, suffix):
    out = tmp_path / f'tour{suffix}'
    words = [f'--style={file}' for file in files[:2]]
    words += [f'--input={photo}', f'--output={out}', '--animate=4', '--milliseconds=50']
    assert command(monkeypatch, *words) == 0
    expected = [
        metastyle_jax.stylize(files[:2], photo, weights=w)
        for w in ([1, 0], [0.5, 0.5], [0, 1], [0.5, 0.5])
    ]
    with Image.open(out) as made:
        assert made.n_frames == 4
        for i, frame in enumerate(expected):
            made.seek(i)
            found = np.asarray(made.convert('RGB')) / 255
            assert made.info['duration'] == 50
            # GIF has 256 colours, WebP loses a little of noise such as this.
            bound = 1 / 255 if suffix == '.png' else 0.05
            assert np.sqrt(np.mean((found - frame) ** 2)) < bound


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (['--animate=1'], '--animate=1 with 2 style'),
        (['--animate=4', '--grid=3'], 'goes without --mask and --grid'),
        (['--animate=4', '--milliseconds=0'], '--milliseconds=0: it must be at least 1'),
        (['--milliseconds=50'], '--milliseconds is for --animate: leave it out'),
        (['--feather=0.1'], '--feather is for --mask'),
        (['--steady=0.5'], '--steady is for video'),
        (['--batch=2'], '--batch is for video and --all'),
        (['--grid=3', '--mask=x.png'], 'goes without --mask'),
        (['--weights=0.3,0.6'], 'their sum is 0.9'),
        (['--weights=a,b'], 'write numbers'),
        (['--strength=2'], 'strength=2'),
        (['--strength=0.5'], 'give it with --theta'),
        (['--mask=/nowhere.png'], '/nowhere.png'),
        (['--mask=x.png', '--weights=0.5,0.5'], 'goes without --weights'),
        (['--grid=1'], '--grid=1: it must be at least 2'),
        (['--grid=3', '--weights=0.5,0.5'], 'chooses the weights itself'),
    ],
)
def test_bad_flags_write_nothing(files, photo, tmp_path, monkeypatch, capsys, change, message):
    out = tmp_path / 'out.png'
    words = [f'--style={file}' for file in files[:2]]
    words += [f'--input={photo}', f'--output={out}', *change]
    assert command(monkeypatch, *words) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_grids_and_animations_keep_what_is_transparent(files, tmp_path, monkeypatch):
    clear = np.random.default_rng(3).integers(0, 256, (20, 24, 4), np.uint8)
    Image.fromarray(clear).save(tmp_path / 'clear.png')
    words = [f'--style={file}' for file in files[:2]]
    words += [f'--input={tmp_path}/clear.png', '--overwrite']
    assert command(monkeypatch, *words, f'--output={tmp_path}/grid.png', '--grid=3') == 0
    with Image.open(tmp_path / 'grid.png') as made:
        np.testing.assert_array_equal(np.asarray(made)[..., 3], np.tile(clear[..., 3], (1, 3)))
    assert command(monkeypatch, *words, f'--output={tmp_path}/tour.png', '--animate=2') == 0
    with Image.open(tmp_path / 'tour.png') as made:
        made.seek(1)
        np.testing.assert_array_equal(np.asarray(made)[..., 3], clear[..., 3])


@pytest.mark.parametrize('change', [['--animate=3'], ['--grid=3'], ['--mask=x.png'], []])
def test_the_photograph_is_never_replaced(files, photo, monkeypatch, capsys, change):
    before = photo.read_bytes()
    words = [f'--style={file}' for file in files[:2]]
    words += [f'--input={photo}', f'--output={photo}', '--overwrite', *change]
    assert command(monkeypatch, *words) == 2
    assert 'is the input itself' in capsys.readouterr().err
    assert photo.read_bytes() == before


def test_too_large_an_animation_is_refused_before_it_is_drawn(files, tmp_path, monkeypatch, capsys):
    Image.new('RGB', (16400, 16)).save(tmp_path / 'wide.png')
    monkeypatch.setattr(render, 'render', None)
    words = [f'--style={file}' for file in files[:2]]
    words += [f'--input={tmp_path}/wide.png', '--animate=3']
    assert command(monkeypatch, *words, f'--output={tmp_path}/out.webp') == 2
    assert '16400 x 16 pixels cannot be written as WEBP' in capsys.readouterr().err
    assert not (tmp_path / 'out.webp').exists()


def test_strips_change_no_look(theta, pixels, monkeypatch):
    one, two = make_style(1), make_style(2)
    left = np.zeros(pixels.shape[:2], np.float32)
    left[:, :12] = 1
    for options in (
        {'style': one, 'strength': 0.3, 'keep_colours': True, 'theta': theta},
        {'style': [one, two], 'masks': [left]},
    ):
        whole = metastyle_jax.stylize(**options, image=pixels, tile='never')
        strips = metastyle_jax.stylize(**options, image=pixels, tile='always')
        np.testing.assert_allclose(strips, whole, atol=1e-4)
    with pytest.raises(UserError, match="tile='sometimes'"):
        metastyle_jax.stylize(one, pixels, tile='sometimes')


def test_large_pictures_are_foreseen(files, photo, tmp_path, monkeypatch, capsys):
    assert tiled_transformer.fits(2000, 2500)
    assert not tiled_transformer.fits(3000, 4000)
    monkeypatch.setattr(tiled_transformer, 'ONE_PASS', 1000)
    out = tmp_path / 'out.png'
    assert command(monkeypatch, f'--style={files[0]}', f'--input={photo}', f'--output={out}') == 0
    assert 'strip' in capsys.readouterr().err
    with Image.open(out) as made:
        expected = metastyle_jax.stylize(files[0], photo, tile='never')
        np.testing.assert_allclose(np.asarray(made) / 255, expected, atol=1 / 255)
