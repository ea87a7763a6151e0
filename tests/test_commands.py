"""Adapting and stylizing as a user does, from the command line and from Python."""

import hashlib
import pathlib
import subprocess
import sys

import helpers
import jax
import numpy as np
import pytest
from absl import flags
from PIL import Image

import metastyle_jax
from metastyle_jax.data import file_sources
from metastyle_jax.models import transformer
from metastyle_jax.storage import style_files, theta_files

FAST = {'steps': 3, 'batch': 1, 'size': 32, 'style_size': 32}
FAST_FLAGS = [f'--{name}={value}' for name, value in FAST.items()]


def command(name, monkeypatch, *arguments):
    """Runs a command in this process; returns its exit code."""
    monkeypatch.setattr(sys, 'argv', [name, *map(str, arguments)])
    return helpers.run_command(name)


@pytest.fixture(scope='module')
def theta(tmp_path_factory):
    path = tmp_path_factory.mktemp('theta') / 'theta.safetensors'
    params = transformer.init(jax.random.key(0), width=2, blocks=1)
    theta_files.save_theta(path, params, settings={})
    return path


@pytest.fixture(scope='module')
def painting():
    return next(iter(file_sources.sample_files('style').values()))


@pytest.fixture(scope='module')
def style(theta, painting):
    return metastyle_jax.adapt(painting, theta, **FAST)


@pytest.fixture
def style_file(style, tmp_path):
    path = tmp_path / 'style.safetensors'
    style_files.save_style(path, style)
    return path


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / 'photo.png'
    pixels = np.random.default_rng(0).integers(0, 256, (20, 27, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


# Adaptation. --------------------------------------------------------------------------------------


def test_a_style_file_tells_where_it_comes_from(theta, painting, style, style_file):
    loaded = style_files.load_style(style_file)
    assert loaded.style_name == painting.name
    assert loaded.theta_sha256 == theta_files.load_theta(theta).fingerprint
    assert loaded.settings['steps'] == 3
    assert loaded.adapted == 'all'
    assert [len(loaded.losses[part]) for part in ('total', 'content', 'style')] == [3, 3, 3]
    for name, value in style.params.items():
        np.testing.assert_array_equal(loaded.params[name], value)


def test_adaptation_lowers_the_loss_and_repeats_exactly_for_a_seed(theta, painting, style):
    again, other = (metastyle_jax.adapt(painting, theta, seed=s, **FAST) for s in (0, 1))
    for name, value in style.params.items():
        np.testing.assert_array_equal(again.params[name], value)
    assert any(np.any(other.params[n] != x) for n, x in style.params.items())
    longer = metastyle_jax.adapt(painting, theta, **{**FAST, 'steps': 30})
    assert np.mean(longer.losses['total'][-5:]) < 0.8 * np.mean(longer.losses['total'][:3])


def test_norm_adaptation_moves_and_keeps_norms_only(theta, painting, tmp_path):
    style = metastyle_jax.adapt(painting, theta, params='norm', **FAST)
    assert all('norm' in name for name in style.params)
    path = tmp_path / 'norm.safetensors'
    style_files.save_style(path, style)
    assert path.stat().st_size < 20_000
    image = np.full((16, 16, 3), 0.5, np.float32)
    assert metastyle_jax.stylize(path, image, theta=theta).shape == (16, 16, 3)
    with pytest.raises(metastyle_jax.UserError, match='theta='):
        metastyle_jax.stylize(path, image)


def test_one_theta_serves_any_number_of_adaptations(theta, painting):
    loaded = theta_files.load_theta(theta)
    one, two = (metastyle_jax.adapt(painting, loaded, **FAST) for _ in range(2))
    for name, value in one.params.items():
        np.testing.assert_array_equal(two.params[name], value)
    norm = metastyle_jax.adapt(painting, loaded, params='norm', **FAST)
    image = np.full((16, 16, 3), 0.5, np.float32)
    assert np.all(np.isfinite(metastyle_jax.stylize(norm, image, theta=loaded)))


@pytest.mark.parametrize(
    ('array', 'message'),
    [
        (np.zeros((20, 20, 3), np.int32), 'int32: it must be floating point in 0..1, or uint8'),
        (np.full((20, 20, 3), 255.0), 'outside 0..1'),
        (np.full((20, 20, 3), np.nan), 'outside 0..1'),
        (np.zeros((20, 20, 4)), r'\(20, 20, 4\)'),
        (np.zeros((20, 15, 3)), 'at least 16'),
    ],
)
def test_arrays_that_are_no_images_are_refused(theta, style, array, message):
    with pytest.raises(metastyle_jax.UserError, match=message):
        metastyle_jax.stylize(style, array, max_size=18)
    with pytest.raises(metastyle_jax.UserError, match=message):
        metastyle_jax.adapt(array, theta, **FAST)


def test_arrays_are_taken_as_styles(theta):
    picture = np.random.default_rng(0).uniform(size=(40, 30, 3)).astype(np.float32)
    style = metastyle_jax.adapt(picture, theta, **{**FAST, 'steps': 1})
    assert style.style_name == 'array'


def test_a_style_is_known_by_the_hash_of_its_file_or_its_bytes(theta, painting, style):
    data = pathlib.Path(painting).read_bytes()
    found = metastyle_jax.adapt(data, theta, **{**FAST, 'steps': 1})
    assert found.style_sha256 == style.style_sha256 == hashlib.sha256(data).hexdigest()


def test_numbers_of_numpy_are_numbers(theta, painting, tmp_path):
    given = {'steps': np.int64(1), 'rate': np.float32(0.5), 'style_weight': np.float64(2)}
    style = metastyle_jax.adapt(painting, theta, **{**FAST, **given})
    style_files.save_style(tmp_path / 'style.safetensors', style)
    found = style_files.load_style(tmp_path / 'style.safetensors').settings
    assert [found[name] for name in given] == [1, 0.5, 2]


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'steps': True}, 'steps=True: it must be a whole number'),
        ({'steps': 2.0}, r'steps=2\.0: it must be a whole number'),
        ({'rate': 'a'}, "rate='a': it must be a number above 0"),
        ({'rate': 10**400}, 'rate=1000.*: it must be a number'),
        ({'rate': float('inf')}, 'rate=inf: it must be a number'),
        ({'style_weight': float('nan')}, 'style_weight=nan: it must be a number'),
        ({'content_weight': float('inf')}, 'content_weight=inf: it must be a number'),
        ({'seed': 2**32}, 'seed=4294967296: it must be at most'),
        ({'seed': 1.5}, r'seed=1\.5: it must be a whole number'),
    ],
)
def test_senseless_settings_are_refused_before_any_work(theta, change, message):
    with pytest.raises(metastyle_jax.UserError, match=message):
        metastyle_jax.adapt('nowhere.jpg', theta, **{**FAST, **change})


def test_the_adapt_command_writes_a_style(theta, painting, tmp_path, monkeypatch, capsys):
    out = tmp_path / 'out.safetensors'
    flags = [f'--theta={theta}', f'--style={painting}', f'--out={out}', *FAST_FLAGS]
    assert command('adapt', monkeypatch, *flags) == 0
    first = style_files.load_style(out)
    assert first.settings['size'] == 32
    capsys.readouterr()
    assert command('adapt', monkeypatch, *flags) == 2
    assert '--overwrite' in capsys.readouterr().err
    assert command('adapt', monkeypatch, *flags, '--overwrite', '--steps=1') == 0
    assert style_files.load_style(out).settings['steps'] == 1


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ('--steps=0', 'steps=0'),
        ('--steps=-3', 'steps=-3'),
        ('--batch=0', 'batch=0'),
        ('--size=15', 'size=15'),
        ('--style_size=-1', 'style_size=-1'),
        ('--rate=0', 'rate=0'),
        ('--rate=nan', 'rate=nan'),
        ('--style_weight=-1', 'style_weight=-1'),
        ('--params=bias', "'bias'"),
        ('--seed=-1', 'seed'),
        ('--content=folder:/nowhere', '/nowhere'),
        ('--theta=/nowhere', '/nowhere'),
        ('--style=/nowhere.jpg', '/nowhere.jpg'),
        ('--out=/nowhere/x.safetensors', '/nowhere'),
        ('--out=x.npz', 'x.npz'),
        ('--vgg=/nowhere.pth', '/nowhere.pth'),
        ('--theta=', '--theta= is empty'),
        ('--theta=hf://someone', 'write hf://OWNER/NAME'),
        ('--inner_steps=-1', 'inner_steps=-1'),
        ('--inner_steps=2', 'no learned rates'),
        ('--schedule=rising', "'rising'"),
        ('--steps=few', '--steps=few: a whole number is needed'),
        ('--rate=few', '--rate=few: a number is needed'),
        ('--overwrite=perhaps', 'true or false is needed'),
        ('--devices=2', '--devices is for a folder'),
        ('--styles_at_once=2', '--styles_at_once is for a folder'),
        ('--batch=100000', 'batch=100000: it must be at most 1024'),
        ('--inner_steps=4', '--inner_steps=4 is more than --steps=3'),
        (f'--content={helpers.ROOT / "docs"}', f'Is folder:{helpers.ROOT / "docs"} meant?'),
        ('--stepps=2', 'stepps'),
    ],
)
def test_bad_flags_of_adapt_are_refused(
    theta, painting, tmp_path, monkeypatch, capsys, change, message
):
    out = tmp_path / 'out.safetensors'
    flags = [f'--theta={theta}', f'--style={painting}', f'--out={out}', *FAST_FLAGS, change]
    assert command('adapt', monkeypatch, *flags) == 2
    error = capsys.readouterr().err
    assert message in error
    assert 'Traceback' not in error
    assert not list(tmp_path.iterdir())


def test_a_second_start_of_adapt_compiles_nothing(theta, painting, tmp_path, monkeypatch):
    monkeypatch.setenv('JAX_COMPILATION_CACHE_DIR', str(tmp_path / 'cache'))
    monkeypatch.delenv('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', raising=False)
    code = """
        import collections, sys, jax
        from metastyle_jax.adaptation import command
        seen = collections.Counter()
        jax.monitoring.register_event_listener(lambda event, **_: seen.update([event]))
        assert command.run_adapt() == 0
        print(*(seen[f'/jax/compilation_cache/cache_{kind}'] for kind in ('hits', 'misses')))
    """
    found = []
    for name in ('first', 'second'):
        out = tmp_path / f'{name}.safetensors'
        flags_ = (f'--theta={theta}', f'--style={painting}', f'--out={out}', *FAST_FLAGS)
        run = helpers.run_python(code, *flags_)
        assert run.returncode == 0, run.stderr
        found.append(tuple(map(int, run.stdout.split())))
    (_, misses), (hits_again, misses_again) = found
    assert misses > 5
    assert misses_again == 0
    assert hits_again >= misses


def test_a_style_file_is_no_theta_and_no_picture(theta, style_file, tmp_path, monkeypatch, capsys):
    out = f'--out={tmp_path}/out.safetensors'
    assert command('adapt', monkeypatch, f'--theta={style_file}', f'--style={style_file}', out) == 2
    assert '`metastyle stylize`' in capsys.readouterr().err
    assert command('adapt', monkeypatch, f'--theta={theta}', f'--style={style_file}', out) == 2
    assert 'style.safetensors' in capsys.readouterr().err


def test_a_diverging_adaptation_stops_with_a_remedy(theta, painting, tmp_path, monkeypatch, capsys):
    out = tmp_path / 'out.safetensors'
    flags = [f'--theta={theta}', f'--style={painting}', f'--out={out}', *FAST_FLAGS]
    assert command('adapt', monkeypatch, *flags, '--rate=1e38', '--steps=5') == 2
    error = capsys.readouterr().err
    assert 'lower --rate' in error
    assert not out.exists()


# Stylizing. ---------------------------------------------------------------------------------------


def test_stylizing_in_python_equals_the_command(style, style_file, photo, tmp_path, monkeypatch):
    out = tmp_path / 'out.png'
    flags = [f'--style={style_file}', f'--input={photo}', f'--output={out}']
    assert command('stylize', monkeypatch, *flags) == 0
    written = np.asarray(Image.open(out))
    assert written.shape == (20, 27, 3)
    expected = metastyle_jax.stylize(style, photo)
    np.testing.assert_allclose(written / 255.0, expected, atol=0.51 / 255)
    array = np.asarray(Image.open(photo), np.float32) / 255
    np.testing.assert_array_equal(metastyle_jax.stylize(style_file, array), expected)


def test_size_is_kept_unless_asked_and_alpha_survives(style_file, tmp_path, monkeypatch):
    photo, out = tmp_path / 'p.png', tmp_path / 'o.webp'
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 4), dtype=np.uint8)
    Image.fromarray(pixels).save(photo)
    flags = [f'--style={style_file}', f'--input={photo}', f'--output={out}', '--max_size=30']
    assert command('stylize', monkeypatch, *flags) == 0
    with Image.open(out) as image:
        assert image.size == (30, 20)
        assert image.mode == 'RGBA'


def test_orientation_is_applied(style_file, tmp_path, monkeypatch):
    photo, out = tmp_path / 'p.jpg', tmp_path / 'o.png'
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new('RGB', (40, 24), 'red').save(photo, exif=exif)
    flags = [f'--style={style_file}', f'--input={photo}', f'--output={out}']
    assert command('stylize', monkeypatch, *flags) == 0
    with Image.open(out) as image:
        assert image.size == (24, 40)


def test_a_folder_becomes_a_folder(style_file, tmp_path, monkeypatch, caplog):
    photos, out = tmp_path / 'photos', tmp_path / 'new' / 'out'
    (photos / 'deep').mkdir(parents=True)
    for i in range(11):
        Image.new('RGB', (16 + i % 2, 16), (i * 20, 0, 0)).save(photos / f'{i}.jpg')
    Image.new('L', (16, 16)).save(photos / 'deep' / 'grey.gif')
    (photos / 'broken.png').write_bytes(b'no picture')
    flags = [f'--style={style_file}', f'--input={photos}', f'--output={out}']
    assert command('stylize', monkeypatch, *flags) == 1  # one of them is broken
    written = {path.relative_to(out).as_posix() for path in out.rglob('[!.]*.*')}
    assert written == {f'{i}.jpg' for i in range(11)} | {'deep/grey.png'}
    assert command('stylize', monkeypatch, *flags) == 2  # nothing is overwritten
    (photos / 'broken.png').unlink()
    assert command('stylize', monkeypatch, *flags, '--overwrite') == 0


def test_a_panorama_that_gets_too_small_is_skipped_by_name(
    style_file, tmp_path, monkeypatch, caplog, capfd
):
    photos, out = tmp_path / 'photos', tmp_path / 'out'
    photos.mkdir()
    for i in range(11):
        Image.new('RGB', (24, 24)).save(photos / f'{i}.png')
    Image.new('RGB', (400, 20)).save(photos / 'wide.png')
    flags = [f'--style={style_file}', f'--input={photos}', '--max_size=100']
    assert command('stylize', monkeypatch, *flags, f'--output={out}') == 1
    assert 'wide.png' in caplog.text
    assert 'max_size=100' in caplog.text
    assert len(list(out.glob('[!.]*'))) == 11
    assert command('stylize', monkeypatch, *flags, f'--output={photos}/out') == 2
    assert 'is inside of' in capfd.readouterr().err


def test_what_cannot_be_stylized_in_a_folder_is_left_out_by_name(
    style_file, tmp_path, monkeypatch, caplog, capsys
):
    photos, out = tmp_path / 'photos', tmp_path / 'out'
    photos.mkdir()
    Image.new('RGB', (5, 5)).save(photos / 'tiny.png')
    (photos / 'broken.png').write_bytes(b'no picture')
    flags = [f'--style={style_file}', f'--input={photos}', f'--output={out}']
    assert command('stylize', monkeypatch, *flags) == 2
    error = capsys.readouterr().err
    assert 'none of the 2 pictures' in error
    assert all(f'{photos / name}: is' in error for name in ('broken.png', 'tiny.png'))
    assert not out.exists()
    Image.effect_noise((64, 64), 50).save(photos / 'short.png')
    whole = (photos / 'short.png').read_bytes()
    (photos / 'short.png').write_bytes(whole[: len(whole) // 2])
    (photos / 'phone.HEIC').write_bytes(b'not read')
    frames = [Image.new('RGB', (16, 16), colour) for colour in ('red', 'blue', 'green')]
    frames[0].save(photos / 'moving.gif', save_all=True, append_images=frames[1:])
    assert command('stylize', monkeypatch, *flags) == 1
    assert [path.name for path in out.glob('[!.]*')] == ['moving.png']
    for told in (
        *('left out: ' + str(photos / name) for name in ('short.png', 'broken.png', 'phone.HEIC')),
        'the first of its 3 frames', '1 stylized', '4 not usable: ', 'tiny.png',
    ):  # fmt: skip
        assert told in caplog.text


def test_a_pillow_image_keeps_its_transparency(style_file):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 4), dtype=np.uint8)
    made = metastyle_jax.stylize(style_file, Image.fromarray(pixels))
    assert made.mode == 'RGBA'
    np.testing.assert_array_equal(np.asarray(made)[..., 3], pixels[..., 3])
    masked = metastyle_jax.stylize(
        [style_file] * 2, Image.fromarray(pixels), masks=[np.ones((20, 30))], max_size=24
    )
    assert (masked.mode, masked.size) == ('RGBA', (24, 16))
    assert metastyle_jax.stylize(style_file, Image.fromarray(pixels[..., :3])).mode == 'RGB'


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ('--output={tmp}/out.bmp', '.bmp'),
        ('--output={tmp}/nowhere/out.png', 'nowhere'),
        ('--output={photo}', 'itself'),
        ('--input={tmp}/nowhere.png', 'nowhere.png'),
        ('--input={tmp}/empty', 'empty'),
        ('--input={tmp}/zero.png', 'zero.png'),
        ('--input={tmp}/small.png', '16'),
        ('--input={tmp}/cut.jpg', 'cut.jpg'),
        ('--style={tmp}/nowhere.safetensors', 'nowhere.safetensors'),
        ('--style={tmp}/cut.safetensors', 'cut.safetensors'),
        ('--style={theta}', "'metastyle_jax.theta'"),
        ('--max_size=8', 'max_size=8'),
        ('--max_size=big', 'big'),
        ('--style=', '--style must be given'),
    ],
)
def test_bad_flags_of_stylize_are_refused(
    style_file, theta, photo, tmp_path, monkeypatch, capsys, change, message
):
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'zero.png').touch()
    Image.new('RGB', (15, 40)).save(tmp_path / 'small.png')
    Image.effect_noise((64, 64), 50).save(tmp_path / 'cut.jpg')
    (tmp_path / 'cut.jpg').write_bytes((tmp_path / 'cut.jpg').read_bytes()[:-300])
    (tmp_path / 'cut.safetensors').write_bytes(style_file.read_bytes()[:-100])
    before = sorted(tmp_path.rglob('*'))
    change = change.format(tmp=tmp_path, photo=photo, theta=theta)
    out = tmp_path / 'out.png'
    flags = [f'--style={style_file}', f'--output={out}', change]
    if not change.startswith('--input='):  # two of them would be two pictures
        flags.append(f'--input={photo}')
    assert command('stylize', monkeypatch, *flags) == 2
    error = capsys.readouterr().err
    assert message in error
    assert 'Traceback' not in error
    assert sorted(tmp_path.rglob('*')) == before


def test_a_style_of_another_theta_is_refused(theta, painting, photo, tmp_path):
    style = metastyle_jax.adapt(painting, theta, params='norm', **{**FAST, 'steps': 1})
    other = tmp_path / 'other.safetensors'
    params = transformer.init(jax.random.key(7), width=2, blocks=1)
    theta_files.save_theta(other, params, settings={})
    with pytest.raises(metastyle_jax.UserError, match='adapted from the θ'):
        metastyle_jax.stylize(style, photo, theta=other)


def test_the_comparison_shows_four_pictures_a_row(
    theta, painting, style_file, photo, tmp_path, monkeypatch
):
    out = tmp_path / 'result.png'
    flags = [
        f'--painting={painting}', f'--theta={theta}', f'--style={style_file}',
        f'--input={photo},{photo}', f'--output={out}', '--cell=64',
    ]  # fmt: skip
    assert command('compare', monkeypatch, *flags) == 0
    assert command('compare', monkeypatch, *flags, f'--output={photo}', '--overwrite') == 2
    with Image.open(out) as image:
        assert image.width > 4 * 64
        assert image.height > 2 * 64
        wide = image.width
    # Where a painting got a photograph's colours, it is not known where its style began.
    style_files.save_style(
        tmp_path / 'matched.safetensors',
        metastyle_jax.adapt(painting, theta, match_colours=photo, **{**FAST, 'steps': 1}),
    )
    flags[2] = f'--style={tmp_path}/matched.safetensors'
    assert command('compare', monkeypatch, *flags, '--overwrite') == 0
    with Image.open(out) as image:
        assert 3 * 64 < image.width < wide


# The package. -------------------------------------------------------------------------------------


def test_a_public_name_whose_package_is_missing_says_what_to_install(monkeypatch):
    monkeypatch.setitem(metastyle_jax._MODULES, 'adapt', 'not_there')
    with pytest.raises(ImportError, match=r'metastyle_jax\.adapt needs metastyle_jax\.not_there'):
        metastyle_jax.adapt  # noqa: B018


def test_public_names_are_functions_however_modules_are_imported():
    helpers.command_module('adapt')
    helpers.command_module('stylize')
    for name in metastyle_jax.__all__:
        assert getattr(metastyle_jax, name) is not None
    assert not isinstance(metastyle_jax.adapt, type(pathlib))
    assert not isinstance(metastyle_jax.stylize, type(pathlib))
    with pytest.raises(AttributeError, match='no attribute'):
        _ = metastyle_jax.nothing


@pytest.mark.parametrize('name', ['train', 'adapt', 'stylize', 'export', 'compare'])
def test_help_is_complete_and_short(name, monkeypatch, capsys):
    module = helpers.command_module(name)
    assert command(name, monkeypatch, '--help') == 0
    text = capsys.readouterr().out
    values = flags.FlagValues()
    module.define_flags(values)
    for flag in ('workdir',) if name == 'train' else list(values):
        assert f'--{flag}' in text
    own = [flag for flag in values if '.' not in flag]
    assert len(text.splitlines()) < max(60, 12 + 2.5 * len(own))  # a flag has a line or two


def test_modules_run_without_a_warning():
    found = subprocess.run(
        [sys.executable, '-W', 'error', '-m', 'metastyle_jax.stylize', '--input=x'],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert found.returncode == 2
    assert '--style and --output must be given' in found.stderr


@pytest.mark.parametrize(
    ('name', 'flags'),
    [
        ('adapt', ['--style={}', '--out=x.safetensors']),
        ('adapt', ['--style=x.png', '--out={}.safetensors']),
        ('stylize', ['--style={}', '--input={}', '--output=x.png']),
        ('stylize', ['--style=x', '--input={}.mp4', '--output={}.mp4']),
        ('export', ['--style={}', '--out={}.onnx']),
        ('train', ['--config=configs/coco.py:tiny', '--workdir={}']),
    ],
)
def test_names_too_long_for_a_file_are_refused(monkeypatch, capsys, name, flags):
    monkeypatch.chdir(helpers.ROOT)
    given = [flag.format('long' * 1000) for flag in flags]
    monkeypatch.setattr(sys, 'argv', [name, *given])
    assert helpers.run_command(name) == 2
    error = capsys.readouterr().err
    assert 'too long' in error or 'no such file' in error
    assert 'Traceback' not in error


def test_help_into_a_closed_pipe_ends_without_a_word():
    command = f'{sys.executable} -m metastyle_jax.train --help; echo $? >&2'
    found = subprocess.run(
        ['bash', '-c', f'({command}) | true'],
        cwd=helpers.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.stderr.strip() == '141'
