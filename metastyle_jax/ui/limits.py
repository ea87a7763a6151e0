"""Checks uploaded files before any work is done; each error message is one sentence."""

import os
import pathlib
import re

from metastyle_jax.core import files
from metastyle_jax.core.errors import UserError
from metastyle_jax.data.images import image_files
from metastyle_jax.ui.config import MEGABYTE, MEGAPIXEL, UiConfig


def check_size(path: pathlib.Path, config: UiConfig) -> None:
    """Raises UserError if an uploaded file is missing, empty or too large.

    Args:
        path: the uploaded file.
        config: the limits.
    """
    try:
        size = os.stat(path).st_size
    except OSError as error:
        raise UserError(f'{path.name} did not arrive on the server: upload it again') from error
    if not size:
        raise UserError(f'{path.name} is empty: was the upload interrupted? Upload it again')
    if size > config.max_upload * MEGABYTE:
        raise UserError(
            f'{path.name} is larger than the limit of {config.max_upload} megabytes: choose a '
            'smaller file'
        )


def check_picture(path: pathlib.Path, config: UiConfig) -> list[str]:
    """Checks an uploaded picture; only its header is decoded.

    Args:
        path: the uploaded file.
        config: the limits.

    Returns:
        Sentences for the visitor about a usable picture, such as a warning.

    Raises:
        UserError: the file is not a readable picture, or it is too large.
    """
    check_size(path, config)
    height, width = image_files.probe(path)
    if height * width > config.max_pixels * MEGAPIXEL:
        raise UserError(
            f'{path.name} has {width} × {height} pixels, and at most {config.max_pixels} million '
            'are allowed: reduce it first'
        )
    frames = image_files.frames(path)
    return [f'{path.name}: only the first of its {frames} frames is used.'] if frames > 1 else []


def check_count(paths: list[pathlib.Path], config: UiConfig) -> None:
    """Raises UserError if no file is given, or too many are.

    Args:
        paths: the uploaded files.
        config: the limits.
    """
    if not paths:
        raise UserError('No file is chosen: choose at least one')
    if len(paths) > config.max_files:
        raise UserError(
            f'{len(paths)} files are chosen, and at most {config.max_files} are allowed: choose '
            'fewer'
        )


def sentence(error: Exception, *roots: pathlib.Path) -> str:
    """Returns the message of an error for a visitor, without paths of the server.

    Args:
        error: the error.
        *roots: folders of the visitors' files; they and their sub-folders are removed from paths.
    """
    text = files.shown(str(error)).strip()
    for root in roots:
        text = re.sub(re.escape(f'{root}{os.sep}') + r'(?:[^/\\\s]+[/\\])*', '', text)
    return text[:1].upper() + text[1:] + ('' if text.endswith(('.', '!', '?')) else '.')
