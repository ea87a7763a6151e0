"""`metastyle ui`."""

import importlib.util
import signal
import sys

import helpers
import pytest

from metastyle_jax.ui import command


def run(monkeypatch, *words):
    monkeypatch.setattr(sys, 'argv', ['metastyle ui', *map(str, words)])
    return helpers.run_command('ui')


def test_without_gradio_one_sentence_says_what_to_install(monkeypatch, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, 'find_spec', lambda name: None if name == 'gradio' else find(name)
    )
    assert run(monkeypatch) == 2
    message = "metastyle ui: The page needs Gradio: pip install 'metastyle_jax[ui]'\n"
    assert capsys.readouterr().err == message


def test_signals_end_the_block_unless_they_are_ignored():
    for number in (signal.SIGTERM, signal.SIGHUP):
        before = signal.getsignal(number)
        with command.signals_as_ctrl_c():
            assert signal.getsignal(number) != before  # else the signal would end pytest
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(number)
        assert signal.getsignal(number) == before
        signal.signal(number, signal.SIG_IGN)
        try:
            with command.signals_as_ctrl_c():
                signal.raise_signal(number)
        finally:
            signal.signal(number, before)


@pytest.mark.parametrize(
    ('word', 'message'),
    [
        ('--port=70000', '--port=70000'),
        ('--max_pixels=0', '--max_pixels=0'),
        ('--theta=missing.safetensors', 'There is no θ at'),
        ('--library=missing.safetensors', 'missing.safetensors'),
    ],
)
def test_mistakes_are_answered(word, message, monkeypatch, capsys, tmp_path):
    if 'missing' in word:
        pytest.importorskip('gradio')
    monkeypatch.setenv('XDG_DATA_HOME', str(tmp_path))
    monkeypatch.setattr(command, 'wait', lambda: pytest.fail('the page was served'))
    assert run(monkeypatch, word, '--noopen') == 2
    assert message in capsys.readouterr().err
