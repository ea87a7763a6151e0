"""The command `metastyle`: its sub-commands, words without dashes, `-o`, and completion."""

import importlib
import pathlib
import subprocess
import sys

import helpers
import pytest
from absl import flags
from PIL import Image

from metastyle_jax import __main__
from metastyle_jax._version import __version__


def metastyle(*words):
    return __main__.main(['metastyle', *map(str, words)])


def test_help_lists_every_command_with_a_line(capsys):
    for words in ((), ('--help',), ('-h',), ('help',)):
        assert metastyle(*words) == 0
        text = capsys.readouterr().out
        for name, (_, line) in __main__.COMMANDS.items():
            assert any(row.split(maxsplit=1) == [name, line] for row in text.splitlines())


@pytest.mark.parametrize('name', __main__.COMMANDS)
def test_every_command_has_help_and_a_module_that_starts_it(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', list(sys.argv))
    assert metastyle(name, '-h') == 0
    assert '--' in capsys.readouterr().out
    if __main__.COMMANDS[name][0] == 'baselines.commands.system_command':
        return  # five commands share this module, and start as `metastyle NAME` only
    launcher = 'baselines.' + name if name in ('gatys', 'johnson') else name
    launcher = 'ui.__main__' if name == 'ui' else launcher  # `metastyle_jax.ui` is a room
    file = helpers.ROOT / 'metastyle_jax' / f'{launcher.replace(".", "/")}.py'
    assert 'run' in file.read_text()


@pytest.mark.parametrize('words', [('--version',), ('stylize', '--version')])
def test_the_version_is_printed(words, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', list(sys.argv))
    assert metastyle(*words) == 0
    assert capsys.readouterr().out == f'metastyle_jax {__version__}\n'


def test_a_mistyped_command_is_answered_with_the_closest(capsys):
    assert metastyle('stilize') == 2
    assert "there is no command 'stilize': did you mean 'stylize'?" in capsys.readouterr().err
    assert metastyle('xyz') == 2
    assert 'it must be one of stylize, ' in capsys.readouterr().err


def test_words_without_dashes_and_o_stand_for_flags(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', list(sys.argv))
    photo, out = tmp_path / 'photo.png', tmp_path / 'out.png'
    Image.new('RGB', (32, 24), 'red').save(photo)
    for words in ((photo, '--style=missing.safetensors', '-o', out),
                  ('--style=missing.safetensors', f'-o={out}', photo)):  # fmt: skip
        assert metastyle('stylize', *words) == 2
        error = capsys.readouterr().err
        assert error.startswith('metastyle stylize: ')
        assert 'missing.safetensors' in error
    assert metastyle('stylize', photo, f'--input={photo}', '--style=x', f'-o={out}') == 2
    assert 'leave one of them out' in capsys.readouterr().err
    assert metastyle('evaluate', 'word') == 2
    assert "'word' is no flag" in capsys.readouterr().err


@pytest.mark.parametrize('shell', __main__.SHELLS)
def test_completion_knows_commands_and_flags(shell, capsys):
    assert metastyle('completion', shell) == 0
    script = capsys.readouterr().out
    for name in __main__.COMMANDS:
        values = flags.FlagValues()
        module = importlib.import_module(f'metastyle_jax.{__main__.COMMANDS[name][0]}')
        module.define_flags(values)
        assert name in script
        assert all(flag in script for flag in values)


def test_completion_works_in_bash(tmp_path, capsys):
    assert metastyle('completion', 'bash') == 0
    script = tmp_path / 'completion.bash'
    script.write_text(capsys.readouterr().out)
    line = 'COMP_WORDS=({}); COMP_CWORD={}; _metastyle; echo "${{COMPREPLY[*]}}"'
    shell = f'source {script}; {line.format("metastyle styli", 1)}; '
    shell += line.format('metastyle adapt --inner', 2)
    result = subprocess.run(['bash', '-c', shell], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ['stylize', '--inner_steps=']


def test_completion_of_an_unknown_shell_is_refused(capsys):
    assert metastyle('completion', 'csh') == 2
    assert 'bash, zsh, fish' in capsys.readouterr().err


def test_the_package_is_a_program():
    result = subprocess.run(
        [sys.executable, '-m', 'metastyle_jax', '--version'],
        capture_output=True, text=True, check=True, cwd=pathlib.Path(helpers.ROOT),
    )  # fmt: skip
    assert result.stdout.split()[0] == 'metastyle_jax'
