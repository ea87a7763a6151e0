"""Helpers that all commands share."""

import pytest

from metastyle_jax.core import command_line


@pytest.mark.parametrize(
    ('message', 'expected'),
    [
        ('steps=0: it must be 1', '--steps=0: it must be 1'),
        ('x exists: pass overwrite=True', 'x exists: pass --overwrite'),
        ('vgg_file=x is missing', '--vgg=x is missing'),
        ('config.steps=0 and inner_steps=3', 'config.steps=0 and inner_steps=3'),
        ('--steps=0', '--steps=0'),
        ('folder/steps=0', 'folder/steps=0'),
    ],
)
def test_arguments_in_messages_become_flags_of_the_command(message, expected):
    names = ('steps', 'overwrite', 'vgg')
    assert command_line.in_flags(message, names, {'vgg_file': 'vgg'}) == expected
