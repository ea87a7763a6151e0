"""The flags of `metastyle evaluate`."""

import pytest

from metastyle_jax.evaluation import command


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        ([], '--workdir must be given'),
        (['--workdir=x', '--theta=a=b,a=c'], 'no θ at b'),
        (['--workdir=x', '--theta=random=b'], "the name 'random' is taken"),
        (['--workdir=x', '--steps=0'], '--steps=0'),
        (['--workdir=x', '--params=some'], "'some'"),
        (['--workdir=x', '--styles=-1'], '--styles=-1'),
        (['--workdir=x', '--pool=-1'], '--pool=-1'),
        (['--workdir=x', '--steps=3', '--inner_steps=4'], '--inner_steps=4 is more than'),
        (['--workdir=gs://bucket/run'], 'not a bucket'),
        (['--workdir=x', '--seed=-1'], '--seed=-1'),
        (['--workdir=x', '--theta=runs/lr=1e-3'], "'lr=1e-3' is not a valid name: write NAME=PATH"),
        (['--workdir=x', '--theta=a=runs/lr=1e-3'], 'no θ at runs/lr=1e-3'),
    ],
)
def test_invalid_flags_are_refused_and_nothing_is_written(
    words, message, monkeypatch, capsys, tmp_path
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('sys.argv', ['evaluate', *words])
    assert command.run_evaluate() == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
