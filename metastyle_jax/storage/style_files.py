"""Style files: the parameters adapted to one style image, in one ``.safetensors`` file."""

import json
import os
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metastyle_jax.core import errors, types
from metastyle_jax.storage import tensor_files, theta_files

FORMAT_VERSION = 1


class StyleFileError(errors.UserError):
    """A style file cannot be written, read or used."""


class Style(NamedTuple):
    """The parameters that were adapted to one style image, and a record of how they were made.

    Attributes:
        params: name -> float32 array, for the adapted parameters only.
        adapted: which parameters were adapted: 'all', or 'norm' for instance norms.
        style_name: name of the style image.
        style_sha256: SHA-256 of the file of the style image.
        theta_sha256: fingerprint of the θ from which adaptation started.
        settings: settings of the adaptation, of JSON types.
        losses: name -> one number for each step, as ``{'total': [...], 'content': [...]}``.
    """

    params: dict[str, np.ndarray]
    adapted: str
    style_name: str
    style_sha256: str
    theta_sha256: str
    settings: dict[str, Any]
    losses: dict[str, Any]


_TEXTS = ('adapted', 'style_name', 'style_sha256', 'theta_sha256')
_JSONS = ('settings', 'losses')
_FORMAT = tensor_files.FileFormat(
    name='metastyle_jax.style',
    version=FORMAT_VERSION,
    noun='style file',
    remedy='give it as theta=FILE, and make a style with `metastyle adapt`',
    keys=(*_TEXTS, *_JSONS),
    error=StyleFileError,
)


def save_style(path: str | os.PathLike[str], style: Style, *, overwrite: bool = False) -> None:
    """Writes a style to one ``.safetensors`` file, completely or not at all.

    Args:
        path: the file.
        style: the style; its tensors are stored as float32.
        overwrite: whether an existing file may be replaced.

    Raises:
        StyleFileError: the file exists or cannot be written, or a value is not finite.
    """
    arrays = {name: np.asarray(array) for name, array in style.params.items()}
    flat = tensor_files.as_float32(arrays, pathlib.Path(path), StyleFileError)
    metadata = {name: str(getattr(style, name)) for name in _TEXTS}
    metadata |= {name: json.dumps(getattr(style, name), default=str) for name in _JSONS}
    tensor_files.write(pathlib.Path(path), flat, metadata, _FORMAT, overwrite=overwrite)


def check_output(path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Checks before an adaptation that `save_style` will be able to write the file.

    Args:
        path: the file to be written later; nothing is created.
        overwrite: whether an existing file may be replaced.

    Raises:
        StyleFileError: the suffix is not ``.safetensors``, the file exists and may not be replaced,
            or its folder is missing or not writable.
    """
    tensor_files.check_output(pathlib.Path(path), _FORMAT, overwrite=overwrite)


def load_style(path: str | os.PathLike[str]) -> Style:
    """Reads a style file.

    Args:
        path: a file that `save_style` wrote.

    Raises:
        StyleFileError: the file is missing, damaged, not a style file, or of another version.
    """
    path = pathlib.Path(path)
    flat, metadata = tensor_files.read(path, _FORMAT)
    flat = tensor_files.as_float32(flat, path, StyleFileError)
    texts = {name: metadata[name] for name in _TEXTS}
    jsons = {name: tensor_files.read_json(metadata, name, path, StyleFileError) for name in _JSONS}
    return Style(flat, **texts, **jsons)  # type: ignore[arg-type]


def merge_style(style: Style, theta: theta_files.Theta | None = None) -> types.Params:
    """Completes the adapted parameters of a style with those of θ.

    Args:
        style: the style, from `load_style` or `adapt`.
        theta: the θ from which the style was adapted; needed if only instance norms were adapted.

    Returns:
        All parameters of the transformer, float32, in the structure of θ if it is given, else as
        nested dicts.

    Raises:
        StyleFileError: θ is needed and missing, the style was adapted from another θ, or names or
            shapes differ.
    """
    source = f'The style {style.style_name!r}'
    if theta is None:
        if style.adapted != 'all':
            raise StyleFileError(
                f'{source} holds instance norms only: give the θ from which it was adapted, '
                f'{style.theta_sha256}, as theta=PATH.'
            )
        return jax.tree.map(jnp.asarray, tensor_files.unflatten(style.params))
    if theta.fingerprint != style.theta_sha256:
        raise StyleFileError(
            f'{source} was adapted from the θ {style.theta_sha256}, but '
            f'theta is {theta.fingerprint}: give that θ, or adapt again from this one.'
        )
    flat = dict(style.params)
    if style.adapted != 'all':
        flat = tensor_files.flatten(theta.params) | flat
    return tensor_files.restore_tree(theta.params, flat, source=source, error=StyleFileError)
