"""The style of a painting: what it is, when it is made again, and bad input."""

import pathlib
import zlib

import instant_helpers
import numpy as np
import pytest
from PIL import Image
from stylization_helpers import THETA

import metastyle_jax
from metastyle_jax.adaptation import adapt, adaptation_start, style_image
from metastyle_jax.adaptation.config import AdaptConfig
from metastyle_jax.core.errors import UserError
from metastyle_jax.data.images import image_files
from metastyle_jax.data.images.decoding import reduction
from metastyle_jax.instant import instant_style
from metastyle_jax.instant.config import InstantConfig
from metastyle_jax.models import transformer
from metastyle_jax.storage import tensor_files


@pytest.fixture
def made(monkeypatch):
    """How each style was made: the numbers of steps, 0 for the prediction alone."""
    calls, predict = [], adapt.predict

    def predicted(*args, **options):
        calls.append(0)
        return predict(*args, **options)

    def adapted(*args, config, progress):
        calls.append(config.steps)
        return predict(*args, config=config)

    monkeypatch.setattr(adapt, 'predict', predicted)
    monkeypatch.setattr(adapt, 'adapt', adapted)
    return calls


def assert_same(one, other):
    assert one.params.keys() == other.params.keys()
    for name, array in one.params.items():
        np.testing.assert_array_equal(array, other.params[name])


def test_without_steps_the_style_is_the_prediction(painting, theta):
    style = metastyle_jax.instant_style(painting, theta, steps=0)
    picture, _, digest = style_image.read(painting, 256)
    grams = style_image.grams(instant_helpers.VGG, picture)
    expected = tensor_files.flatten(adaptation_start.start_params(theta, grams, 'predicted'))
    assert {*style.params} == {*filter(transformer.adapted('norm'), expected)}
    for name, array in style.params.items():
        np.testing.assert_array_equal(array, expected[name])
        assert not np.array_equal(array, tensor_files.flatten(THETA)[name])
    assert (style.adapted, style.style_sha256) == ('norm', digest)
    assert (style.settings['steps'], style.losses['total']) == (0, [])


def test_the_learned_steps_refine_the_prediction(painting, theta, cache):
    style = metastyle_jax.instant_style(painting, theta)
    assert_same(style, metastyle_jax.adapt(painting, theta, params='norm', steps=2, inner_steps=2))
    assert len(style.losses['total']) == style.settings['inner_steps'] == 2
    assert_same(metastyle_jax.instant_style(painting, theta), style)
    assert len(cache.entries()) == 1


def test_the_number_of_steps_is_that_of_the_learned_rates():
    steps = lambda theta, given=None: instant_style.steps_for(InstantConfig(steps=given), theta)
    theta = instant_helpers.make_theta()
    assert [steps(theta), steps(theta, 0), steps(theta, 9)] == [2, 0, 9]
    kernels = theta._replace(rates={'down1/conv/kernel': 1e-4})
    assert steps(kernels) == steps(instant_helpers.make_theta(rates=False)) == 0
    plain = theta._replace(rates=None, predictor=None)
    assert steps(plain) == 30
    with pytest.raises(UserError, match='steps=0: this θ has no norm predictor'):
        steps(plain, 0)
    with pytest.raises(UserError, match='steps=-1'):
        metastyle_jax.instant_style('x.jpg', theta, steps=-1)
    with pytest.raises(UserError, match="no setting 'step'"):
        metastyle_jax.instant_style('x.jpg', theta, step=1)


def test_a_style_is_made_once_for_each_content_and_settings(painting, theta, tmp_path, made):
    style = metastyle_jax.instant_style(painting, theta)
    copy = tmp_path / 'copy.png'
    copy.write_bytes(painting.read_bytes())
    for same in (str(copy), copy.read_bytes()):
        again = metastyle_jax.instant_style(same, theta)
        assert_same(again, style)
        assert again.style_name == ('copy.png' if isinstance(same, str) else 'array')
    assert made == [2]
    rates = {name: 2 * rate for name, rate in theta.rates.items()}
    loop = {'inner': instant_helpers.SETTINGS['inner'] | {'log_loss': True}}
    other = {name: leaf + 1 for name, leaf in THETA['down1']['norm'].items()}
    params = THETA | {'down1': THETA['down1'] | {'norm': other}}
    for changed in (
        instant_helpers.make_theta(seed=1),
        theta._replace(rates=rates),
        theta._replace(settings=loop),
        theta._replace(params=params, fingerprint=tensor_files.fingerprint(params)),
    ):
        made.clear()
        metastyle_jax.instant_style(painting, changed)
        assert made == [2]
    metastyle_jax.instant_style(painting, theta, steps=0)
    metastyle_jax.instant_style(painting, theta, steps=3)
    instant_helpers.write_painting(painting, seed=1)
    metastyle_jax.instant_style(painting, theta)
    assert made == [2, 0, 3, 2]


def test_the_forms_of_a_picture_that_adapt_takes(painting, theta, made):
    pixels = np.asarray(Image.open(painting))
    forms = [painting, painting.read_bytes(), Image.open(painting), pixels]
    styles = [metastyle_jax.instant_style(form, theta, steps=0) for form in forms]
    for style in styles[1:]:
        assert_same(style, styles[0])
    assert len(made) == 2  # a file and its bytes are one content, the pixels another


@pytest.mark.parametrize('shape', [(24, 32), (300, 417)])
def test_pixels_in_memory_are_resized_once_and_cached(shape, theta, cache, monkeypatch):
    decoded, decode = [], reduction.decode_loaded

    def counting(image, *args):
        decoded.append(image.size)
        return decode(image, *args)

    monkeypatch.setattr(reduction, 'decode_loaded', counting)
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    one = metastyle_jax.instant_style(pixels, theta, steps=0)
    assert len(decoded) == 1
    assert len(cache.entries()) == 1
    assert_same(one, adapt.predict(pixels, theta, config=AdaptConfig(params='norm', steps=1)))


@pytest.mark.parametrize('change', ['cut', 'other painting'])
def test_a_wrong_file_in_the_cache_is_replaced(painting, theta, cache, made, tmp_path, change):
    style = metastyle_jax.instant_style(painting, theta, steps=0)
    (entry,) = cache.entries()
    if change == 'cut':
        entry.path.write_bytes(entry.path.read_bytes()[:100])
    else:
        wrong = style._replace(style_sha256='0' * 64)
        cache.put(entry.path.stem, wrong)
    for _ in range(2):
        assert_same(metastyle_jax.instant_style(painting, theta, steps=0), style)
    assert made == [0, 0]


def test_without_a_place_for_the_cache_styles_are_still_made(
    painting, theta, tmp_path, monkeypatch, made, caplog
):
    (tmp_path / 'file').touch()
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'file'))
    for _ in range(2):
        metastyle_jax.instant_style(painting, theta, steps=0)
    assert made == [0, 0]
    assert caplog.text.count('styles of paintings are not cached') == 1

    def homeless():
        raise RuntimeError('Could not determine home directory.')

    monkeypatch.delenv('XDG_CACHE_HOME')
    monkeypatch.setattr(pathlib.Path, 'home', homeless)
    for _ in range(2):
        metastyle_jax.instant_style(painting, theta, steps=0)
    assert caplog.text.count('there is no home folder') == 1


def test_a_painting_that_changes_while_it_is_read_is_not_cached(painting, theta, cache, made):
    identified = instant_style._identified

    def changed(*args):
        image, digest = identified(*args)
        return image, digest[::-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(instant_style, '_identified', changed)
        metastyle_jax.instant_style(painting, theta, steps=0)
    assert cache.entries() == []


def test_an_animated_picture_gives_its_first_frame(theta, tmp_path, made):
    frames = [Image.new('RGB', (24, 24), colour) for colour in ('red', 'blue')]
    for frame in frames:
        frame.paste('green', (0, 0, 12, 12))
    file = tmp_path / 'moving.png'
    frames[0].save(file, save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / 'still.png')
    moving, still = (
        metastyle_jax.instant_style(path, theta, steps=0) for path in (file, tmp_path / 'still.png')
    )
    assert_same(moving, still)


def big_png(path):
    """A PNG whose header says that it has more than 200 million pixels."""
    Image.new('L', (16, 16)).save(path)
    data = bytearray(path.read_bytes())
    data[16:24] = (20_000).to_bytes(4) * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4)
    path.write_bytes(data)


def test_files_that_are_no_usable_picture_are_refused(theta, tmp_path, monkeypatch, cache):
    monkeypatch.setattr(image_files.importlib.util, 'find_spec', lambda name: None)
    monkeypatch.setattr(adapt, 'adapt', None)
    heic, big = tmp_path / 'a.heic', tmp_path / 'big.png'
    heic.write_bytes(b'\0\0\0\x18ftypheic\0\0\0\0mif1heic' + bytes(64))
    big_png(big)
    (tmp_path / 'text.jpg').write_text('This is a text and no picture.')
    (tmp_path / 'empty.png').touch()
    for name, message in (
        ('a.heic', r'metastyle_jax\[heif\]'),
        ('big.png', 'more than 200,000,000 pixels'),
        ('text.jpg', 'text.jpg'),
        ('empty.png', 'empty.png'),
        ('missing.jpg', 'missing.jpg'),
        ('.', 'folder|directory'),
    ):
        with pytest.raises(UserError, match=message):
            metastyle_jax.instant_style(tmp_path / name, theta)
    for wrong in (b'no picture', np.zeros((4, 4)), np.full((16, 16, 3), np.nan)):
        with pytest.raises(UserError, match='style'):
            metastyle_jax.instant_style(wrong, theta)
    assert cache.entries() == []
