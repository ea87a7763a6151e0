"""Parsing of flags: what is understood, and what messages say about mistakes."""

import sys

import pytest
from absl import flags

from metastyle_jax.core import command_line, errors, flag_parsing


@pytest.fixture
def values():
    values = flags.FlagValues()
    add = command_line.Flags(values)
    add.text('input', None, 'Picture to read.')
    add.text('out', 'result.png', 'Picture to write.')
    add.number('steps', 3, 'Number of steps.')
    add.switch('overwrite', False, 'Replace an existing picture.')
    return values


def parse(values, monkeypatch, *words, positional='input', output='out'):
    monkeypatch.setattr(sys, 'argv', ['command', *words])
    flag_parsing.parse(values, positional, output)


@pytest.mark.parametrize(
    'words',
    [
        ['--input=a.jpg', '--out=b.png'],
        ['a.jpg', '-o', 'b.png'],
        ['-o=b.png', 'a.jpg'],
    ],
)
def test_a_word_without_dashes_and_a_short_flag_set_the_same_flags(values, monkeypatch, words):
    parse(values, monkeypatch, *words)
    assert (values.input, values.out, values.steps) == ('a.jpg', 'b.png', 3)
    assert values['input'].present


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['--steps=many'], 'a whole number is needed'),
        (['--overwrite=perhaps'], 'true or false is needed'),
        (['--colour=red'], "Unknown command line flag 'colour'"),
        (['a.jpg', 'b.jpg'], "'a.jpg b.jpg' is no flag"),
        (['a.jpg', '--input=b.jpg'], "'a.jpg' and --input name the same thing"),
    ],
)
def test_messages_say_what_is_wrong_with_a_flag(values, monkeypatch, words, message):
    with pytest.raises(errors.UserError, match=message):
        parse(values, monkeypatch, *words)


def test_words_without_dashes_are_refused_by_commands_that_take_none(values, monkeypatch):
    with pytest.raises(errors.UserError, match="'a.jpg' is no flag"):
        parse(values, monkeypatch, 'a.jpg', positional='')


def test_help_lists_each_flag_with_its_default(values):
    add = command_line.Flags(values)
    add.number('config.steps', 0, 'Entry of a configuration.')
    text = flag_parsing.help_text(values, ['out', 'steps', 'overwrite', 'config.steps'], 'Usage.')
    assert text.splitlines() == [
        'Usage.',
        '',
        '  --out=...',
        '      Picture to write. (default: result.png)',
        '  --steps=STEPS',
        '      Number of steps. (default: 3)',
        '  --overwrite',
        '      Replace an existing picture.',
    ]


def test_help_shows_a_list_as_it_is_written_on_the_command_line():
    flag_values = flags.FlagValues()
    add = command_line.Flags(flag_values)
    add.words('sizes', ['256', '512'], 'Sizes.')
    add.words('weights', [], 'Weights.')
    text = flag_parsing.help_text(flag_values, ['sizes', 'weights'], 'Usage.')
    assert 'Sizes. (default: 256,512)' in text
    assert text.endswith('Weights.')
