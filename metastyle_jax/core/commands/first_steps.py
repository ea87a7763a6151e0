"""The commands that would have worked, spelt out with the user's own file names."""

import pathlib
import shlex
from collections.abc import Sequence

_PAINTING_WORDS = ('paint', 'style', 'art', 'gogh', 'monet', 'picasso', 'texture')
_PHOTO_WORDS = ('photo', 'content', 'img', 'dsc', 'input', 'me', 'portrait')


def adapt_line(painting: str, out: str = '') -> str:
    """The command that makes a style file of a painting."""
    return f'metastyle adapt {shlex.quote(painting)} -o {shlex.quote(out or style_name(painting))}'


def stylize_line(photos: Sequence[str], style: str, output: str = '', *more: str) -> str:
    """The command that applies a style file to photographs."""
    output = output or ('out.png' if len(photos) == 1 else 'stylized/')
    words = [*photos, f'--style={style}', '-o', output, *more]
    return f'metastyle stylize {shlex.join(words)}'


def both_lines(painting: str, photos: Sequence[str], output: str = '') -> str:
    """The two commands that bring a painting onto photographs, each on a line of its own."""
    style = style_name(painting)
    return _indented([adapt_line(painting, style), stylize_line(photos, style, output)])


def painting_first(one: str, other: str) -> tuple[str, str]:
    """Guesses by their names which of two pictures is the painting; the first one if in doubt.

    Args:
        one: a picture.
        other: another one.

    Returns:
        The painting, and the photograph.
    """
    score = lambda name: (
        any(word in pathlib.PurePath(name).stem.casefold() for word in _PAINTING_WORDS)
        - any(pathlib.PurePath(name).stem.casefold().startswith(word) for word in _PHOTO_WORDS)
    )
    return (other, one) if score(other) > score(one) else (one, other)


def style_name(painting: str) -> str:
    """Name of the style file for a painting, in the folder where the user is."""
    return f'{pathlib.PurePath(painting).stem or "style"}.safetensors'


def is_style_name(word: str) -> bool:
    """Whether a word is the name of a style file, or of a style in a library."""
    return word.lower().endswith('.safetensors') or '.safetensors:' in word.lower()


def _indented(lines: Sequence[str]) -> str:
    return '\n'.join(f'  {line}' for line in lines)
