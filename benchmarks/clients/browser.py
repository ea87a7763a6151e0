"""Runs onnxruntime-web in a headless Chromium: jobs in, answers out. See worker.py.

Usage: python browser.py PROVIDER FOLDER, where PROVIDER is wasm or webgpu, and FOLDER holds
node_modules.
"""

import http.server
import json
import os
import pathlib
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from typing import Any

_PROGRAMS = ('chromium-headless-shell', 'chromium', 'chromium-browser', 'google-chrome')
_TYPES = {'.html': 'text/html', '.mjs': 'text/javascript', '.wasm': 'application/wasm'}
# SwiftShader computes WebGPU on the CPU, where there is no GPU.
_WEBGPU = ('--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader', '--enable-features=Vulkan')


class Site(http.server.ThreadingHTTPServer):
    """Serves the page, the runtime and the file of the current job, on this machine alone."""

    def __init__(self, folder: pathlib.Path) -> None:
        super().__init__(('127.0.0.1', 0), _Handler)
        self.runtime = folder / 'node_modules' / 'onnxruntime-web' / 'dist'
        self.jobs: queue.Queue[dict[str, Any]] = queue.Queue()
        self.answers: queue.Queue[str] = queue.Queue()
        self.job: dict[str, Any] = {}


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:  # noqa: D102, N802
        path = self.path.partition('?')[0]
        if path == '/job':
            self.server.job = self.server.jobs.get()
            body, kind = json.dumps(self.server.job).encode(), 'application/json'
        elif path == '/file':
            job = self.server.job
            body = pathlib.Path(job.get('open') or job['run']).read_bytes()
            kind = 'application/octet-stream'
        else:
            file = pathlib.Path(__file__).with_name('worker.html')
            if path.startswith('/ort/'):
                file = self.server.runtime / pathlib.PurePath(path).name
            if not file.exists():
                self.send_error(404)
                return
            body, kind = file.read_bytes(), _TYPES.get(file.suffix, 'text/plain')
        self.send_response(200)
        self.send_header('Content-Type', kind)
        self.send_header('Content-Length', str(len(body)))
        # Threads of WebAssembly share memory, which a page may use only if it is isolated.
        self.send_header('Cross-Origin-Opener-Policy', 'same-origin')
        self.send_header('Cross-Origin-Embedder-Policy', 'require-corp')
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:  # noqa: D102, N802
        body = self.rfile.read(int(self.headers['Content-Length']))
        if self.path == '/made':
            pathlib.Path(self.server.job['out']).write_bytes(body)
        self.send_response(204)
        self.end_headers()
        if self.path == '/answer':
            self.server.answers.put(body.decode())

    def log_message(self, format: str, *args: Any) -> None:  # noqa: D102
        pass


def main(provider: str, folder: pathlib.Path) -> None:
    """Does jobs until there are no more."""
    program = next(filter(None, map(shutil.which, _PROGRAMS)), None)
    if program is None:
        raise SystemExit('no Chromium: bash launch/browser.sh gets one')
    site = Site(folder)
    threading.Thread(target=site.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [
            program, '--headless', '--no-sandbox', '--disable-dev-shm-usage', '--no-first-run',
            '--remote-debugging-port=0', f'--user-data-dir={profile}',
            *(_WEBGPU if provider == 'webgpu' else ['--disable-gpu']),
            f'http://127.0.0.1:{site.server_port}/?provider={provider}',
        ]  # fmt: skip
        process = subprocess.Popen(command, stdout=2, stderr=2, start_new_session=True)
        try:
            for line in sys.stdin:
                site.jobs.put(json.loads(line))
                print(site.answers.get(), flush=True)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


if __name__ == '__main__':
    main(sys.argv[1], pathlib.Path(sys.argv[2]))
