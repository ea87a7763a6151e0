"""Suggestions for flags that do not exist."""

import sys

import helpers
import pytest

from metastyle_jax import __main__
from metastyle_jax.core.commands import suggestions


@pytest.mark.parametrize(
    ('command', 'word', 'meant'),
    [
        ('stylize', '--size=512', '--max_size=512'),
        ('stylize', '--max-size=512', '--max_size=512'),
        ('stylize', '--out=x y.png', "--output='x y.png'"),
        ('stylize', '--content=a.jpg', '--input=a.jpg'),
        ('stylize', '--style-image=a.jpg', '--style=a.jpg'),
        ('stylize', '--keep-colors', '--keep_colours'),
        ('stylize', '--force', '--overwrite'),
        ('stylize', '-s', '--style'),
        ('stylize', '--stlye=x', '--style=x'),
        ('adapt', '--output=x.safetensors', '--out=x.safetensors'),
        ('adapt', '--input=a.jpg', '--style=a.jpg'),
        ('adapt', '--style-size=256', '--style_size=256'),
        ('adapt', '--iterations=3', '--steps=3'),
        ('adapt', '--lr=1', '--rate=1'),
        ('evaluate', '--out=x', '--workdir=x'),
        ('gatys', '--steps=3', '--iterations=3'),
    ],
)
def test_an_unknown_flag_is_answered_with_the_one_that_is_meant(
    command, word, meant, monkeypatch, capsys
):
    monkeypatch.setattr(sys, 'argv', [command, word])
    assert helpers.run_command(command) == 2
    assert f'Did you mean {meant}? (see --help)' in capsys.readouterr().err


def test_a_flag_like_no_other_gets_no_suggestion(monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['stylize', '--qqqqq'])
    assert helpers.run_command('stylize') == 2
    assert 'Did you mean' not in capsys.readouterr().err


@pytest.mark.parametrize('command', __main__.COMMANDS)
def test_no_word_is_taken_for_a_flag_that_the_command_lacks(command):
    known = __main__.flags_of(command)
    for word in suggestions._MEANT:
        assert suggestions.meant_flag(word, known) in {*known, ''}
