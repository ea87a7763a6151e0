"""The server of the page: what it serves, to whom, and what is left when it ends."""

import http.client
import os
import pathlib
import socket
import urllib.parse

import pytest
import ui_helpers

pytest.importorskip('gradio')

from metastyle_jax.core.errors import UserError  # noqa: E402
from metastyle_jax.ui.config import UiConfig  # noqa: E402
from metastyle_jax.ui.page import app  # noqa: E402

pytestmark = pytest.mark.filterwarnings('default')  # Gradio and its server warn of their own code


@pytest.fixture(scope='module')
def served(theta_file, tmp_path_factory):
    """The address of a page, and the folder in which it keeps temporary files."""
    temp = tmp_path_factory.mktemp('temp')
    config = UiConfig(theta=theta_file, port=0, open=False, keep=False, max_upload=1, linger=0.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('tempfile.tempdir', str(temp))
        with ui_helpers.serving(config) as address:
            yield address, temp
        assert not [*temp.rglob('*')]


def ask(address, method, path, body=None, **headers):
    """Sends a request as it is, without tidying its path; returns the status and the answer."""
    parts = urllib.parse.urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    try:
        return answer.status, answer.read()
    finally:
        connection.close()


def upload(address, content, name='a.png'):
    body = (
        b'--x\r\nContent-Disposition: form-data; name="files"; filename="'
        + name.encode()
        + b'"\r\nContent-Type: image/png\r\n\r\n'
        + content
        + b'\r\n--x--\r\n'
    )
    kind = {'Content-Type': 'multipart/form-data; boundary=x'}
    return ask(address, 'POST', '/gradio_api/upload', body, **kind)


def test_no_file_of_the_server_can_be_read(served, theta_file):
    address, temp = served
    secret = temp / 'secret.txt'
    secret.write_text('secret')
    for path in (
        '/etc/passwd', str(theta_file), str(pathlib.Path(__file__)), str(secret),
        f'{temp}/../{temp.name}/secret.txt', '../../etc/passwd', '%2e%2e/%2e%2e/etc/passwd',
        'file:///etc/passwd', 'http://127.0.0.1:1/',
    ):  # fmt: skip
        for route in ('/gradio_api/file=', '/file=', '/gradio_api/file/', '/static/', '/assets/'):
            status, content = ask(address, 'GET', route + path)
            assert status >= 300, (route, path)
            assert b'root:' not in content
            assert b'secret' not in content.replace(b'secret.txt', b'')
    secret.unlink()


def test_the_page_names_no_other_server(served):
    status, content = ask(served[0], 'GET', '/')
    assert status == 200
    for word in (b'fonts.googleapis', b'cdnjs', b'huggingface.co', b'<script src="http'):
        assert word not in content


def test_other_sites_cannot_use_the_page_of_this_computer(served):
    parts = urllib.parse.urlsplit(served[0])
    for origin, allowed in (('https://example.org', None), (served[0].rstrip('/'),) * 2):
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)
        connection.request('GET', '/config', headers={'Origin': origin})
        answer = connection.getresponse()
        assert answer.getheader('Access-Control-Allow-Origin') == allowed
        connection.close()
    # A name of another site that leads to this computer ("DNS rebinding").
    assert ask(served[0], 'GET', '/config', Host='example.org')[0] == 400
    assert ask(served[0], 'GET', '/config', Host=f'localhost:{parts.port}')[0] == 200


def test_uploads_are_limited_and_an_interrupted_one_harms_nothing(served):
    address, _ = served
    status, content = upload(address, bytes(1_100_000))
    assert status == 413
    assert b'maximum' in content
    parts = urllib.parse.urlsplit(address)
    with socket.create_connection((parts.hostname, parts.port)) as raw:
        raw.sendall(
            b'POST /gradio_api/upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 90000\r\n'
            b'Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n'
        )
    assert upload(address, b'whole')[0] == 200


def test_the_port_may_be_taken(served, theta_file):
    port = urllib.parse.urlsplit(served[0]).port
    before = os.environ.get('GRADIO_TEMP_DIR')
    config = UiConfig(theta=theta_file, port=port, open=False, keep=False)
    with pytest.raises(UserError, match=f'port={port} cannot be used'), ui_helpers.serving(config):
        pass
    assert os.environ.get('GRADIO_TEMP_DIR') == before


def test_what_interrupted_uploads_leave_is_deleted(tmp_path):
    for name in ('new', 'old', 'shown/a.webp'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    os.utime(tmp_path / 'old', (0, 0))
    app.sweep(tmp_path, everything=False)
    assert {path.name for path in tmp_path.rglob('*')} == {'new', 'shown', 'a.webp'}
    app.sweep(tmp_path, everything=True)
    assert [*tmp_path.rglob('*')] == []
