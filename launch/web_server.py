"""Serves the page of launch/web.sh. Usage: python3 launch/web_server.py FOLDER PORT [HOST]."""

import functools
import http.server
import pathlib
import re
import sys
from typing import Any

# Browsers give threads to WebAssembly only on pages that are isolated from other sites.
_ISOLATION = {
    'Cross-Origin-Opener-Policy': 'same-origin',
    'Cross-Origin-Embedder-Policy': 'require-corp',
    'Cross-Origin-Resource-Policy': 'same-origin',
}
_POLICY = re.compile(r'http-equiv="Content-Security-Policy" content="([^"]+)"')


def headers(page: str) -> dict[str, str]:
    """Headers for all files of the page.

    Args:
        page: text of index.html. Its content security policy also goes into the headers, because
            the worker follows the headers of its own file only.

    Returns:
        The value of each header, by its name.
    """
    policy = _POLICY.search(page)
    if policy is None:
        raise ValueError('index.html has no content security policy')
    return {
        **_ISOLATION,
        'Content-Security-Policy': f"{policy[1]}; frame-ancestors 'none'",
        'X-Content-Type-Options': 'nosniff',
        'Referrer-Policy': 'no-referrer',
        'Cache-Control': 'no-cache',  # a changed file is noticed at the next visit
    }


class PageHandler(http.server.SimpleHTTPRequestHandler):
    """Answers with files of one folder and with the headers of the page."""

    # Without the type, browsers run no modules and compile no WebAssembly while it downloads.
    extensions_map = http.server.SimpleHTTPRequestHandler.extensions_map | {
        '.js': 'text/javascript',
        '.mjs': 'text/javascript',
        '.wasm': 'application/wasm',
        '.onnx': 'application/octet-stream',
        '.webmanifest': 'application/manifest+json',
    }

    def __init__(self, *args: Any, extra: dict[str, str], **kwargs: Any) -> None:
        self._extra = extra
        super().__init__(*args, **kwargs)

    def end_headers(self) -> None:
        """Adds the headers of the page to each answer."""
        for name, value in self._extra.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, *_: Any) -> None:
        """Logs nothing: a page has many files."""


def make_server(
    folder: pathlib.Path, port: int, host: str = '127.0.0.1'
) -> http.server.ThreadingHTTPServer:
    """Makes the server of a folder with the page; port 0 stands for any free one."""
    extra = headers((folder / 'index.html').read_text(encoding='utf-8'))
    handler = functools.partial(PageHandler, directory=str(folder), extra=extra)
    return http.server.ThreadingHTTPServer((host, port), handler)


def main(folder: str, port: str = '8000', host: str = '127.0.0.1') -> None:
    """Serves until Ctrl-C."""
    try:
        server = make_server(pathlib.Path(folder), int(port), host)
    except (OSError, OverflowError, ValueError) as error:
        sys.exit(f'{host}:{port} cannot be served ({error}): check PORT, HOST and the folder')
    here = host if host not in ('0.0.0.0', '::') else '127.0.0.1'
    print(f'open http://{here}:{server.server_port}', flush=True)
    if host != here:
        print('other devices open the same port at the address of this machine', flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print()


if __name__ == '__main__':
    main(*sys.argv[1:])
