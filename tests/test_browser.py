"""An exported style in a real browser, by the page and the module that launch/web.sh serves."""

import contextlib
import http.server
import importlib.util
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading

import helpers
import jax
import numpy as np
import pytest
from PIL import Image

import metastyle_jax
from metastyle_jax.models import transformer
from metastyle_jax.storage import style_files, tensor_files
from metastyle_jax.stylization import styled_network
from metastyle_jax.stylization.export import onnx_writing

SIZES = [(16, 16), (37, 23), (24, 40)]  # height, width
BROWSERS = ('chromium-headless-shell', 'chromium', 'chromium-browser', 'google-chrome')
RUNTIME = pathlib.Path(sys.prefix, 'onnxruntime-web')
PAGE = """<!doctype html><body><script type="module">
const tell = (name, body) => fetch(`./${name}`, { method: 'POST', body });
try {
  const { load, stylize } = await import('./stylize.js');
  const session = await load('./model.onnx');
  for (const [height, width] of SIZES) {
    const noise = await (await fetch(`./noise-${height}x${width}`)).arrayBuffer();
    const made = await stylize(session, new Float32Array(noise), height, width);
    await tell(`made-${height}x${width}`, made);
  }
  await stylize(session, new Float32Array(3 * 15 * 20), 15, 20).catch(
    (error) => tell('refusal', error.message));
  const frame = document.createElement('iframe');
  frame.src = './index.html?model=model.onnx&photo=photo.png';
  document.body.append(frame);
  const get = (id) => frame.contentDocument?.getElementById(id);
  while (!/pixels in/.test(get('told')?.textContent)) {
    await new Promise((then) => setTimeout(then, 20));
  }
  const canvas = get('canvas');
  const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  await tell('canvas', data);
} catch (error) {
  await tell('error', `${error.stack ?? error}`);
}
await tell('done', '');
</script>"""


@pytest.fixture
def browser():
    """The program; without one, or without onnxruntime-web, the test is skipped, or fails."""
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    missing = [
        what
        for what, there in (
            ('a Chromium', program),
            (f'onnxruntime-web in {RUNTIME}', (RUNTIME / 'version').exists()),
            ('onnx', importlib.util.find_spec('onnx')),
        )
        if not there
    ]
    if missing:
        why = f'no {" and no ".join(missing)}: bash launch/browser.sh gets them, or says why not'
        required = os.environ.get('METASTYLE_BROWSER') == 'required'
        (pytest.fail if required else pytest.skip)(why)
    return program


class Site:
    """A server of files and bytes on this machine alone, which keeps what is posted to it."""

    def __init__(self, files):
        self.told = {}
        self.done = threading.Event()
        site = self

        class Handler(http.server.SimpleHTTPRequestHandler):
            def do_GET(self):  # noqa: N802
                name = self.path.partition('?')[0].lstrip('/')
                if name not in files:
                    self.send_error(404)
                    return
                found = files[name]
                body = found if isinstance(found, bytes) else found.read_bytes()
                self.send_response(200)
                self.send_header('Content-Type', self.guess_type(name))
                self.send_header('Content-Length', str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self):  # noqa: N802
                body = self.rfile.read(int(self.headers['Content-Length']))
                site.told[self.path.lstrip('/')] = body
                self.send_response(204)
                self.end_headers()
                if self.path == '/done':
                    site.done.set()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def visit(self, program, page, profile):
        """Opens a page and waits until it tells that it is done."""
        command = [
            program, '--headless', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage',
            '--no-first-run', '--remote-debugging-port=0', f'--user-data-dir={profile}',
            f'http://127.0.0.1:{self.server.server_port}/{page}',
        ]  # fmt: skip
        with open(profile.with_suffix('.log'), 'wb') as log:
            # Debian's program is a script, whose child a signal to it alone would leave behind.
            process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            for _ in range(90):
                if self.done.wait(1) or process.poll() is not None:
                    break
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        said = profile.with_suffix('.log').read_text(errors='replace')[-2000:]
        assert self.done.is_set(), f'{program} never got there; it told {list(self.told)}:\n{said}'


def test_a_style_in_the_browser_gives_the_pixels_of_jax(browser, tmp_path, disagreement):
    params = transformer.init(jax.random.key(0), width=4, blocks=1)
    style = style_files.Style(
        tensor_files.flatten(params), 'all', 'a.jpg', 'ab' * 32, 'cd' * 32, {}, {}
    )
    rng = np.random.default_rng(0)
    noise = {size: rng.random((*size, 3), np.float32) for size in SIZES}
    photo = rng.integers(0, 256, (24, 40, 3), np.uint8)
    Image.fromarray(photo).save(tmp_path / 'photo.png')
    web = helpers.ROOT / 'launch' / 'web'
    files = {
        'test.html': PAGE.replace('SIZES', repr(list(map(list, SIZES)))).encode(),
        'index.html': web / 'index.html',
        'stylize.js': web / 'stylize.js',
        'model.onnx': onnx_writing.to_onnx(styled_network.load(style), {}),
        'photo.png': tmp_path / 'photo.png',
        **{f'onnxruntime-web/{path.name}': path for path in RUNTIME.iterdir()},
        **{f'noise-{h}x{w}': pixels.tobytes() for (h, w), pixels in noise.items()},
    }
    with Site(files) as site:
        site.visit(browser, 'test.html', tmp_path / 'profile')
    assert 'error' not in site.told, site.told['error'].decode()
    for (height, width), pixels in noise.items():
        made = np.frombuffer(site.told[f'made-{height}x{width}'], np.float32)
        wanted = metastyle_jax.stylize(style, pixels)
        disagreement(made.reshape(wanted.shape), wanted, 1e-4)
    assert (
        site.told['refusal'].decode() == '20 x 15 pixels: both sides must have at least 16 pixels'
    )
    canvas = np.frombuffer(site.told['canvas'], np.uint8).reshape(24, 40, 4)
    wanted = np.rint(255 * metastyle_jax.stylize(style, photo.astype(np.float32) / 255))
    assert np.max(np.abs(canvas[..., :3] - wanted)) <= 1  # where half a level is nearly reached
    assert np.all(canvas[..., 3] == 255)
