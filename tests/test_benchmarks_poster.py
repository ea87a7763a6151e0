"""The poster's systems beside their peers in PyTorch."""

import json
import sys

import helpers
import jax
import numpy as np
import pytest

sys.path.insert(0, str(helpers.ROOT))

from benchmarks.poster import __main__ as command  # noqa: E402
from benchmarks.poster import worker  # noqa: E402
from metastyle_jax.baselines import systems  # noqa: E402
from metastyle_jax.baselines.features import encoder_decoder  # noqa: E402
from metastyle_jax.core import command_line  # noqa: E402

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
    worker.vivid(params)
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


@pytest.fixture
def run(monkeypatch):
    """Runs the command with some flags; returns its exit status."""

    def start(*words):
        monkeypatch.setattr(sys, 'argv', ['benchmarks.poster', *words])
        return command_line.run_command(
            command.main, command.define_flags, command='benchmarks.poster', usage=''
        )

    return start


def test_the_command_times_both_sides_in_turn(run, tmp_path, capsys):
    pytest.importorskip('torch')
    words = ['--systems=style-swap', '--sizes=32', '--width=2', '--repeats=2']
    assert run(*words, f'--out={tmp_path}') == 0
    results = json.loads((tmp_path / 'results.json').read_text())
    (entry,) = results['systems']
    assert entry['disagreement'] < 1e-4
    for side in ('ours', 'torch'):
        assert len(entry['sides'][side]['rounds']) == 2
        assert entry['sides'][side]['memory']['resident'] > 0
    assert entry['ratios']['picture']['q1'] > 0
    assert '| style-swap | 32 |' in capsys.readouterr().out


def test_pictures_can_be_compared_in_float64(peer, tmp_path):
    files = str(tmp_path / 'weights.npz'), str(tmp_path / 'answer.npy')
    jobs = [worker.SideJob(side, 'adain', 32, *files, width=2) for side in worker.SIDES]
    ours, torch = worker.Ours(jobs[0]), worker.Torch(jobs[1])
    found, expected = ours.picture_in_float64(), torch.picture_in_float64()
    assert found.dtype == expected.dtype == np.float64
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert ours.picture().dtype == torch.picture().dtype == np.float32  # what is timed


def test_ratios_are_taken_within_a_round():
    seconds = {'ours': [1.0, 4.0, 9.0], 'torch': [2.0, 4.0, 3.0]}
    sides = {
        side: {'rounds': [{'style': 1.0, 'picture': each} for each in times]}
        for side, times in seconds.items()
    }
    found = command.summarize(sides)
    assert found['ratios']['picture'] == {'median': 1.0, 'q1': 0.75, 'q3': 2.0}
    assert found['times']['picture']['torch']['median'] == 3.0


def test_a_few_other_patches_are_no_disagreement_but_other_pictures_are():
    one = np.zeros((1, 20, 20, 3))
    other = one.copy()
    other[0, 0, 0] = 1
    assert command.disagreement(one, other) == {'disagreement': 0.0, 'largest': 1.0}
    assert command.disagreement(one, one + 0.1)['disagreement'] == pytest.approx(0.1)


def test_the_encoders_of_the_flag_are_those_of_the_systems():
    assert (*encoder_decoder.ENCODERS,) == command.ENCODERS


@pytest.mark.parametrize(
    ('word', 'message'),
    [('--systems=gatys', 'it must be one of adain'), ('--sizes=16', 'at least 32'),
     ('--sizes=large', 'whole numbers'), ('--repeats=0', 'at least 1'),
     ('--precision=low', 'one of highest, tf32'), ('--encoder=vgg11', 'vgg11')],
)  # fmt: skip
def test_flags_with_invalid_values_are_refused(word, message, run, tmp_path, capsys):
    assert run(word, f'--out={tmp_path}') != 0
    assert message in capsys.readouterr().err


def test_the_failure_of_a_side_is_a_reason_in_the_table():
    results = {'machine': {'cpu': 'A', 'cores': 2}, 'date': 'today', 'systems': []}
    results['systems'].append({'system': 'wct', 'size': 64, 'reason': 'memory ran out'})
    assert '| wct | 64 | memory ran out |' in command.render(results)
