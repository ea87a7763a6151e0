"""The page of launch/web.sh with the programs for any painting, in a real browser."""

import contextlib
import json

import browser_helpers
import instant_helpers
import library_helpers
import numpy as np
import pytest
import stylization_helpers
from PIL import Image

import metastyle_jax
from metastyle_jax.adaptation import adapt, adaptation_start, adaptation_step, style_image
from metastyle_jax.adaptation.config import AdaptConfig
from metastyle_jax.data.images import resizing
from metastyle_jax.models import vgg
from metastyle_jax.storage import style_files, style_library, theta_files
from metastyle_jax.stylization.export.web import export_web

browser, playwright = browser_helpers.browser, browser_helpers.playwright
as_file = browser_helpers.as_file
CONFIG = AdaptConfig(params='norm')


@contextlib.contextmanager
def small_vgg():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vgg, 'load', lambda file=None: instant_helpers.VGG)
        yield


@pytest.fixture(scope='module')
def theta():
    return instant_helpers.make_refining_theta()


@pytest.fixture(scope='module')
def folder(tmp_path_factory, theta):
    """The page, with the programs of a small θ, and with samples."""
    made = browser_helpers.make_site(tmp_path_factory.mktemp('site') / 'web')
    with small_vgg():
        export_web.export_web(made / 'programs', theta, overwrite=True)
    (made / 'samples' / 'photo.png').write_bytes(browser_helpers.picture())
    instant_helpers.write_painting(made / 'samples' / 'field.png', seed=5)
    listed = {
        'photographs': [{'file': 'photo.png', 'credit': 'A. Person'}],
        'paintings': [{'file': 'field.png', 'credit': 'B. Painter'}],
    }
    (made / 'samples' / 'index.json').write_text(json.dumps(listed))
    return made


address = browser_helpers.address


@pytest.fixture(scope='module')
def paintings(tmp_path_factory):
    at = tmp_path_factory.mktemp('paintings')
    return [
        instant_helpers.write_painting(at / f'{name}.png', seed) for seed, name in enumerate('ab')
    ]


@pytest.fixture(scope='module')
def predicted(paintings, theta):
    """The styles of the paintings, as Python predicts them."""
    with small_vgg():
        return [adapt.predict(path, theta, config=CONFIG) for path in paintings]


@pytest.fixture
def photo(tmp_path):
    (tmp_path / 'photo.png').write_bytes(browser_helpers.picture())
    return tmp_path / 'photo.png'


def add(page, where, *files):
    """Chooses files under an input and waits until the last one is in the list."""
    before = page.tab.locator('#styles li').count()
    page.tab.set_input_files(where, list(files))
    page.expect(page.tab.locator('#styles li')).to_have_count(before + len(files))


def settle(page):
    """Waits until nothing is computed any more."""
    page.tab.wait_for_function(
        """() => document.getElementById('busy').hidden
          && /pixels in/.test(document.getElementById('status').textContent)"""
    )


def move(page, slider, percent):
    page.tab.locator(slider).evaluate(
        """(input, percent) => {
          input.value = percent;
          for (const type of ['input', 'change']) input.dispatchEvent(new Event(type));
        }""",
        percent,
    )
    settle(page)


def check_pixels(page, photo, theta, style, **options):
    settle(page)
    wanted = np.rint(255 * metastyle_jax.stylize(style, photo, theta=theta, **options))
    assert np.max(np.abs(page.canvas()[..., :3].astype(float) - wanted)) <= 2


def test_any_painting_is_painted_with_mixed_and_saved_as_in_python(
    browser, address, theta, paintings, predicted, photo, tmp_path
):
    with browser_helpers.Page(browser, address) as page:
        page.says('Choose a photograph and a painting')
        add(page, '#painting', paintings[0])
        page.says('Now choose a photograph')
        page.tab.select_option('#side', 'original')
        page.choose_photo(photo)
        check_pixels(page, photo, theta, predicted[0])  # nobody has pressed “Paint”
        move(page, '#strength', 40)
        check_pixels(page, photo, theta, predicted[0], strength=0.4)
        assert page.tab.inner_text('#strength-value') == '40 %'
        move(page, '#strength', 100)
        assert page.tab.locator('#blend').is_hidden()
        add(page, '#painting', paintings[1])
        check_pixels(page, photo, theta, predicted[1])
        page.tab.select_option('#partner', label='a')
        settle(page)
        move(page, '#share', 25)
        check_pixels(page, photo, theta, predicted[::-1], weights=[0.75, 0.25])

        with page.tab.expect_download() as started:
            page.button('Save the style').click()
        assert started.value.suggested_filename == 'b and a.safetensors'
        started.value.save_as(tmp_path / 'blend.safetensors')
        check_pixels(page, photo, theta, metastyle_jax.load_style(tmp_path / 'blend.safetensors'))

        page.tab.get_by_role('radio', name='a', exact=True).check()
        check_pixels(page, photo, theta, predicted[0])
        with page.tab.expect_download() as started:
            page.button('Save the style').click()
        started.value.save_as(tmp_path / 'a.safetensors')
        saved = metastyle_jax.load_style(tmp_path / 'a.safetensors')
        assert saved.style_sha256 == predicted[0].style_sha256
        assert (saved.style_name, saved.theta_sha256) == ('a.png', theta.fingerprint)
        for name, norm in predicted[0].params.items():
            np.testing.assert_allclose(saved.params[name], norm, atol=5e-3)  # VGG in float16

        page.button('Remove b').click()
        assert page.tab.locator('#partner option').count() == 1
        assert not page.errors
        assert all(url.startswith((address, f'blob:{address}')) for url in page.requests)


def test_a_style_is_refined_by_the_learned_steps(
    browser, address, theta, paintings, predicted, photo, tmp_path
):
    # The page steps on random squares of the photograph. Here all of them are the whole picture.
    Image.open(photo).crop((0, 0, 24, 24)).resize((32, 32)).save(photo)
    script = 'Math.random = () => 1;'
    with browser_helpers.Page(browser, address, script=script) as page:
        page.tab.select_option('#side', 'original')
        add(page, '#painting', paintings[0])
        assert page.button('Refine the style').is_hidden()  # it needs a photograph
        page.choose_photo(photo)
        settle(page)
        page.button('Refine the style').click()
        page.expect(page.tab.locator('#refine')).to_be_hidden()
        with page.tab.expect_download() as started:
            page.button('Save the style').click()
        started.value.save_as(tmp_path / 'refined.safetensors')
        refined = metastyle_jax.load_style(tmp_path / 'refined.safetensors')
        check_pixels(page, photo, theta, refined)
        assert not page.errors
    with small_vgg():
        grams = style_image.grams(instant_helpers.VGG, style_image.read(paintings[0], 256)[0])
    config = AdaptConfig(params='norm', steps=2, size=32)
    state, fixed, plan = adaptation_step.start(
        adaptation_start.start_params(theta, grams, 'predicted'), 'norm',
        adaptation_start.learned_rates(config, theta),
    )  # fmt: skip
    contents = np.asarray(Image.open(photo))[None]
    scalars = adaptation_start.step_scalars(config, theta)
    for step in range(2):
        state, loss = adaptation_step.adapt_step(
            state, fixed, instant_helpers.VGG, contents, grams, scalars, plan=plan
        )
        np.testing.assert_allclose(refined.losses['total'][step], loss.total, rtol=0.02)
    for name, norm in state.fast.items():
        np.testing.assert_allclose(refined.params[name], norm, atol=0.03)  # VGG in float16
    moved = [np.max(np.abs(state.fast[name] - norm)) for name, norm in predicted[0].params.items()]
    assert max(moved) > 0.1


def test_style_files_and_libraries_of_python_are_opened(
    browser, address, theta, predicted, photo, tmp_path
):
    style_files.save_style(tmp_path / 'mine.safetensors', predicted[1])
    entry = style_library.LibraryEntry('0' * 64, {'total': [2.0, 1.0]})
    rows = {
        name: np.stack([style.params[name] for style in predicted]) for name in predicted[0].params
    }
    library = style_library.Library(
        {name: array.astype(np.float16) for name, array in rows.items()},
        {'deep/a.jpg': entry, 'b.jpg': entry}, theta.fingerprint, {},
    )  # fmt: skip
    style_library.save(tmp_path / 'library.safetensors', library)
    with browser_helpers.Page(browser, address) as page:
        page.tab.select_option('#side', 'original')
        page.choose_photo(photo)
        add(page, '#model', tmp_path / 'mine.safetensors')
        check_pixels(page, photo, theta, predicted[1])
        page.tab.set_input_files('#model', tmp_path / 'library.safetensors')
        page.expect(page.tab.locator('#styles li')).to_have_count(3)
        page.expect(page.tab.get_by_role('radio', name='a', exact=True)).to_be_checked()
        picked = style_library.pick(style_library.load(tmp_path / 'library.safetensors'), 'a')
        check_pixels(page, photo, theta, picked)
        page.expect(page.tab.locator('#styles img:not([hidden])')).to_have_count(3)
        with page.tab.expect_download() as started:
            page.button('Save the style').click()
        started.value.save_as(tmp_path / 'again.safetensors')
        again = metastyle_jax.load_style(tmp_path / 'again.safetensors')
        assert again.losses == picked.losses
        for name, norm in picked.params.items():
            np.testing.assert_array_equal(again.params[name], norm)
        assert not page.errors


def wrong_style_files(tmp_path, theta, style):
    """Content of files that are no styles of θ, and what the page says about them."""
    whole = stylization_helpers.make_style(1)
    files = {
        'whole': (style_files.save_style, whole, 'holds a whole network'),
        'other': (style_files.save_style, style._replace(theta_sha256='1' * 64), 'another θ'),
        'lacking': (
            style_files.save_style, style._replace(params=dict(list(style.params.items())[1:])),
            'is damaged',
        ),
        'theirs': (
            style_library.save,
            library_helpers.make_library(['a.jpg'])._replace(theta_sha256='1' * 64), 'another θ',
        ),
    }  # fmt: skip
    for name, (save, what, said) in files.items():
        save(tmp_path / f'{name}.safetensors', what)
        yield (tmp_path / f'{name}.safetensors').read_bytes(), said
    theta_files.save_theta(tmp_path / 'theta.safetensors', theta.params, settings={})
    yield (tmp_path / 'theta.safetensors').read_bytes(), 'is not a style'
    style_files.save_style(tmp_path / 'good.safetensors', style)
    good = (tmp_path / 'good.safetensors').read_bytes()
    yield good[:-8], 'is damaged'
    yield good[:100], 'is damaged'
    yield good[:-1] + bytes([good[-1] ^ 1]), 'is damaged'
    yield good.replace(b'metastyle_jax.style', b'metastyle_jax.stile'), 'is not a style'
    yield good.replace(b'"version":"1"', b'"version":"2"'), 'has another version'
    yield b'\xff' * 8 + b'{}', 'is damaged'
    yield b'\x02' + bytes(7) + b'{}', 'is not a style'
    yield b'\x10' + bytes(7) + b'{"a": 1}        ', 'is damaged'


def test_files_that_are_no_styles_of_this_theta_are_refused(
    browser, address, theta, predicted, tmp_path
):
    with browser_helpers.Page(browser, address) as page:
        for content, said in wrong_style_files(tmp_path, theta, predicted[0]):
            page.tab.set_input_files('#model', as_file('a.safetensors', content))
            page.refuses(
                f'a.safetensors .*{said}' if not said.startswith('is') else said, 'metastyle'
            )
            page.button('Close').click()
        page.tab.set_input_files('#painting', as_file('a.jpg', browser_helpers.picture()[:200]))
        page.refuses('a.jpg cannot be opened', 'damaged')
        page.expect(page.tab.get_by_role('radio')).to_have_count(0)
        assert not page.errors


def test_a_person_drops_cancels_and_goes_on(browser, address, paintings, photo):
    drop = """({ bytes, right }) => {
      const dataTransfer = new DataTransfer();
      dataTransfer.items.add(new File([new Uint8Array(bytes)], right ? 'right.png' : 'left.png'));
      const clientX = right ? innerWidth - 5 : 5;
      document.body.dispatchEvent(
        new DragEvent('drop', { bubbles: true, cancelable: true, dataTransfer, clientX }));
    }"""
    content = list(browser_helpers.picture())
    with browser_helpers.Page(browser, address) as page:
        page.tab.evaluate(drop, {'bytes': content, 'right': True})
        page.expect(page.tab.get_by_role('radio', name='right')).to_be_checked()
        page.tab.evaluate(drop, {'bytes': content, 'right': False})
        settle(page)
        assert page.tab.inner_text('#photo-name').startswith('left.png')
        page.tab.set_input_files('#painting', list(paintings))
        page.tab.keyboard.press('Escape')
        # How many of the paintings were read before depends on the speed of the machine.
        page.expect(page.tab.locator('#busy')).to_be_hidden()
        page.tab.set_input_files('#painting', str(paintings[1]))
        # There may be two of it: the cancelled choice may have gone on, too.
        chosen = page.tab.get_by_role('radio', name='b', exact=True, checked=True)
        page.expect(chosen).to_have_count(1)
        settle(page)
        assert not page.errors


def test_phones_keyboards_and_screen_readers_reach_the_mixing(browser, address, paintings):
    with browser_helpers.Page(browser, address, **browser_helpers.PHONE) as page:
        page.button('Try an example').tap()
        settle(page)
        assert 'B. Painter' in page.tab.inner_text('#styles')
        assert page.tab.get_by_text('Take a picture of one').is_visible()
        add(page, '#painting', paintings[0])
        page.tab.select_option('#partner', label='field')
        settle(page)
        assert page.tab.evaluate('document.documentElement.scrollWidth') <= 390
        assert page.small_controls() == []
        page.check_accessibility()
        page.tab.get_by_label('Strength').focus()
        page.tab.keyboard.press('ArrowLeft')
        assert page.tab.get_by_label('Strength').input_value() == '95'
        settle(page)


def test_paintings_need_no_network_after_the_first_visit_and_the_page_can_be_installed(
    browser, folder, paintings, photo
):
    with browser_helpers.serve(folder) as served:
        page = browser_helpers.Page(browser, served)
        app = json.loads((folder / 'app.webmanifest').read_text())
        link = page.tab.get_attribute('link[rel=manifest]', 'href')
        assert link == 'app.webmanifest'
        for icon in app['icons'][1:]:
            with Image.open(folder / icon['src']) as image:
                assert f'{image.width}x{image.height}' == icon['sizes']
        assert {icon['sizes'] for icon in app['icons']} >= {'192x192', '512x512'}
        kind = page.tab.evaluate(
            "fetch('app.webmanifest').then((a) => a.headers.get('content-type'))"
        )
        assert kind == 'application/manifest+json'
        page.tab.evaluate('navigator.serviceWorker.ready.then(() => true)')
    with page:  # the server has ended
        page.tab.reload()
        page.choose_photo(photo)
        add(page, '#painting', paintings[0])
        settle(page)


def test_pictures_are_resized_as_in_python(browser, address):
    pixels = np.random.default_rng(0).random((24, 40, 3), np.float32)
    sizes = [(17, 23), (40, 9), (12, 60), (24, 40)]
    with browser_helpers.Page(browser, address) as page:
        made = page.tab.evaluate(
            """async ({ pixels, sizes }) => {
              const { resize } = await import('./resize.js');
              const rows = Float32Array.from(pixels);
              return sizes.map((size) => Array.from(resize(rows, [24, 40], size)));
            }""",
            {'pixels': pixels.ravel().tolist(), 'sizes': sizes},
        )
    for found, size in zip(made, sizes, strict=True):
        wanted = resizing.resize(pixels, *size)
        np.testing.assert_allclose(np.reshape(found, wanted.shape), wanted, atol=1e-5)
