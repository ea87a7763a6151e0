"""Styles on the disk of the server: a library for all visitors, and styles kept by visitors."""

import os
import pathlib
import re
import threading

from absl import logging

from metastyle_jax.core import files
from metastyle_jax.core.commands import paths
from metastyle_jax.core.errors import UserError
from metastyle_jax.storage import style_files, style_library, tensor_files, theta_files
from metastyle_jax.stylization import styled_network

SUFFIX = '.safetensors'


def read(
    path: str | os.PathLike, theta: theta_files.Theta, most: int
) -> dict[str, style_files.Style]:
    """Reads a style file, or all styles of a style library.

    Args:
        path: the file.
        theta: the initialization from which the styles must have been adapted.
        most: largest number of styles in the file.

    Returns:
        Name -> style.

    Raises:
        UserError: the file cannot be read, has too many styles, or belongs to another θ.
    """
    path = pathlib.Path(paths.expand(os.fspath(path)))
    if not style_library.is_library(path):
        style = style_files.load_style(path)
        _check_theta(style.theta_sha256, path.name, theta)
        return {style_library.stem_of(style.style_name) or path.stem: style}
    library = style_library.load(path)
    _check_theta(library.theta_sha256, path.name, theta)
    if len(library.names) > most:
        raise UserError(
            f'{path.name} has {len(library.names)} styles, more than {most}: use a smaller library'
        )
    styled_network.stack_parameters(library, library.names[:1], theta)  # checks the tensors
    return {
        style_library.stem_of(name): style_library.pick(library, name) for name in library.names
    }


def _check_theta(fingerprint: str, name: str, theta: theta_files.Theta) -> None:
    if fingerprint != theta.fingerprint:
        raise UserError(
            f'{name} was adapted from the initialization θ {fingerprint[:12]}…, and this page uses '
            f'{theta.fingerprint[:12]}…: start the page with the θ of the file (--theta)'
        )


class KeptStyles:
    """The folder of the styles that visitors kept.

    Args:
        folder: the folder; None for `metastyle_jax/styles` in the user's data folder.
    """

    def __init__(self, folder: str | os.PathLike | None) -> None:
        if folder is None:
            folder = _default_folder()
        self.folder = pathlib.Path(paths.expand(os.fspath(folder)))
        self._lock = threading.Lock()  # visitors may keep styles of one name at once

    def save(self, name: str, style: style_files.Style) -> pathlib.Path:
        """Writes a style to a new file, unless a file of this name holds the same style.

        A number is added to the name if a file of this name holds another style.

        Args:
            name: name of the style; characters that file names cannot have are replaced.
            style: the style.

        Returns:
            The file.

        Raises:
            UserError: the file cannot be written.
        """
        with self._lock:
            paths.make_folder(self.folder, UserError)
            stem, number = file_stem(name), 1
            target = self.folder / f'{stem}{SUFFIX}'
            while target.exists():
                if _holds(target, style):
                    return target
                number += 1
                target = self.folder / f'{stem}_{number}{SUFFIX}'
            style_files.save_style(target, style)
        return target

    def read_all(self, theta: theta_files.Theta) -> dict[str, style_files.Style]:
        """Reads the kept styles of a θ; files that cannot be used are logged and left out."""
        found: dict[str, style_files.Style] = {}
        for path in sorted(self.folder.glob(f'*{SUFFIX}')):
            try:
                for style in read(path, theta, most=1).values():
                    found[path.stem] = style
            except (UserError, OSError) as error:
                logging.warning('%s is left out: %s', path, files.first_line(error))
        return found


def _default_folder() -> pathlib.Path:
    """Returns the folder of kept styles among the user's data; it may not exist."""
    try:
        root = os.environ.get('XDG_DATA_HOME') or pathlib.Path.home() / '.local' / 'share'
    except RuntimeError as error:
        raise UserError(
            'there is no home folder, so styles cannot be kept: set keep_folder=FOLDER or '
            'keep=False'
        ) from error
    return pathlib.Path(root, 'metastyle_jax', 'styles')


def _holds(path: pathlib.Path, style: style_files.Style) -> bool:
    """Whether a style file has the tensors of a style; False if it cannot be read."""
    try:
        known = style_files.load_style(path)
    except (UserError, OSError):
        return False
    fingerprints = (tensor_files.fingerprint(each.params) for each in (known, style))
    return known.theta_sha256 == style.theta_sha256 and len({*fingerprints}) == 1


def file_stem(name: str) -> str:
    """Returns a file name without suffix that every operating system accepts."""
    return re.sub(r'[^\w.-]+', '_', name).strip('._')[:80] or 'style'
