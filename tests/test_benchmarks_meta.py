"""The comparison of meta-gradients with plain JAX and PyTorch."""

import sys

import helpers
import pytest

sys.path.insert(0, str(helpers.ROOT))

from benchmarks.meta import __main__ as command  # noqa: E402
from benchmarks.meta import problems  # noqa: E402


def test_every_variant_computes_the_same_gradient():
    names = ['plain JAX', 'ours, mixed', 'torch.func']
    pytest.importorskip('torch')
    task = problems.sinusoid(2)._replace(tasks=0)
    task = task._replace(
        inner=tuple(x[0] for x in task.inner), outer=tuple(x[0] for x in task.outer)
    )
    rows = command.measure(task, names, 1)
    assert list(rows) == names
    assert all(row['disagreement'] < 1e-4 for row in rows.values())
    assert rows['ours, mixed']['bytes'] > 0
    text = command.render({'sinusoid': rows, 'other': {'TorchOpt': {'reason': 'not installed'}}})
    assert '| sinusoid | ours, mixed |' in text
    assert '| other | TorchOpt | – | – | – | not installed |' in text
