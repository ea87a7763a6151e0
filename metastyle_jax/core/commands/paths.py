"""Parses paths on the command line: expands ``~``, and detects web addresses.

A shell expands ``~/x.jpg``, but not ``--style=~/x.safetensors``, so commands do this themselves.
This module imports nothing that takes long to load.
"""

import os
import pathlib
import re
import shlex
import urllib.parse
from collections.abc import Collection

from absl import flags

# `pathlib` makes one slash of two, so one is enough.
_ADDRESS = re.compile(r'(?i)(https?|ftps?|s3|gs|file):/+.+', re.DOTALL)
_COPY = {'s3': 'aws s3 cp {address} {name}', 'gs': 'gcloud storage cp {address} {name}'}
_DOWNLOAD = 'curl -L -o {name} {address}'


def expand(word: str) -> str:
    """Expands a leading ``~`` or ``~user``, unless a file with this very name exists.

    Args:
        word: a path, or ``LIBRARY.safetensors:NAME``.
    """
    return word if os.path.lexists(word) else os.path.expanduser(word)


def scheme_of(word: str | os.PathLike[str]) -> str:
    """Returns the scheme of an address, such as 'https' or 's3'; '' for a path.

    Args:
        word: the word that the user gave for a file. The name of an existing file is a path.
    """
    match = _ADDRESS.fullmatch(os.fspath(word))
    return match[1].lower() if match and not os.path.lexists(word) else ''


def address_remedy(word: str | os.PathLike[str]) -> str:
    """Returns a text that says how to download an address; '' if the word is not an address.

    Args:
        word: the word that the user gave for a file.
    """
    scheme = scheme_of(word)
    if not scheme:
        return ''
    _, _, rest = os.fspath(word).partition(':')
    rest = rest.lstrip('/')
    if scheme == 'file':
        path = urllib.parse.unquote(rest.removeprefix('localhost/'))
        is_drive = re.match('[a-zA-Z]:', path) is not None
        return f'write the path without file://, {shlex.quote(path if is_drive else f"/{path}")}'
    address = f'{scheme}://{rest}'
    name = urllib.parse.unquote(urllib.parse.urlsplit(address).path).rpartition('/')[2]
    command = _COPY.get(scheme, _DOWNLOAD).format(
        address=shlex.quote(address), name=shlex.quote(name or 'download')
    )
    return f'only files of this machine are read; download it first: {command}'


def names_folder(path: str | os.PathLike[str]) -> bool:
    """Whether a path names an existing folder, or ends in a slash."""
    word = os.fspath(path)
    return word.endswith(('/', os.sep)) or os.path.isdir(word)


def make_folder(folder: pathlib.Path, error: type[Exception]) -> None:
    """Creates a folder and its parent folders if they do not exist.

    Args:
        folder: the folder.
        error: class of the error.

    Raises:
        error: the folder cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as cause:
        raise error(f'{folder} cannot be made ({cause.strerror}): choose another output') from cause


class PathParser(flags.ArgumentParser):
    """Parses a flag that is a path.

    Args:
        writes: whether the command writes to the path.
        schemes: schemes of the addresses that the command accepts, such as 'gs'.
        is_list: whether the value is a list of paths, separated by commas; each may have a name, as
            in ``NAME=PATH``.
    """

    def __init__(
        self, *, writes: bool = False, schemes: Collection[str] = (), is_list: bool = False
    ) -> None:
        self._writes = writes
        self._schemes = tuple(schemes)
        self._is_list = is_list

    def parse(self, argument):
        """Returns the path or the list of paths, with ``~`` expanded."""
        if not self._is_list:
            return expand(argument) if isinstance(argument, str) else argument
        words = flags.ListParser().parse(argument)
        return [re.sub('(?<==)~.*|^~.*', lambda match: expand(match[0]), word) for word in words]

    def problem_of(self, value: str) -> str:
        """Returns what is wrong with an address that the command does not accept, else ''."""
        scheme = scheme_of(value)
        if not scheme or scheme in self._schemes:
            return ''
        if self._writes and scheme != 'file':
            return 'only files of this machine are written; write to a file, and upload it then'
        return address_remedy(value)


def address_problems(values: flags.FlagValues) -> list[str]:
    """Lists the flags whose value is an address that the command does not accept.

    Args:
        values: the parsed flags.

    Returns:
        A message for each, such as ``--style=https://…: download it first: …``.
    """
    problems = []
    for name in values:
        parser, value = values[name].parser, values[name].value
        if isinstance(parser, PathParser):
            for word in value if isinstance(value, list) else [value]:
                if isinstance(word, str) and (problem := parser.problem_of(word)):
                    problems.append(f'--{name}={word}: {problem}')
    return problems
