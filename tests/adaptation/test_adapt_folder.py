"""Many styles at once: one batch, one file, picked by name."""

import functools
import json
import os
import signal
import sys

import helpers
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors
from PIL import Image

import metastyle_jax
from metastyle_jax.adaptation import adapt_folder, adaptation_step, batched_step, style_group
from metastyle_jax.core.devices import sharding
from metastyle_jax.core.errors import UserError
from metastyle_jax.models import gram, perceptual_loss, transformer, vgg
from metastyle_jax.storage import style_files, style_library, tensor_files, theta_files
from metastyle_jax.stylization import styled_network, stylize_folder

FAST = {
    'steps': 2,
    'batch': 1,
    'size': 16,
    'style_size': 24,
    'styles_at_once': 2,
    'devices': 1,
    'schedule': 'constant',
}
THETA = transformer.init(jax.random.key(0), width=2, blocks=1)
# What these biases add, the next instance norm takes away: their gradient is what rounding leaves.
IDLE = ('block1/second/norm/bias',)
NORMS = [name for name in tensor_files.flatten(THETA) if transformer.adapted('norm')(name)]


def command(name, monkeypatch, *words):
    monkeypatch.setattr(sys, 'argv', [name, *map(str, words)])
    return helpers.command_module(name).run()


def make_library(names, theta=THETA, seed=0):
    rng, flat = np.random.default_rng(seed), tensor_files.flatten(theta)
    shape = lambda name: (len(names), *flat[name].shape)
    return style_library.Library(
        {name: rng.uniform(0.5, 2, shape(name)).astype(np.float32) for name in NORMS},
        {name: style_library.LibraryEntry('ab' * 32, {'total': [2.0, 1.0]}) for name in names},
        tensor_files.fingerprint(theta),
        {'steps': 1},
    )


@pytest.fixture(scope='module')
def theta():
    return theta_files.Theta(THETA, tensor_files.fingerprint(THETA), {})


@pytest.fixture(scope='module', autouse=True)
def small_vgg():
    """A VGG of width 2: what is tested is the same for any, and compiling it is the cost."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vgg, 'load', lambda path: vgg.random(jax.random.key(1), width=2))
        yield


@pytest.fixture
def theta_file(tmp_path):
    path = tmp_path / 'theta.safetensors'
    theta_files.save_theta(path, THETA, settings={})
    return path


@pytest.fixture(scope='module')
def paintings(tmp_path_factory):
    """Five pictures of several sizes, two of them nested, and one that is none."""
    folder, rng = tmp_path_factory.mktemp('paintings'), np.random.default_rng(0)
    (folder / 'deep').mkdir()
    for name in ('b.png', 'deep/a.webp', 'c.jpg', 'deep/b.png', 'd.bmp'):
        height, width = rng.integers(20, 60, 2)
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    (folder / 'broken.png').write_bytes(b'no picture')
    return folder


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / 'photo.png'
    pixels = np.random.default_rng(1).integers(0, 256, (18, 21, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


# The step. ----------------------------------------------------------------------------------------


def test_each_image_of_a_batch_can_have_norms_of_its_own(theta):
    found = make_library('abc')
    pixels = np.random.default_rng(0).uniform(size=(3, 18, 21, 3)).astype(np.float32)
    params, plain = styled_network.stack_parameters(found, ['c', 'a', 'b'], theta)
    made = transformer.apply(params, pixels)
    for name, image, alone in zip('cab', made, pixels, strict=True):
        network = style_files.merge_style(style_library.pick(found, name), theta)
        np.testing.assert_allclose(image, transformer.apply(network, alone[None])[0], atol=1e-5)
    np.testing.assert_allclose(
        transformer.apply(plain, pixels), transformer.apply(THETA, pixels), atol=1e-5
    )


canvas_grams = jax.jit(gram.of_padded_images)


def test_gram_matrices_on_a_canvas_are_those_of_the_picture(disagreement):
    network = vgg.random(jax.random.key(1), width=2)
    rng = np.random.default_rng(0)
    sizes = np.array([[19, 40], [40, 27]])
    canvas = np.zeros((2, 40, 40, 3), np.float32)
    pictures = [rng.uniform(size=(*size, 3)).astype(np.float32) for size in sizes]
    for whole, picture in zip(canvas, pictures, strict=True):
        whole[: picture.shape[0], : picture.shape[1]] = picture
    found = canvas_grams(network, canvas, sizes)
    for i, picture in enumerate(pictures):
        expected = jax.jit(gram.of_image)(network, picture)
        disagreement([layer[i] for layer in found], expected, 1e-6)


@functools.cache
def steps_together(devices):
    """Adapted norms and losses of eight styles after two steps; and what they were adapted with.

    By plain Adam at a small rate, which makes the least of rounding.
    """
    network = vgg.random(jax.random.key(1), width=2)
    rng = np.random.default_rng(0)
    contents = rng.integers(0, 256, (2, 1, 16, 16, 3), dtype=np.uint8)
    paintings = rng.uniform(size=(8, 40, 40, 3)).astype(np.float32)
    grams = canvas_grams(network, paintings, np.full((8, 2), 40))
    weights = adaptation_step.StepScalars(1e-3, 1.0, 1e3)
    state, fixed, plan = batched_step.start(THETA, 8, schedule='constant')
    batched_step.compiled_step.cache_clear()  # others may have compiled it for other shapes
    step = batched_step.compiled_step(plan, devices)
    fixed, placed = sharding.replicate((fixed, network), devices)
    history = []
    for batch in contents:
        shared = batched_step.SharedInputs(fixed, placed, jnp.asarray(batch), weights)
        state, loss = step(shared, state, grams)
        history.append(jax.device_get(loss))
    assert step.cache_size() == 1  # compiled once, the first step included
    fast = {name: leaf for name, leaf in state.fast.items() if name not in IDLE}
    return fast, history, (network, contents, grams, weights)


def test_styles_in_one_batch_go_the_ways_they_go_alone(disagreement):
    fast, history, (network, contents, grams, weights) = steps_together(1)
    for i in (0, 7):
        state, fixed, plan = adaptation_step.start(THETA, 'norm', schedule='constant')
        for batch, together_loss in zip(contents, history, strict=True):
            state, loss = adaptation_step.adapt_step(
                state, fixed, network, jnp.asarray(batch), tuple(g[i] for g in grams), weights,
                plan=plan,
            )  # fmt: skip
            disagreement(jax.tree.map(lambda x, i=i: x[i], together_loss), loss, 1e-5)
        own = {name: leaf[i] for name, leaf in fast.items()}
        disagreement(own, {name: state.fast[name] for name in fast}, 1e-5)
        for name, leaf in own.items():
            assert float(jnp.abs(leaf - tensor_files.flatten(THETA)[name]).max()) > 1e-4


def test_eight_devices_do_what_one_does(disagreement):
    (one, first, _), (eight, second, _) = steps_together(1), steps_together(8)
    assert len(next(iter(eight.values())).sharding.device_set) == 8
    disagreement(first, second, 1e-6)
    disagreement(jax.device_get(one), jax.device_get(eight), 1e-6)


# The folder. --------------------------------------------------------------------------------------


def test_a_folder_becomes_one_library_and_one_bad_picture_stops_nothing(
    theta, theta_file, paintings, tmp_path, monkeypatch, caplog
):
    out = tmp_path / 'library.safetensors'
    words = [f'--style={paintings}', f'--out={out}', f'--theta={theta_file}']
    options = [f'--{name}={value}' for name, value in FAST.items()]
    assert command('adapt', monkeypatch, *words, *options) == 0
    assert 'no style of broken.png' in caplog.text
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
    assert command('adapt', monkeypatch, *words, *options) == 0  # nothing is left to do
    assert out.read_bytes() == before
    assert '5 styles are done already' in caplog.text


def test_a_stopped_library_goes_on_and_ends_as_one_that_was_not(theta, paintings, tmp_path):
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


def test_a_signal_ends_the_command_with_its_code(theta_file, paintings, tmp_path, monkeypatch):
    adapt_many = adapt_folder.adapt_many

    def signalled(*args, **options):
        os.kill(os.getpid(), signal.SIGTERM)
        return adapt_many(*args, **options)

    monkeypatch.setattr(adapt_folder, 'adapt_many', functools.wraps(adapt_many)(signalled))
    out = tmp_path / 'library.safetensors'
    words = [f'--style={paintings}', f'--out={out}', f'--theta={theta_file}']
    options = [f'--{name}={value}' for name, value in FAST.items()]
    assert command('adapt', monkeypatch, *words, *options) == 128 + signal.SIGTERM
    assert not out.exists()  # the first group was not finished


def test_a_changed_picture_takes_the_place_of_the_old_one():
    one, two = make_library(['a', 'b', 'c']), make_library(['b', 'd'], seed=1)
    found = style_library.merge(one, two)
    assert found.names == ['a', 'b', 'c', 'd']
    for name, source in zip(found.names, (one, two, one, two), strict=True):
        picked, expected = style_library.pick(found, name), style_library.pick(source, name)
        helpers.assert_identical(picked.params, expected.params)


def test_styles_that_diverge_are_named_and_leave_the_others(theta):
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
def test_bad_settings_of_a_library_are_refused(theta, paintings, change, message):
    with pytest.raises(UserError, match=message):
        adapt_folder.adapt_many(paintings, theta, **{**FAST, **change})


def test_a_folder_without_one_good_picture_is_refused(theta_file, tmp_path, monkeypatch, capsys):
    (tmp_path / 'bad').mkdir()
    (tmp_path / 'bad' / 'x.png').write_bytes(b'no picture')
    out = tmp_path / 'library.safetensors'
    words = [f'--style={tmp_path}/bad', f'--out={out}', f'--theta={theta_file}']
    assert command('adapt', monkeypatch, *words) == 2
    assert 'none of 1 pictures became a style; x.png' in capsys.readouterr().err
    assert command('adapt', monkeypatch, *words, '--params=all') == 2
    assert "--params='all': a library holds instance norms" in capsys.readouterr().err
    assert not out.exists()


# The file. ----------------------------------------------------------------------------------------


def test_a_library_comes_back_as_it_was_and_a_thousand_styles_are_13_mb(tmp_path):
    params = transformer.init(jax.random.key(0))
    flat = {n: x for n, x in tensor_files.flatten(params).items() if transformer.adapted('norm')(n)}
    names = [f'museum/painting {i}.jpg' for i in range(1000)]
    made = style_library.Library(
        {name: np.repeat(leaf[None], 1000, axis=0) for name, leaf in flat.items()},
        {name: style_library.LibraryEntry('ab' * 32, {'total': [20.25, 10.5]}) for name in names},
        'cd' * 32,
        {'steps': 50},
    )
    path = tmp_path / 'library.safetensors'
    style_library.save(path, made)
    assert 12.8e6 < path.stat().st_size < 13.6e6
    found = style_library.load(path)
    assert found._replace(params={}) == made._replace(params={})
    helpers.assert_identical(dict(sorted(found.params.items())), dict(sorted(made.params.items())))
    with pytest.raises(UserError, match='overwrite=True'):
        style_library.save(path, made)


def test_a_library_that_is_not_whole_is_refused(tmp_path):
    path = tmp_path / 'library.safetensors'
    style_library.save(path, make_library(['a', 'b']))
    with safetensors.safe_open(path, 'np') as opened:
        metadata = opened.metadata()
    flat, _ = tensor_files.read(path, style_library._FORMAT)
    for change, message in (
        ({'styles': json.dumps({'a': {'sha256': '', 'losses': {}}})}, 'one row for each of 1'),
        ({'styles': json.dumps({'a': {}, 'b': {}})}, 'broken records'),
        ({'sha256': '0'}, 'is damaged'),
        ({'version': '2'}, 'format version 2'),
    ):
        (tmp_path / 'x.safetensors').write_bytes(
            safetensors.numpy.save(flat, {**metadata, **change})
        )
        with pytest.raises(style_files.StyleFileError, match=message):
            style_library.load(tmp_path / 'x.safetensors')


def test_names_are_found_by_what_is_theirs_alone():
    found = make_library(
        ['monet/lilies.jpg', 'hokusai/Wave.png', 'hokusai/Mt. Fuji', 'x/lilies.jpg']
    )
    for word, name in {
        'monet/lilies.jpg': 'monet/lilies.jpg',
        'monet/lilies': 'monet/lilies.jpg',
        'wave': 'hokusai/Wave.png',
        'Wave.png': 'hokusai/Wave.png',
        'mt. fuji': 'hokusai/Mt. Fuji',
    }.items():
        assert style_library.resolve(found, word) == name
    for word, message in {
        'lilies': "fits 2 styles: write one of 'monet/lilies.jpg', 'x/lilies.jpg'",
        'wvae': "among the 4 of the library: the closest are 'hokusai/Wave.png'",
        'fuji': "the closest are 'hokusai/Mt. Fuji'",
        'qqqqqq': "it has 'monet/lilies.jpg', 'hokusai/Wave.png'",
    }.items():
        with pytest.raises(style_files.StyleFileError, match=message):
            style_library.resolve(found, word)


@pytest.mark.parametrize(
    ('word', 'path', 'name'),
    [
        ('a.safetensors', 'a.safetensors', ''),
        ('a.safetensors:b', 'a.safetensors', 'b'),
        ('a.safetensors:b: c.jpg', 'a.safetensors', 'b: c.jpg'),
        ('C:\\a\\b.safetensors', 'C:\\a\\b.safetensors', ''),
        ('C:\\a\\b.safetensors:c', 'C:\\a\\b.safetensors', 'c'),
        ('C:\\a\\b.jpg', 'C:\\a\\b.jpg', ''),
    ],
)
def test_a_name_follows_the_suffix_and_drives_are_left_alone(word, path, name):
    found = style_library.split(word)
    assert (str(found[0]), found[1]) == (path, name)


def test_files_of_all_styles_stay_in_their_folder():
    names = ['../../etc/x', '/abs.jpg', 'a:b?.png', 'a.jpg', 'a.png', 'Mt. Fuji', '..']
    files = stylize_folder.file_names_of_styles(make_library(names))
    assert files == [
        'etc/x.png', 'abs.png', 'a_b_.png', 'a.jpg.png', 'a.png.png', 'Mt. Fuji.png', '_.png',
    ]  # fmt: skip


@pytest.mark.parametrize(
    'names',
    [
        ['What?.jpg', 'What:.jpg', 'What*.jpg'],
        ['a.jpg', 'a.png', 'a.jpg.png'],
        ['A.jpg', 'a.jpg'],
        ['x.jpg', 'X.png', 'x_2.jpg', 'x.jpg_2.png'],
        ['deep/?.jpg', 'deep/_.jpg', '..', '.'],
    ],
)
def test_no_two_styles_share_a_file_even_where_case_does_not_count(names):
    files = stylize_folder.file_names_of_styles(make_library(names))
    assert len({name.casefold() for name in files}) == len(names)


# Stylizing. ---------------------------------------------------------------------------------------


@pytest.fixture
def library_file(tmp_path):
    path = tmp_path / 'library.safetensors'
    style_library.save(path, make_library(['a.jpg', 'deep/b.jpg', 'c.jpg']))
    return path


def test_styles_of_a_library_are_picked_and_blended(
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
        assert command('stylize', monkeypatch, *words, *given) == 0
        with Image.open(out) as made:
            np.testing.assert_allclose(np.asarray(made) / 255, expected, atol=1 / 255)
    for style, message in (
        (f'{library_file}:d', 'There is no style'),
        (f'{library_file}', "a library of 3 styles.*'a.jpg', 'deep/b.jpg'.*all=True"),
    ):
        with pytest.raises(UserError, match=message):
            metastyle_jax.stylize(style, photo, theta=theta)


def test_one_pass_gives_each_picture_its_style(library_file, theta, photo):
    pixels = np.random.default_rng(0).uniform(size=(2, 18, 21, 3)).astype(np.float32)
    for options in ({}, {'strength': 0.7}, {'strength': 0.2}, {'keep_colours': True}):
        found = metastyle_jax.stylize_batch(
            library_file, pixels, ['c', 'a'], theta=theta, **options
        )
        for image, alone, name in zip(found, pixels, 'ca', strict=True):
            expected = metastyle_jax.stylize(
                f'{library_file}:{name}', alone, theta=theta, **options
            )
            np.testing.assert_allclose(image, expected, atol=1e-5)
    with pytest.raises(UserError, match='1 images of 21 x 18 pixels for 2 names'):
        metastyle_jax.stylize_batch(library_file, [photo], ['c', 'a'], theta=theta)
    with pytest.raises(UserError, match='but the θ in the package is'):
        metastyle_jax.stylize_batch(library_file, pixels, ['c', 'a'])


def test_a_style_of_a_library_is_exported_over_and_over_and_never_over_it(
    library_file, theta_file, tmp_path, monkeypatch, capsys
):
    words = [f'--style={library_file}:c', f'--theta={theta_file}', '--format=safetensors']
    out = f'--out={tmp_path}/network.safetensors'
    assert command('export', monkeypatch, *words, out) == 0
    assert command('export', monkeypatch, *words, out, '--overwrite') == 0
    before = library_file.read_bytes()
    assert command('export', monkeypatch, *words, f'--out={library_file}', '--overwrite') == 2
    assert 'is the style itself' in capsys.readouterr().err
    assert library_file.read_bytes() == before


def test_all_styles_of_a_library_are_rendered(
    library_file, theta, theta_file, photo, tmp_path, monkeypatch, capsys
):
    words = [f'--style={library_file}', '--all', f'--input={photo}', f'--theta={theta_file}']
    assert command('stylize', monkeypatch, *words, f'--output={tmp_path}/out', '--batch=2') == 0
    for name in ('a', 'deep/b', 'c'):
        expected = metastyle_jax.stylize(f'{library_file}:{name}', photo, theta=theta)
        with Image.open(tmp_path / 'out' / f'{name}.png') as made:
            np.testing.assert_allclose(np.asarray(made) / 255, expected, atol=1 / 255)
    assert command('stylize', monkeypatch, *words, f'--output={tmp_path}/sheet.png') == 0
    with Image.open(tmp_path / 'sheet.png') as made:
        assert made.width > 2 * 256
    for change, message in (
        (f'--style={library_file}', 'one library'),
        (f'--input={tmp_path}', 'one picture'),
        (f'--output={tmp_path}/out', 'exists'),
    ):
        output = [] if change.startswith('--output') else [f'--output={tmp_path}/new']
        assert command('stylize', monkeypatch, *words, *output, change) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / 'new').exists()
    before = photo.read_bytes()
    assert command('stylize', monkeypatch, *words, f'--output={photo}', '--overwrite') == 2
    assert 'is the input itself' in capsys.readouterr().err
    assert photo.read_bytes() == before
