"""Makes the correct commands, with the user's own file names, for error messages."""

import os
import pathlib
import re
import shlex
import sys
from collections.abc import Callable, Collection, Sequence

_PAINTING_WORDS = ('paint', 'style', 'art', 'gogh', 'monet', 'picasso', 'texture')
_PHOTO_WORDS = ('photo', 'content', 'img', 'dsc', 'input', 'portrait')
_ANY_PHOTO, _ANY_PAINTING = 'photo.jpg', 'painting.jpg'


def adapt_line(paintings: Sequence[str], out: str = '') -> str:
    """Returns the command that makes a style file of a painting, or a library of several."""
    default = style_name(paintings[0]) if len(paintings) == 1 else 'library.safetensors'
    return f'metastyle adapt {shlex.join(paintings)} -o {shlex.quote(out or default)}'


def stylize_line(
    photos: Sequence[str], styles: Sequence[str], output: str = '', flags: Sequence[str] = ()
) -> str:
    """Returns the command that applies style files to photographs."""
    is_many = len(photos) > 1 or any(map(os.path.isdir, photos))
    output = output or ('stylized/' if is_many else 'out.png')
    words = [*photos, *(f'--style={style}' for style in styles), *flags, '-o', output]
    return f'metastyle stylize {shlex.join(words)}'


def both_lines(
    paintings: Sequence[str],
    photos: Sequence[str] = (),
    output: str = '',
    flags: Sequence[str] = (),
) -> list[str]:
    """Returns the commands that adapt to paintings and then stylize photographs.

    Args:
        paintings: pictures; one command for each makes a style file.
        photos: pictures to stylize; if empty, the command has an example name.
        output: the output of the last command; '' for a suitable name.
        flags: further flags of the last command.
    """
    styles = [style_name(painting) for painting in paintings]
    return [
        *(adapt_line([painting]) for painting in paintings),
        stylize_line(photos or [_ANY_PHOTO], styles, output, flags),
    ]


def lines(*commands: str) -> str:
    """Formats commands for the end of a message, each on a new line."""
    return ''.join(f'\n  {command}' for command in commands)


def painting_first(one: str, other: str) -> tuple[str, str]:
    """Guesses from file names which of two pictures is the painting; if unclear, it is `one`.

    Args:
        one: file name of a picture.
        other: file name of another picture.

    Returns:
        The painting, and the photograph.
    """

    def score(name: str) -> int:
        stem = pathlib.PurePath(name).stem.casefold()
        return any(word in stem for word in _PAINTING_WORDS) - stem.startswith(_PHOTO_WORDS)

    return (other, one) if score(other) > score(one) else (one, other)


def style_name(painting: str) -> str:
    """Returns the name of the style file for a painting, in the current folder."""
    return f'{pathlib.PurePath(painting).stem or "style"}.safetensors'


def is_style_name(word: str) -> bool:
    """Whether a word is the name of a style file, or of a style in a library."""
    return re.search(r'(?i)\.safetensors(:|$)', word) is not None


def other_flags(names: Collection[str]) -> list[str]:
    """Returns the user's flags of the form ``--name=value``, except for some names.

    Args:
        names: names of the flags to leave out, without dashes.
    """
    flags = [word for word in sys.argv[1:] if word.startswith('--') and '=' in word]
    return [word for word in flags if word[2:].partition('=')[0] not in names]


def with_output(output: str, flag: str) -> str:
    """Returns the user's command with the value of its output flag replaced.

    Args:
        output: the new value.
        flag: name of the output flag without dashes; ``-o`` is the same flag.
    """
    names, words, is_value = ('-o', f'--{flag}', f'-{flag}'), [], False
    for word in sys.argv[1:]:
        name, equals, _ = word.partition('=')
        if is_value or (equals and name in names):
            word = f'{name}={output}' if equals and not is_value else output
        is_value = word in names
        words.append(word)
    return f'{program()} {shlex.join(words)}'


def without_command(words: Sequence[str], is_picture: Callable[[str], bool]) -> str:
    """Makes a message for a missing command, as in ``metastyle painting.jpg photo.jpg``.

    Args:
        words: all words after ``metastyle``.
        is_picture: function that tells whether a word names a picture or a folder.

    Returns:
        The end of a message; '' if the first word is neither a file nor ``--style=…``.
    """
    pictures = [word for word in words if is_picture(word)]
    styles = [word for word in words if not word.startswith('-') and is_style_name(word)]
    is_file = words[0] in (*pictures, *styles)
    if not is_file and not words[0].startswith('--style='):
        return ''
    if any(word.startswith('--style') for word in words):
        return f'a command is missing:{lines("metastyle stylize " + shlex.join(words))}'
    if styles:
        return f'a command is missing:{lines(stylize_line(pictures or [_ANY_PHOTO], styles))}'
    if len(pictures) == 2:
        painting, photo = painting_first(*pictures)
        line = stylize_line([photo], [painting])
        return f'a command is missing. For {photo} in the style of {painting}:{lines(line)}'
    style = style_name(_ANY_PAINTING)
    return (
        'a command is missing. To take the style of a painting, and to stylize photographs:'
        f'{lines(adapt_line(pictures), stylize_line(pictures, [style]))}'
    )


def program() -> str:
    """Returns the program and command that the user typed before the flags."""
    program = sys.argv[0]
    return program if program.startswith('metastyle ') else pathlib.PurePath(program).name
