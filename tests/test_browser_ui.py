"""The page of `metastyle ui` in a real browser: the whole way of a person."""

import io
import os
import re
import zipfile

import browser_helpers
import instant_helpers
import numpy as np
import pytest
import ui_helpers
from PIL import Image
from stylization_helpers import make_style

pytest.importorskip('gradio')

from metastyle_jax.models import vgg  # noqa: E402
from metastyle_jax.storage import style_files  # noqa: E402
from metastyle_jax.ui.config import UiConfig  # noqa: E402

pytestmark = pytest.mark.filterwarnings('default')  # Gradio and its server warn of their own code
picture, as_file = browser_helpers.picture, browser_helpers.as_file
browser, playwright = browser_helpers.browser, browser_helpers.playwright
LONG = pytest.mark.skipif(os.environ.get('FAULTS') != 'full', reason='FAULTS=full runs them')
WIDE, PHONE = {'width': 1280, 'height': 900}, {'width': 390, 'height': 844}


@pytest.fixture(scope='module')
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp('ui')
    theta = instant_helpers.write_theta(folder / 'theta.safetensors')
    config = UiConfig(
        theta=theta, port=0, open=False, keep_folder=folder / 'kept', max_pixels=1, max_files=2
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vgg, 'load', lambda path: instant_helpers.VGG)
        with ui_helpers.serving(config) as served:
            yield served


class UiPage:
    """A tab with the page, and what goes wrong in it."""

    def __init__(self, browser, address, viewport=WIDE):
        from playwright import sync_api

        self.expect, self.errors, self.outside = sync_api.expect, [], []
        self.context = browser.new_context(viewport=viewport)
        self.context.set_default_timeout(browser_helpers.WAIT)
        self.context.on('request', self._note)
        self.tab = self.context.new_page()
        self.tab.on('pageerror', lambda error: self.errors.append(f'{error}'))
        self.tab.goto(address)
        self.says('Now add a painting and a photograph')

    def _note(self, request):
        if not request.url.startswith(('http://127.0.0.1', 'data:', 'blob:')):
            self.outside.append(request.url)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.context.close()

    def says(self, text, where='status'):
        self.expect(self.tab.locator(f'#{where}')).to_contain_text(re.compile(text))

    def choose(self, role, name='a.png', content=None):
        """Chooses a file for the painting or the photograph, in place of an earlier one."""
        clear = self.tab.locator(f'#{role} button[aria-label="Clear"]')
        if clear.count():
            clear.click()
            self.says('Now add')
        self.tab.set_input_files(
            f'#{role} input[type=file]', as_file(name, content or picture(), 'image/png')
        )

    def both(self):
        self.choose('painting', 'gogh.png')
        self.says('Now add a photograph')
        self.choose('photo', 'cat.png')
        self.says('Ready')

    def set(self, name, value):
        self.tab.locator(f'#{name} input[type=number]').fill(str(value))
        self.tab.locator(f'#{name} input[type=number]').press('Tab')

    def paint(self, steps=1, whole=False):
        options = self.tab.get_by_role('button', name='Options')
        if not self.tab.locator('#steps').is_visible():
            options.click()
        self.set('steps', steps)
        self.set('style_size', 64)
        self.tab.get_by_label('Adapt the whole network').set_checked(whole)
        self.tab.locator('#paint').click()

    def download(self, selector):
        with self.tab.expect_download() as started:
            self.tab.locator(selector).click()
        with open(started.value.path(), 'rb') as opened:
            return started.value.suggested_filename, opened.read()


@pytest.mark.parametrize('viewport', [WIDE, pytest.param(PHONE, marks=LONG)], ids=['wide', 'phone'])
def test_a_person_paints_compares_and_saves(browser, address, viewport):
    with UiPage(browser, address, viewport) as page:
        page.both()
        page.paint(steps=2)
        page.says('Done: 40 × 24 pixels, style: gogh')
        assert page.tab.locator('#result img').count() == 2
        name, content = page.download('#picture')
        assert name == 'cat-gogh.png'
        page.expect(page.tab.locator('.toast-body.error')).to_have_count(0)
        with Image.open(io.BytesIO(content)) as image:
            assert image.size == (40, 24)
        name, content = page.download('#style_file')
        assert name == 'gogh.safetensors'
        assert len(content) > 1000
        width = page.tab.evaluate('document.documentElement.scrollWidth')
        assert width <= viewport['width']
        assert not page.errors
        assert not page.outside


def moving():
    """An animated picture of two frames."""
    frames = [Image.fromarray(np.full((24, 40, 3), level, np.uint8)) for level in (0, 255)]
    frames[0].putpixel((3, 3), (255, 0, 0))
    out = io.BytesIO()
    frames[0].save(out, 'GIF', save_all=True, append_images=frames[1:])
    return out.getvalue()


def test_wrong_files_are_told_and_nothing_is_lost(browser, address):
    with UiPage(browser, address) as page:
        page.tab.locator('#paint').click()
        page.says('There is no photograph yet')
        page.choose('photo', 'cat.png')
        page.says('Now add a painting')
        large = io.BytesIO()
        Image.new('1', (20_000, 10_000)).save(large, 'PNG')
        for name, content, text in (
            ('text.jpg', b'This is a text.', 'Text.jpg: is a text'),
            ('cut.png', picture()[:200], 'cut'),
            ('large.png', large.getvalue(), '20000 × 10000 pixels, and at most 1 million'),
            ('phone.heic', b'\0\0\0\x18ftypheic\0\0\0\0mif1heic' + bytes(100), 'Phone.heic'),
        ):
            page.choose('photo', name, content)
            page.says(text)
            page.expect(page.tab.locator('.toast-body').first).to_be_visible()
        page.choose('photo', 'moving.gif', moving())
        page.says('only the first of its 2 frames')
        page.choose('painting', 'gogh.png')
        page.says('Ready')
        page.paint(steps=0)
        page.says('Done: 40 × 24 pixels')
        style = io.BytesIO(b'text')
        page.tab.set_input_files(
            'input[type=file][accept=".safetensors"]', as_file('a.safetensors', style.getvalue())
        )
        page.says('safetensors')
        assert not page.errors


def style_of(theta_sha256, tmp_path):
    path = tmp_path / f'{theta_sha256}.safetensors'
    style_files.save_style(path, make_style(1)._replace(theta_sha256=theta_sha256))
    return path.read_bytes()


@LONG
def test_styles_are_used_again_blended_masked_and_removed(browser, address, tmp_path):
    with UiPage(browser, address) as page:
        page.both()
        page.paint(steps=0)
        page.says('style: gogh')
        adding = 'input[type=file][accept=".safetensors"]'
        mine = style_of(make_style(1).theta_sha256, tmp_path)
        page.tab.set_input_files(adding, as_file('mine.safetensors', mine))
        page.says('Added to the list: style 1')
        other = style_of('ab' * 32, tmp_path)
        page.tab.set_input_files(adding, as_file('other.safetensors', other))
        page.says('another initialization')
        page.tab.locator('#styles button', has_text='style 1').click()
        page.says('Done: .*, style: style 1')
        page.tab.get_by_role('tab', name='Blend').click()
        chooser = page.tab.locator('#blend input')
        for name in ('gogh', 'style 1'):
            chooser.click()
            page.tab.get_by_role('option', name=name, exact=True).click()
        chooser.press('Escape')
        page.expect(page.tab.get_by_label('Weight of style 1').first).to_be_visible()
        page.tab.get_by_role('button', name='Paint the blend').click()
        page.says('50 % gogh . 50 % style 1')
        page.tab.get_by_role('tab', name='Mask').click()
        page.tab.get_by_role('button', name='Paint with the mask').click()
        page.says('Nothing is drawn')
        canvas = page.tab.locator('#editor canvas').first
        page.expect(canvas).to_be_visible()
        box = canvas.bounding_box()
        page.tab.mouse.move(box['x'] + box['width'] / 2, box['y'] + box['height'] / 2)
        page.tab.mouse.down()
        page.tab.mouse.move(box['x'] + box['width'] / 2 + 9, box['y'] + box['height'] / 2 + 9)
        page.tab.mouse.up()
        page.tab.get_by_role('button', name='Paint with the mask').click()
        page.says('Done: .*50 % gogh')
        page.tab.get_by_role('tab', name='My styles').click()
        page.tab.locator('#styles button', has_text='gogh').click()
        page.says('style: gogh')
        page.tab.locator('#onnx').click()
        page.says('gogh.onnx is ready to download')
        name, content = page.download('#onnx_file')
        assert name == 'gogh.onnx'
        assert len(content) > 1000
        page.tab.get_by_role('button', name='Remove the chosen style').click()
        page.says('gogh is no longer in the list')
        page.expect(page.tab.locator('#styles button', has_text='gogh')).to_have_count(0)
        assert not page.errors


@LONG
def test_many_files_become_an_archive(browser, address):
    with UiPage(browser, address) as page:
        page.both()
        page.paint(steps=0)
        page.says('Done')
        page.tab.get_by_role('tab', name='Many files').click()
        files = page.tab.locator('input[type=file][multiple]')
        files.set_input_files([as_file(f'{i}.png', picture(), 'image/png') for i in range(2)])
        page.tab.get_by_role('button', name='Paint all pictures').click()
        page.says('Done: 2 pictures', 'job-status')
        name, content = page.download('#job-file a')
        assert name == 'stylized.zip'
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            assert sorted(archive.namelist()) == ['0.png', '1.png']
        page.tab.get_by_role('button', name='Paint the film').click()
        page.says('No film is chosen', 'job-status')


@LONG
def test_two_people_paint_at_once_and_see_only_their_own(browser, address):
    with UiPage(browser, address) as one, UiPage(browser, address) as two:
        for page in (one, two):
            page.both()
        one.paint(steps=3)
        two.paint(steps=1, whole=True)
        for page in (one, two):
            page.says('Done: 40 × 24 pixels')
            page.expect(page.tab.locator('#styles button img')).to_have_count(1)
            assert not page.errors


@LONG
def test_the_keyboard_alone_is_enough(browser, address, tmp_path):
    for name in ('painting', 'photo'):
        (tmp_path / f'{name}.png').write_bytes(picture())
    with UiPage(browser, address) as page:
        keyboard = page.tab.keyboard

        def choose(dialog):
            role = dialog.element.evaluate("(e) => e.closest('#painting') ? 'painting' : 'photo'")
            dialog.set_files(tmp_path / f'{role}.png')

        page.tab.on('filechooser', choose)

        def tab_to(what):
            for _ in range(60):
                keyboard.press('Tab')
                if page.tab.evaluate(f'document.activeElement.matches({what!r})'):
                    return
            raise AssertionError(f'{what} was not reached')

        for role, says in (('painting', 'Now add a photograph'), ('photo', 'Ready')):
            tab_to(f'#{role} button')
            keyboard.press('Enter')
            page.says(says)
        tab_to('#paint')
        keyboard.press('Enter')
        page.says('Step')
        tab_to('#stop')
        keyboard.press('Enter')
        page.says('Done: 40 × 24 pixels')
        tab_to('#picture')
        with page.tab.expect_download() as started:
            keyboard.press('Enter')
        assert started.value.suggested_filename == 'photo-painting.png'
        assert not page.errors


@LONG
def test_a_kept_style_is_offered_to_later_visitors(browser, address):
    """The last test of this file, because every later page would have the style."""
    with UiPage(browser, address) as page:
        page.both()
        page.paint(steps=0)
        page.says('style: gogh')
        page.tab.get_by_label('Keep the styles').check()
        page.says('The style is kept in')
        page.expect(page.tab.locator('.toast-body.error')).to_have_count(0)
    with UiPage(browser, address) as page:
        page.expect(page.tab.locator('#styles button img')).to_have_count(1)
