"""θ from a stand-in for the Hub, on loopback."""

import hashlib
import http.server
import threading

import jax
import pytest

from metastyle_jax.core.errors import UserError
from metastyle_jax.models import transformer
from metastyle_jax.storage import theta_files
from metastyle_jax.storage.hub import hub_fetching

COMMIT = '0123456789abcdef0123456789abcdef01234567'


class Hub(http.server.ThreadingHTTPServer):
    """Serves one file of one public repository, at one branch and one tag."""

    def __init__(self, content: bytes):
        super().__init__(('127.0.0.1', 0), Handler)
        self.content = content
        self.asked: list[str] = []


class Handler(http.server.BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        self.server.asked.append(f'{self.command} {self.path}')
        owner, name, _, revision, file = (*self.path.split('/')[1:], *[''] * 5)[:5]
        problem = None
        if (owner, name) != ('someone', 'theta'):
            problem = 'GatedRepo' if owner == 'gated' else 'RepoNotFound'
        elif revision not in ('main', 'v1', COMMIT):
            problem = 'RevisionNotFound'
        elif file != 'theta.safetensors':
            problem = 'EntryNotFound'
        content = b'' if problem else self.server.content
        self.send_response((403 if owner == 'gated' else 404) if problem else 200)
        if problem:
            self.send_header('X-Error-Code', problem)
        self.send_header('X-Repo-Commit', COMMIT)
        self.send_header('ETag', f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header('Content-Length', str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture(scope='module')
def params():
    return transformer.init(jax.random.key(0), width=4, blocks=1)


@pytest.fixture
def server(tmp_path, monkeypatch, params):
    """A hub, and the client's settings that lead to it with an empty cache."""
    constants = pytest.importorskip('huggingface_hub.constants')
    theta_files.save_theta(tmp_path / hub_fetching.FILE, params, settings={}, dtype='float16')
    with Hub((tmp_path / hub_fetching.FILE).read_bytes()) as served:
        address = f'http://127.0.0.1:{served.server_port}'
        for name, value in {
            'ENDPOINT': address,
            'HUGGINGFACE_CO_URL_TEMPLATE': address + '/{repo_id}/resolve/{revision}/{filename}',
            'HF_HUB_CACHE': str(tmp_path / 'cache'),
            'HF_HUB_OFFLINE': False,
        }.items():
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setenv('no_proxy', '127.0.0.1')
        thread = threading.Thread(target=served.serve_forever)
        thread.start()
        yield served
        served.shutdown()
        thread.join()


@pytest.mark.parametrize('word', ['hf://someone/theta', 'hf://someone/theta@v1'])
def test_theta_comes_from_the_hub(server, params, word):
    found = theta_files.load_theta(word)
    half = jax.tree.map(lambda leaf: leaf.astype('float16').astype('float32'), params)
    assert all(
        map(lambda a, b: (a == b).all(), jax.tree.leaves(half), jax.tree.leaves(found.params))
    )
    revision = word.partition('@')[2] or 'main'
    assert f'HEAD /someone/theta/resolve/{revision}/{hub_fetching.FILE}' in server.asked


def test_cache_serves_when_offline(server, monkeypatch):
    constants = pytest.importorskip('huggingface_hub.constants')
    first = theta_files.load_theta('hf://someone/theta')
    asked = len(server.asked)
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
    assert theta_files.load_theta('hf://someone/theta').fingerprint == first.fingerprint
    with pytest.raises(UserError, match='not in the cache.*HF_HUB_OFFLINE'):
        theta_files.load_theta('hf://someone/other')
    assert len(server.asked) == asked


@pytest.mark.parametrize(
    ('word', 'said'),
    [
        (
            'hf://someone/nothing',
            'no such repository, or it is private: check the name, or set HF_TOKEN',
        ),
        ('hf://gated/theta', 'needs permission.*HF_TOKEN'),
        ('hf://someone/theta@v2', "no revision 'v2'"),
        ('hf://someone', 'write hf://OWNER/NAME'),
        ('hf://someone/theta/../x', 'write hf://OWNER/NAME'),
    ],
)
def test_what_the_hub_does_not_have(server, word, said):
    with pytest.raises(UserError, match=said):
        theta_files.load_theta(word)


def test_hub_without_the_file(server, monkeypatch):
    monkeypatch.setattr(hub_fetching, 'FILE', 'other.safetensors')
    with pytest.raises(UserError, match='holds no other.safetensors'):
        hub_fetching.fetch('hf://someone/theta')


def test_damaged_download_is_refused(server):
    server.content = server.content[:-1] + bytes([server.content[-1] ^ 1])
    with pytest.raises(UserError, match='damaged'):
        theta_files.load_theta('hf://someone/theta')


def test_a_missing_pyav_is_reported_with_its_extra(monkeypatch):
    monkeypatch.setattr(hub_fetching.importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'metastyle_jax\[hub\]'"):
        hub_fetching.fetch('hf://someone/theta')
