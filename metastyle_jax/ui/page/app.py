"""Starts the server of the page."""

import contextlib
import functools
import logging
import os
import pathlib
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator

import gradio as gr
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from metastyle_jax.core import files
from metastyle_jax.core.errors import UserError
from metastyle_jax.ui.config import UiConfig
from metastyle_jax.ui.page import layout
from metastyle_jax.ui.page.answers import Answers
from metastyle_jax.ui.page.events import Events
from metastyle_jax.ui.sessions import Sessions
from metastyle_jax.ui.studio import Studio

_LOCAL = ('127.0.0.1', 'localhost', '::1')
_OLD = 3600  # seconds
_SWEEP = (600, _OLD)  # every 10 minutes, Gradio deletes its old files


@contextlib.contextmanager
def serving(config: UiConfig) -> Iterator[str]:
    """Serves the page until the block ends; then all files of visitors are deleted.

    Args:
        config: settings of the server.

    Yields:
        The address of the page.

    Raises:
        UserError: a setting is invalid, a file cannot be read, or the port is taken.
    """
    logging.getLogger('httpx').setLevel(logging.WARNING)  # else it logs the start of Gradio
    studio = Studio(config)
    with tempfile.TemporaryDirectory(
        prefix='metastyle-gradio-', ignore_cleanup_errors=True
    ) as temp:
        uploads = pathlib.Path(temp)
        ended = functools.partial(sweep, uploads)
        sessions = Sessions(config.max_visitors, config.linger, studio.begin, ended)
        before = os.environ.get('GRADIO_TEMP_DIR')
        os.environ['GRADIO_TEMP_DIR'] = temp  # Gradio reads it while it builds the page
        blocks = None
        try:
            blocks = build(config, studio, sessions, uploads)
            yield _launch(blocks, config)
        finally:
            if before is None:
                del os.environ['GRADIO_TEMP_DIR']
            else:
                os.environ['GRADIO_TEMP_DIR'] = before
            try:
                if blocks is not None:
                    blocks.close(verbose=False)
            finally:
                sessions.close()


def sweep(uploads: pathlib.Path, everything: bool) -> None:
    """Deletes files that Gradio leaves in its folder, such as those of interrupted uploads.

    Args:
        uploads: the folder.
        everything: whether to delete all files, because no page is open; else only old files.
    """
    for path in uploads.glob('*'):
        with contextlib.suppress(OSError):
            if everything and path.is_dir():
                shutil.rmtree(path)
            elif not path.is_dir() and (everything or path.stat().st_mtime < time.time() - _OLD):
                path.unlink()


def build(config: UiConfig, studio: Studio, sessions: Sessions, uploads: pathlib.Path) -> gr.Blocks:
    """Builds the page.

    Args:
        config: settings of the server.
        studio: the actions of visitors.
        sessions: the sessions of the visitors.
        uploads: folder of uploaded files.
    """
    with gr.Blocks(title='metastyle', analytics_enabled=False, delete_cache=_SWEEP) as blocks:
        page = layout.build(config)
        answers = Answers(page, sessions, (uploads, sessions.folder))
        Events(page, studio, answers).connect(blocks, sessions)
    blocks.queue(max_size=config.max_waiting, default_concurrency_limit=1, api_open=False)
    return blocks


def _middleware(host: str) -> list[Middleware]:
    """Refuses requests for other host names if the server is for this computer only.

    Otherwise a web site could use the page by DNS rebinding: it resolves its own name to the
    address of this computer.
    """
    if host not in _LOCAL:
        return []
    return [Middleware(TrustedHostMiddleware, allowed_hosts=[*_LOCAL, '[::1]'])]


def _free_port(host: str) -> int:
    """Returns a free port."""
    with socket.socket(socket.AF_INET6 if ':' in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return probe.getsockname()[1]


def _launch(blocks: gr.Blocks, config: UiConfig) -> str:
    """Starts the server in a thread; returns the address of the page."""
    try:
        _, address, _ = blocks.launch(
            server_name=config.host, server_port=config.port or _free_port(config.host),
            share=False, inbrowser=config.open, prevent_thread_lock=True, quiet=True,
            show_error=False, ssr_mode=False, allowed_paths=[], footer_links=[],
            max_file_size=f'{config.max_upload}mb', enable_monitoring=False, pwa=False,
            mcp_server=False, run_history=False, theme=layout.theme(), css=layout.STYLE_SHEET,
            js=layout.SCRIPT, app_kwargs={'middleware': _middleware(config.host)},
        )  # fmt: skip
    except OSError as error:
        raise UserError(
            f'host={config.host} port={config.port} cannot be used '
            f'({files.first_line(error)}): give another port, or port=0 for any free one'
        ) from error
    return address
