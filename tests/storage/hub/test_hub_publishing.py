"""Publishing θ on a stand-in for the Hub, on loopback."""

import base64
import http.server
import json
import threading

import instant_helpers
import jax
import numpy as np
import pytest

import metastyle_jax
from metastyle_jax.core.errors import UserError
from metastyle_jax.storage import theta_files
from metastyle_jax.storage.hub import hub_fetching, hub_publishing

COMMIT = '0123456789abcdef0123456789abcdef01234567'
FILES = {hub_fetching.FILE, 'README.md', 'config.json'}


class Hub(http.server.ThreadingHTTPServer):
    """Takes uploads to the repositories of someone who is logged in with one token."""

    def __init__(self):
        super().__init__(('127.0.0.1', 0), Handler)
        self.asked: list[str] = []
        self.created: list[dict] = []
        self.files: dict[str, bytes] = {}
        self.messages: list[str] = []


class Handler(http.server.BaseHTTPRequestHandler):
    server: Hub

    def do_POST(self):
        length = int(self.headers.get('Content-Length') or 0)
        body = self.rfile.read(length) if length else self.read_chunks()
        path = self.path.partition('?')[0]
        self.server.asked.append(path)
        if self.headers.get('Authorization') != 'Bearer right':
            return self.answer({'error': 'Invalid username or password.'}, 401)
        if path == '/api/repos/create':
            self.server.created.append(json.loads(body))
            address = f'http://127.0.0.1:{self.server.server_port}/someone/theta'
            return self.answer({'url': address, 'name': 'someone/theta'})
        if path == '/api/validate-yaml':
            return self.answer({'errors': [], 'warnings': []})
        if '/preupload/' in path:
            files = json.loads(body)['files']
            return self.answer(
                {
                    'files': [
                        {'path': each['path'], 'uploadMode': 'regular', 'shouldIgnore': False}
                        for each in files
                    ]
                }
            )
        assert path == '/api/models/someone/theta/commit/main', path
        for line in body.decode().splitlines():
            entry = json.loads(line)
            if entry['key'] == 'header':
                self.server.messages.append(entry['value']['summary'])
            else:
                assert entry['value']['encoding'] == 'base64'
                content = base64.b64decode(entry['value']['content'])
                self.server.files[entry['value']['path']] = content
        address = f'http://127.0.0.1:{self.server.server_port}/someone/theta/commit/{COMMIT}'
        return self.answer(
            {'success': True, 'commitOid': COMMIT, 'commitUrl': address, 'hookOutput': ''}
        )

    def read_chunks(self):
        data = b''
        while size := int(self.rfile.readline(), 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data

    def answer(self, body, status=200):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header('Content-Type', 'application/json')
        self.send_header('Content-Length', str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture(scope='module')
def theta():
    return instant_helpers.make_theta()


@pytest.fixture
def server(monkeypatch):
    constants = pytest.importorskip('huggingface_hub.constants')
    with Hub() as served:
        address = f'http://127.0.0.1:{served.server_port}'
        monkeypatch.setattr(constants, 'ENDPOINT', address)
        monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', False)
        monkeypatch.setenv('no_proxy', '127.0.0.1')
        monkeypatch.setenv('HF_TOKEN', 'right')
        thread = threading.Thread(target=served.serve_forever)
        thread.start()
        yield served
        served.shutdown()
        thread.join()


def assert_same(found, theta):
    half = jax.tree.map(lambda x: np.float32(np.float16(x)), theta.params)
    jax.tree.map(np.testing.assert_array_equal, found.params, half)
    assert set(found.rates) == set(theta.rates)
    assert found.predictor is not None


def front_matter(card):
    lines = card.split('---\n')[1].splitlines()
    return dict(line.split(': ', 1) for line in lines if ': ' in line)


def test_a_folder_holds_theta_and_its_card(theta, tmp_path):
    pytest.importorskip('huggingface_hub')
    for _ in range(2):  # the second time replaces the files
        theta.save_pretrained(tmp_path / 'theta')
    assert {path.name for path in (tmp_path / 'theta').iterdir()} == FILES
    assert_same(metastyle_jax.Theta.from_pretrained(tmp_path / 'theta'), theta)
    facts = json.loads((tmp_path / 'theta/config.json').read_text())
    assert facts['fingerprint'] == theta.fingerprint
    card = (tmp_path / 'theta/README.md').read_text()
    assert theta.fingerprint in card
    assert front_matter(card) == {
        'license': 'apache-2.0', 'library_name': 'metastyle_jax', 'pipeline_tag': 'image-to-image',
    }  # fmt: skip


def test_theta_and_its_card_are_uploaded(theta, server, tmp_path):
    address = theta.push_to_hub('someone/theta', private=True, commit_message='first')
    assert address.endswith(f'someone/theta/commit/{COMMIT}')
    assert server.created[0]['name'] == 'theta'
    # Versions of the client ask in one of two ways.
    created = server.created[0]
    assert created.get('visibility') == 'private' or created.get('private') is True
    assert server.messages == ['first']
    assert set(server.files) == FILES
    (tmp_path / hub_fetching.FILE).write_bytes(server.files[hub_fetching.FILE])
    assert_same(theta_files.load_theta(tmp_path / hub_fetching.FILE), theta)
    assert '--theta=hf://someone/theta' in server.files['README.md'].decode()


def test_a_token_that_may_not_write_is_refused_with_the_remedy(theta, server):
    with pytest.raises(UserError, match='someone/theta cannot be uploaded.*HF_TOKEN'):
        theta.push_to_hub('someone/theta', token='wrong')
    assert not server.files


def test_a_name_of_another_form_is_refused(theta, server):
    for name in ('some one/theta', 'theta', 'a/b/c', ''):  # the card names OWNER/NAME
        with pytest.raises(UserError, match='write OWNER/NAME'):
            theta.push_to_hub(name, token='right')
    assert not server.asked


def test_a_hub_that_cannot_be_reached_is_reported(theta, monkeypatch):
    constants = pytest.importorskip('huggingface_hub.constants')
    monkeypatch.setattr(constants, 'ENDPOINT', 'http://127.0.0.1:9')
    with pytest.raises(UserError, match='cannot be uploaded'):
        theta.push_to_hub('someone/theta', token='right')


def test_from_pretrained_asks_the_hub_for_the_revision(monkeypatch):
    asked = []
    monkeypatch.setattr(theta_files, 'load_theta', asked.append)
    metastyle_jax.Theta.from_pretrained('someone/theta')
    metastyle_jax.Theta.from_pretrained('someone/theta', revision='v1')
    assert asked == ['hf://someone/theta', 'hf://someone/theta@v1']


def test_without_the_extra_the_remedy_is_named(theta, tmp_path, monkeypatch):
    hub_publishing._mixin.cache_clear()
    monkeypatch.setattr(hub_publishing.importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'metastyle_jax\[hub\]'"):
        theta.save_pretrained(tmp_path / 'theta')
    assert not (tmp_path / 'theta').exists()
