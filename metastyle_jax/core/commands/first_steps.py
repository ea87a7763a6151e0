"""The commands that would have worked, spelt out with the user's own file names."""

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
    """The command that makes a style file of a painting, or a library of several."""
    default = style_name(paintings[0]) if len(paintings) == 1 else 'library.safetensors'
    return f'metastyle adapt {shlex.join(paintings)} -o {shlex.quote(out or default)}'


def stylize_line(
    photos: Sequence[str], styles: Sequence[str], output: str = '', flags: Sequence[str] = ()
) -> str:
    """The command that applies style files to photographs."""
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
    """The commands that bring the style of paintings onto photographs.

    Args:
        paintings: pictures; a style of each is made and all are applied.
        photos: pictures to stylize.
        output: where to write; '' for a name that fits.
        flags: other flags of the second command.
    """
    styles = [style_name(painting) for painting in paintings]
    return [
        *(adapt_line([painting]) for painting in paintings),
        stylize_line(photos or [_ANY_PHOTO], styles, output, flags),
    ]


def lines(*commands: str) -> str:
    """Commands for the end of a message, each on a line of its own."""
    return ''.join(f'\n  {command}' for command in commands)


def painting_first(one: str, other: str) -> tuple[str, str]:
    """Guesses by their names which of two pictures is the painting; the first one if in doubt.

    Args:
        one: a picture.
        other: another one.

    Returns:
        The painting, and the photograph.
    """

    def score(name: str) -> int:
        stem = pathlib.PurePath(name).stem.casefold()
        return any(word in stem for word in _PAINTING_WORDS) - stem.startswith(_PHOTO_WORDS)

    return (other, one) if score(other) > score(one) else (one, other)


def style_name(painting: str) -> str:
    """Name of the style file for a painting, in the folder where the user is."""
    return f'{pathlib.PurePath(painting).stem or "style"}.safetensors'


def is_style_name(word: str) -> bool:
    """Whether a word is the name of a style file, or of a style in a library."""
    return re.search(r'(?i)\.safetensors(:|$)', word) is not None


def other_flags(names: Collection[str]) -> list[str]:
    """The user's flags but those of some names, as they were written.

    Args:
        names: flags to leave out, without dashes.
    """
    flags = [word for word in sys.argv[1:] if word.startswith('--') and '=' in word]
    return [word for word in flags if word[2:].partition('=')[0] not in names]


def with_output(output: str, flag: str) -> str:
    """The user's command with another output.

    Args:
        output: what to write instead.
        flag: the flag that ``-o`` stands for, without dashes.
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
    """Message for a user who left out the command, as in ``metastyle painting.jpg photo.jpg``.

    Args:
        words: all words behind ``metastyle``.
        is_picture: whether a word is the name of a picture or of a folder.

    Returns:
        The end of a message; '' if the first word is no file.
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
        return (
            f'for {photo} in the style of {painting}, two commands are needed:'
            f'{lines(*both_lines([painting], [photo]))}'
        )
    style = style_name(_ANY_PAINTING)
    return (
        'a command is missing. To take the style of a painting, and to stylize photographs:'
        f'{lines(adapt_line(pictures), stylize_line(pictures, [style]))}'
    )


def program() -> str:
    """What the user typed in front of the flags."""
    program = sys.argv[0]
    return program if program.startswith('metastyle ') else pathlib.PurePath(program).name
