"""The poster's systems beside their peers in PyTorch."""

import sys

import helpers
import jax
import numpy as np
import pytest

sys.path.insert(0, str(helpers.ROOT))

from metastyle_jax.baselines import systems  # noqa: E402

NAMES = ('adain', 'wct', 'avatar-net', 'style-swap')


@pytest.fixture(scope='module')
def peer():
    torch = pytest.importorskip('torch')
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # idle threads that spin slow a crowded machine down
    from benchmarks.poster import peer

    yield peer
    torch.set_num_threads(threads)


@pytest.mark.parametrize('name', NAMES)
def test_the_peer_paints_the_same_picture(name, peer, x64):
    """In float64: rounding of float32 can turn the choice between two similar patches."""
    import torch

    encoder = 'vgg19-normalized' if name == 'adain' else 'vgg16'
    system = systems.get(name, encoder=encoder, width=4)
    params = jax.tree.map(lambda x: x.astype(np.float64), jax.jit(system.init)(jax.random.key(0)))
    if name in ('adain', 'avatar-net'):  # their random decoders paint nearly black pictures
        last = params['decoder']['out' if name == 'avatar-net' else 'conv1_1']
        last.update(kernel=20 * last['kernel'], bias=last['bias'] + 0.5)
    rng = np.random.default_rng(0)
    contents, painting = rng.uniform(size=(2, 43, 38, 3)), rng.uniform(size=(36, 45, 3))
    found = systems.stylize(systems.compiled(system), params, painting, contents, alpha=0.7)

    def tensor(images):
        return torch.tensor(images.transpose(0, 3, 1, 2).copy())

    weights = peer.from_arrays(params, torch.device('cpu'))
    style = peer.PEERS[name].encode_style(weights, tensor(painting[None]))
    expected = peer.PEERS[name].apply(weights, style, tensor(contents), 0.7)
    expected = expected.numpy().transpose(0, 2, 3, 1)
    assert np.ptp(expected) > 0.2
    np.testing.assert_allclose(found, expected, atol=1e-4)
