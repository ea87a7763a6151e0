"""Exported styles in other programs: those that are installed here, by the workers of the matrix.

`METASTYLE_CLIENTS=FOLDER` names the folder that `launch/clients.sh` fills; then none may be absent.
"""

import importlib.metadata
import importlib.util
import json
import os
import pathlib
import re
import sys

import helpers
import jax
import pytest

from metastyle_jax.models import transformer
from metastyle_jax.stylization import styled_network

sys.path.insert(0, str(helpers.ROOT))  # benchmarks are not installed
from benchmarks.clients import catalogue, matrix, programs, table  # noqa: E402

NETWORK = styled_network.StyledNetwork(transformer.init(jax.random.key(0), width=4, blocks=1))
INSTALLED = os.environ.get('METASTYLE_CLIENTS')


def is_here(client):
    """Whether all that a client needs is installed beside this Python."""
    if client.environment == catalogue.NODE:
        return False
    try:
        for package in client.packages:
            importlib.metadata.version(re.split(r'[=\[]', package)[0])
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


@pytest.fixture
def measure(tmp_path, monkeypatch):
    """Measures one client with small images."""
    monkeypatch.setattr(programs, 'TIMED', ((18, 37),))
    monkeypatch.setattr(programs, 'ODD', (18, 37))
    monkeypatch.setattr(programs, 'TINY', (18, 37))
    monkeypatch.setattr(matrix, '_REST', 0)

    def measured(client, repeats=1):
        folder = pathlib.Path(INSTALLED or tmp_path / 'environments')
        if not INSTALLED:
            folder.mkdir()
            (folder / client.environment).symlink_to(sys.prefix)
        options = matrix.Options(folder, tmp_path / 'out', None, repeats, 120)
        found = matrix.measure([client], options, network=NETWORK)
        return json.loads(json.dumps(found)) | {'cpu': 'x', 'date': 'y'}

    return measured


@pytest.mark.parametrize('client', catalogue.CLIENTS, ids=lambda client: client.name)
def test_a_client_gives_the_pixels_of_jax(client, measure):
    if not INSTALLED and not is_here(client):
        pytest.skip(f'{client.name} is not installed: bash launch/clients.sh installs it')
    found = measure(client)
    assert not table.failures(found)
    row = found['clients'][client.name]
    assert client.slow or {*row['seconds']} == {'18'}
    assert f'| {client.name}' in table.render(found)


@pytest.mark.skipif(not importlib.util.find_spec('onnxruntime'), reason='needs the extra onnx')
def test_what_differs_and_what_does_not_run_is_named(measure, monkeypatch):
    client = catalogue.CLIENTS[0]
    real = programs.Programs.wanted
    monkeypatch.setattr(programs.Programs, 'wanted', lambda *arguments: 0.9 * real(*arguments))
    found = measure(client, repeats=0)
    assert len(table.failures(found)) == 5
    assert re.search('onnxruntime, int8: differs by 0', '\n'.join(table.failures(found)))


def test_a_client_that_is_not_there_fails_with_a_reason(measure):
    client = catalogue.CLIENTS[0]._replace(environment='none/such', packages=('x==1',))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pathlib.Path, 'symlink_to', lambda *arguments: None)
        found = measure(client, repeats=1)
    failures = table.failures(found)
    assert len(failures) == len(programs.VARIANTS)
    assert all('No such file' in line for line in failures)
    assert '| onnxruntime | 1 | – | – | – | – | – | |' in table.render(found)


def test_every_client_can_be_named_in_the_flag_only():
    names = [client.name for client in catalogue.CLIENTS]
    assert len({*names}) == len(names)
    assert not [name for name in names if ',' in name]
