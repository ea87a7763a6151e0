"""The page of launch/web.sh in a real browser: what it needs, a server, and steps of a person."""

import contextlib
import importlib.util
import io
import json
import os
import pathlib
import re
import shutil
import sys
import threading

import helpers
import jax
import numpy as np
import pytest
from PIL import Image

from metastyle_jax.models import transformer
from metastyle_jax.storage import style_files, tensor_files
from metastyle_jax.stylization import styled_network
from metastyle_jax.stylization.export import onnx_writing

BROWSERS = ('chromium-headless-shell', 'chromium', 'chromium-browser', 'google-chrome')
RUNTIME = pathlib.Path(sys.prefix, 'onnxruntime-web')
AXE = pathlib.Path(sys.prefix, 'axe-core', 'axe.min.js')
RUNTIME_FILES = ('ort.wasm.bundle.min.mjs', 'ort.webgpu.bundle.min.mjs')
TELL_VIOLATIONS = """addEventListener('securitypolicyviolation',
  (event) => console.error('content security policy', event.blockedURI));"""
PHONE = {'viewport': {'width': 390, 'height': 844}, 'has_touch': True, 'is_mobile': True}
# Names of visible controls that are smaller than 44 pixels. The file inputs and the slider of the
# picture are reached through larger elements around them.
SMALL = """() => [...document.querySelectorAll('button, .button, select, label, summary, #compare')]
  .map((e) => [e.id || e.textContent.trim(), e.getBoundingClientRect(), e])
  .filter(([name, { width, height }, e]) => width && (width < 44 || height < 44)
    && !(e.htmlFor && document.getElementById(e.htmlFor).getBoundingClientRect().height >= 44))
  .map(([name]) => name)"""
WAIT = 60_000  # longest wait for a step, in milliseconds


def _load_server():
    """The module launch/web_server.py, which is not in a package."""
    spec = importlib.util.spec_from_file_location(
        'web_server', helpers.ROOT / 'launch' / 'web_server.py'
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


web_server = _load_server()


def require_browser():
    """Returns the program; without it, or without a package, the test is skipped, or fails."""
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    missing = [
        what
        for what, there in (
            ('a Chromium', program),
            (f'onnxruntime-web in {RUNTIME}', all((RUNTIME / n).exists() for n in RUNTIME_FILES)),
            (f'axe-core in {AXE.parent}', AXE.exists()),
            ('onnx', importlib.util.find_spec('onnx')),
            ('playwright', importlib.util.find_spec('playwright')),
        )
        if not there
    ]
    if missing:
        why = f'no {" and no ".join(missing)}: bash launch/browser.sh gets them, or says why not'
        required = os.environ.get('METASTYLE_BROWSER') == 'required'
        (pytest.fail if required else pytest.skip)(why)
    return program


def launch(playwright, *flags):
    """Starts a browser, which ends with Playwright."""
    flags = ['--no-sandbox', '--disable-dev-shm-usage', *flags]
    return playwright.chromium.launch(executable_path=require_browser(), args=flags)


@contextlib.contextmanager
def serve(folder, *, isolated=True):
    """Serves a folder as launch/web.sh does, or without isolation from other sites."""
    server = web_server.make_server(folder, 0)
    if not isolated:
        for name in ('Cross-Origin-Opener-Policy', 'Cross-Origin-Embedder-Policy'):
            del server.RequestHandlerClass.keywords['extra'][name]
    thread = threading.Thread(target=server.serve_forever, kwargs={'poll_interval': 0.05})
    thread.start()
    try:
        yield f'http://127.0.0.1:{server.server_port}/'
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def make_site(folder):
    """Makes a folder with the page and onnxruntime-web."""
    require_browser()
    shutil.copytree(helpers.ROOT / 'launch' / 'web', folder)
    (folder / 'onnxruntime-web').symlink_to(RUNTIME)
    return folder


def to_onnx(style, **options):
    return onnx_writing.to_onnx(styled_network.load(style), {}, **options)


def picture(height=24, width=40, kind='PNG'):
    """A file with random pixels."""
    rng = np.random.default_rng(0)
    out = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)).save(out, kind)
    return out.getvalue()


def as_file(name, content, mime='application/octet-stream'):
    """A file for `set_input_files`."""
    return {'name': name, 'mimeType': mime, 'buffer': content}


# Fixtures. A module of tests that needs them assigns each of them to its own name.


@pytest.fixture(scope='module')
def playwright():
    """Playwright, started. Only one may run at a time."""
    require_browser()
    from playwright import sync_api

    sync_api.expect.set_options(timeout=WAIT)
    with sync_api.sync_playwright() as started:
        yield started


@pytest.fixture(scope='module')
def browser(playwright):
    return launch(playwright)


@pytest.fixture(scope='module')
def style():
    """A style with a network of 2,000 random parameters."""
    params = transformer.init(jax.random.key(0), width=4, blocks=1)
    flat = tensor_files.flatten(params)
    return style_files.Style(flat, 'all', 'a.jpg', 'ab' * 32, 'cd' * 32, {}, {})


@pytest.fixture(scope='module')
def model(style):
    """The style as the contents of an ONNX file."""
    require_browser()
    return to_onnx(style)


@pytest.fixture(scope='module')
def folder(tmp_path_factory, model):
    """A folder with the page, and with a sample photograph and style."""
    made = make_site(tmp_path_factory.mktemp('site') / 'web')
    (made / 'samples' / 'photo.png').write_bytes(picture())
    (made / 'samples' / 'style.onnx').write_bytes(model)
    listed = {
        'photographs': [{'file': 'photo.png', 'credit': 'A. Person'}],
        'styles': ['style.onnx'],
    }
    (made / 'samples' / 'index.json').write_text(json.dumps(listed))
    return made


@pytest.fixture(scope='module')
def address(folder):
    """The address of the page, while a server runs."""
    with serve(folder) as served:
        yield served


class Page:
    """A tab with the page, and what goes wrong in it.

    Attributes:
        tab: Playwright's page.
        errors: uncaught errors, messages of the console, violations of the security policy.
        requests: addresses that were asked for.
    """

    def __init__(self, browser, address, path='', script='', **options):
        from playwright import sync_api

        self.expect = sync_api.expect
        self.errors, self.requests = [], []
        self.context = browser.new_context(**options)
        self.context.set_default_timeout(WAIT)
        # Requests of workers and of the service worker are seen here too.
        self.context.on('request', lambda request: self.requests.append(request.url))
        self.tab = self.context.new_page()
        self.tab.add_init_script(TELL_VIOLATIONS + script)
        self.tab.on('pageerror', lambda error: self.errors.append(f'{error}'))
        self.tab.on('console', self._listen)
        self.tab.goto(address + path)
        self.expect(self.tab.locator('#status')).not_to_have_text(re.compile('Loading'))

    def _listen(self, message):
        if message.type == 'error':
            self.errors.append(message.text)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.context.close()

    def button(self, name):
        return self.tab.get_by_role('button', name=name, exact=True)

    def choose_photo(self, file):
        """Chooses a photograph, and waits until it has replaced the one before."""
        name = self.tab.locator('#photo-name')
        name.evaluate("(element) => { element.textContent = ''; }")
        self.tab.set_input_files('#photo', file)
        self.expect(name).not_to_be_empty()

    def add_style(self, name, content):
        self.tab.set_input_files('#model', as_file(f'{name}.onnx', content))
        self.expect(self.tab.get_by_role('radio', name=name)).to_be_checked()

    def paint(self, size='original'):
        """Paints and waits for the result."""
        self.tab.select_option('#side', size)
        self.button('Paint').click()
        self.wait_for_painting()

    def wait_for_painting(self):
        self.expect(self.tab.locator('#status')).to_have_text(re.compile('pixels in'))

    def says(self, text):
        self.expect(self.tab.locator('#status')).to_have_text(re.compile(text))

    def refuses(self, title, advice=''):
        """Waits until an error is shown, and checks its text."""
        self.expect(self.tab.locator('#error strong')).to_have_text(re.compile(title))
        self.expect(self.tab.locator('#error')).to_contain_text(advice)

    def canvas(self, name='after'):
        """Pixels of a canvas, [H, W, 4] uint8."""
        width, height, pixels = self.tab.evaluate(
            """(name) => {
              const canvas = document.getElementById(name);
              const { width, height } = canvas;
              const { data } = canvas.getContext('2d').getImageData(0, 0, width, height);
              return [width, height, Array.from(data)];
            }""",
            name,
        )
        return np.array(pixels, np.uint8).reshape(height, width, 4)

    def small_controls(self):
        """Names of visible controls that fingers miss."""
        return self.tab.evaluate(SMALL)

    def check_accessibility(self):
        """Fails if axe-core finds a violation of WCAG 2.2."""
        self.tab.evaluate(AXE.read_text())
        # A button that fades from one colour to another has little contrast in between.
        self.tab.evaluate("""() => Promise.all(document.getAnimations()
          .filter((one) => one.effect.getComputedTiming().iterations !== Infinity)
          .map((one) => one.finished.catch(() => {})))""")
        found = self.tab.evaluate(
            """() => axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa',
              'wcag22aa', 'best-practice'] })"""
        )['violations']
        broken = [(one['id'], [node['html'] for node in one['nodes']]) for one in found]
        assert not broken, broken
