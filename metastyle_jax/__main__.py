"""The command `metastyle`, which runs all sub-commands; `python -m metastyle_jax` is the same.

The module of a sub-command is imported only when it runs, so that `metastyle --help` and errors in
the name of a command appear at once.
"""

import difflib
import importlib
import sys

from metastyle_jax._version import __version__

# Sub-command: module with its `run_COMMAND` (_ for -), and its line in `metastyle --help`.
COMMANDS = {
    'stylize': (
        'instant.command',
        'Stylize a picture, a folder or a video in the style of a painting.',
    ),
    'ui': ('ui.command', 'Open a web page on which you stylize photographs.'),
    'adapt': (
        'adaptation.command',
        'Adapt the network to a painting, or to each painting of a folder.',
    ),
    'export': (
        'stylization.export.command',
        'Write a style for other programs: ONNX, StableHLO.',
    ),
    'cache': ('instant.cache_command', 'List or remove the styles that `stylize` has cached.'),
    'compare': (
        'evaluation.before_after',
        'Draw a painting, photographs, and both before and after adaptation.',
    ),
    'train': ('training.command', 'Meta-train an initialization with exact meta-gradients.'),
    'evaluate': ('evaluation.command', 'Measure how fast initializations adapt to new styles.'),
    'poster': (
        'evaluation.poster.poster_command',
        "Compare the eight systems of MetaStyle's poster: seconds and quality.",
    ),
    'flicker': ('evaluation.films.flicker_command', 'Measure the flicker of a stylized video.'),
    'gatys': (
        'baselines.commands.gatys_command',
        'Stylize a photograph by optimizing its pixels, slowly (Gatys et al.).',
    ),
    'johnson': (
        'baselines.commands.johnson_command',
        'Train a network for one style from scratch (Johnson et al.).',
    ),
    'adain': (
        'baselines.commands.system_command',
        'Stylize in any style by matching moments of features (Huang and Belongie).',
    ),
    'wct': (
        'baselines.commands.system_command',
        'Stylize in any style by whitening and colouring features (Li et al.).',
    ),
    'avatar-net': (
        'baselines.commands.system_command',
        'Stylize in any style by swapping patches of whitened features (Sheng et al.).',
    ),
    'style-swap': (
        'baselines.commands.system_command',
        'Stylize in any style by swapping patches of features (Chen and Schmidt).',
    ),
    'meta-networks': (
        'baselines.commands.system_command',
        'Stylize in any style by a network that computes weights (Shen et al.).',
    ),
}

USAGE = """MetaStyle: any painting as the style of your photographs, after a few gradient steps.

  metastyle stylize photo.jpg --style=painting.jpg -o out.png
  metastyle adapt painting.jpg -o painting.safetensors
  metastyle stylize photo.jpg --style=painting.safetensors -o out.png

Commands (`metastyle COMMAND --help` lists the flags of one):
"""
SHELLS = ('bash', 'zsh', 'fish')


def main(argv: list[str] | None = None) -> int:
    """Runs the sub-command that the first word names.

    Args:
        argv: the program's name and its words; None for those of the process.

    Returns:
        The exit code of the sub-command, or 2 if there is no sub-command of this name.
    """
    argv = sys.argv if argv is None else argv
    name = argv[1] if len(argv) > 1 else '--help'
    if name in ('--help', '-help', '-h', 'help'):
        print(usage(), flush=True)
        return 0
    if name == '--version':
        print(f'metastyle_jax {__version__}', flush=True)
        return 0
    if name == 'completion':
        return _print_completion(argv[2:])
    if name not in COMMANDS:
        meant = _meant(argv[1:])
        print(f'metastyle: there is no command {name!r}: {meant}', file=sys.stderr)
        return 2
    sys.argv = [f'metastyle {name}', *argv[2:]]
    module = importlib.import_module(f'metastyle_jax.{COMMANDS[name][0]}')
    return getattr(module, f'run_{name.replace("-", "_")}')()


def _meant(words: list[str]) -> str:
    """Returns what the user probably means, if the first word is not a command."""
    from metastyle_jax.core.commands import first_steps
    from metastyle_jax.data.folders import picture_listing

    meant = first_steps.without_command(words, picture_listing.is_picture_or_folder)
    if close := difflib.get_close_matches(words[0], COMMANDS, n=1):
        meant = meant or f'did you mean {close[0]!r}?'
    return meant or f'it must be one of {", ".join(COMMANDS)}'


def usage() -> str:
    """Returns the text of `metastyle --help`."""
    lines = [f'  {name:<14}{line}' for name, (_, line) in COMMANDS.items()]
    lines.append(f'  {"completion":<13} Print completions for a shell: {", ".join(SHELLS)}.')
    return USAGE + '\n'.join(lines)


def flags_of(name: str) -> list[str]:
    """Returns the names of the flags of a sub-command, without dashes.

    Args:
        name: one of `COMMANDS`.
    """
    from absl import flags

    values = flags.FlagValues()
    importlib.import_module(f'metastyle_jax.{COMMANDS[name][0]}').define_flags(values)
    return list(values)


def completion(shell: str) -> str:
    """Returns a script with which a shell completes the commands and flags of `metastyle`.

    Args:
        shell: 'bash', 'zsh' or 'fish'.
    """
    words = {name: ' '.join(f'--{flag}=' for flag in flags_of(name)) for name in COMMANDS}
    if shell == 'fish':
        lines = ['complete -c metastyle -n __fish_use_subcommand -f -a completion']
        for name, (_, line) in COMMANDS.items():
            lines.append(f"complete -c metastyle -n __fish_use_subcommand -f -a {name} -d '{line}'")
            for flag in flags_of(name):
                lines.append(
                    f"complete -c metastyle -n '__fish_seen_subcommand_from {name}' -l {flag} -r"
                )
        return '\n'.join(lines)
    cases = '\n'.join(f'    {name}) words="{flags}" ;;' for name, flags in words.items())
    script = f'''_metastyle() {{
  local words current="${{COMP_WORDS[COMP_CWORD]}}"
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W "{' '.join(COMMANDS)} completion" -- "$current"))
    return
  fi
  case "${{COMP_WORDS[1]}}" in
{cases}
    completion) words="{' '.join(SHELLS)}" ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
  case "$current" in
    -*) ;;
    *) COMPREPLY+=($(compgen -f -- "$current")) ;;
  esac
}}
complete -o nospace -o filenames -F _metastyle metastyle'''
    return f'autoload -U +X bashcompinit && bashcompinit\n{script}' if shell == 'zsh' else script


def _print_completion(words: list[str]) -> int:
    """Runs `metastyle completion SHELL`; returns the exit code."""
    if len(words) != 1 or words[0] not in SHELLS:
        print(
            f'metastyle: name a shell, as in `metastyle completion bash`: {", ".join(SHELLS)}',
            file=sys.stderr,
        )
        return 2
    print(completion(words[0]), flush=True)
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
