"""Loads the network that stylizes: parameters of a style or a blend, strength, kept colours."""

import os
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from metastyle_jax.core import checks
from metastyle_jax.core.errors import UserError
from metastyle_jax.core.types import Params
from metastyle_jax.models import transformer
from metastyle_jax.storage import style_files, style_library, tensor_files, theta_files
from metastyle_jax.stylization import blending

# A style file, LIBRARY.safetensors:NAME, a style that `adapt` returned, or a function that returns
# a style. The function is called late, after other arguments were checked: its work may take long.
StyleLike: TypeAlias = str | os.PathLike | style_files.Style | Callable[[], style_files.Style]
ThetaLike: TypeAlias = str | os.PathLike | theta_files.Theta


class StyledNetwork(NamedTuple):
    """A network and how its output is combined with the photograph.

    Attributes:
        params: the adapted parameters of one style or of a blend.
        theta_params: the parameters of θ, before adaptation; None if the strength is 1 and they are
            not needed.
        strength: strength of the style, from 0 (the photograph itself) to 1 (the full style).
        keep_colours: whether the photograph's colours are kept.
    """

    params: Params
    theta_params: Params | None = None
    strength: float = 1.0
    keep_colours: bool = False

    def forward_params(self) -> Params:
        """Returns the parameters for the forward pass: s·params + (1 − s)·θ for the strength s."""
        if self.strength == 1:
            return self.params
        return blending.blend([self.params, self.theta_params], [self.strength, 1 - self.strength])


def load(
    style: StyleLike | Sequence[StyleLike],
    *,
    weights: Sequence[float] | None = None,
    strength: float = 1.0,
    keep_colours: bool = False,
    theta: ThetaLike | None = None,
) -> StyledNetwork:
    """Loads the network of a style, or of a blend of styles.

    Args:
        style: a style, or several to be blended.
        weights: weights of the styles in the blend, not negative, with the sum 1; None for equal
            weights.
        strength: see `StyledNetwork`.
        keep_colours: see `StyledNetwork`.
        theta: the initialization from which the styles were adapted; None for the one in the
            package. It is used if only instance norms were adapted, or if the strength is below 1.

    Raises:
        UserError: an argument is invalid, a file cannot be read, or the styles were not adapted
            from θ.
    """
    _check_strength(strength)
    styles = open_styles(style)
    if weights is None:
        weights = [1 / len(styles)] * len(styles)
    blending.check_weights(weights, len(styles))
    for other in styles[1:]:
        # The mean of networks is a working network only if they have the same starting point.
        if other.theta_sha256 != styles[0].theta_sha256:
            raise UserError(
                f'the styles {styles[0].style_name!r} and {other.style_name!r} were adapted from '
                'different θ, so they cannot be blended: adapt both from the same θ'
            )
    theta = _theta_of(styles, theta, strength)
    networks = [style_files.merge_style(each, theta) for each in styles]
    for network in networks:
        transformer.check(network)
    params = networks[0] if len(networks) == 1 else blending.blend(networks, weights)
    return StyledNetwork(params, theta and theta.params, strength, keep_colours)


def _theta_of(
    styles: Sequence[style_files.Style], theta: ThetaLike | None, strength: float
) -> theta_files.Theta | None:
    """Loads θ if it is given or needed; returns None if the styles do not need it."""
    if isinstance(theta, theta_files.Theta):
        return theta
    if theta is not None:
        return theta_files.load_theta(theta)
    if strength == 1 and all(style.adapted == 'all' for style in styles):
        return None
    fingerprint = styles[0].theta_sha256
    packaged = theta_files.load_theta()
    if packaged.fingerprint == fingerprint:
        return packaged
    if strength < 1:
        raise UserError(
            f'strength={strength:g} needs the θ from which the style was adapted, {fingerprint}: '
            'give it with theta='
        )
    return None  # `style_files.merge_style` explains what is missing


def load_batch(
    library: style_library.Library,
    names: Sequence[str],
    *,
    strength: float = 1.0,
    keep_colours: bool = False,
    theta: ThetaLike | None = None,
) -> StyledNetwork:
    """Loads one network that stylizes each image of a batch in a different style.

    Args:
        library: the style library.
        names: N names of styles, one for each image.
        strength: see `StyledNetwork`.
        keep_colours: see `StyledNetwork`.
        theta: the initialization from which the library was adapted; None for the one in the
            package.

    Raises:
        UserError: an argument is invalid, or the library was not adapted from θ.
    """
    _check_strength(strength)
    theta = theta_of_library(library, theta)
    adapted, theta_params = stack_parameters(library, names, theta)
    return StyledNetwork(adapted, theta_params, strength, keep_colours)


def theta_of_library(library: style_library.Library, theta: ThetaLike | None) -> theta_files.Theta:
    """Reads the θ from which a library was adapted.

    Args:
        library: the style library.
        theta: this θ, or its file; None for the θ in the package.

    Raises:
        UserError: θ cannot be read, or the library was adapted from another θ.
    """
    source = 'the θ in the package' if theta is None else 'theta'
    if not isinstance(theta, theta_files.Theta):
        theta = theta_files.load_theta(theta)
    if theta.fingerprint != library.theta_sha256:
        raise style_files.StyleFileError(
            f'The library was adapted from the θ {library.theta_sha256}, but {source} is '
            f'{theta.fingerprint}: give that θ as theta=PATH, or adapt again from this one.'
        )
    return theta


def stack_parameters(
    library: style_library.Library, names: Sequence[str], theta: theta_files.Theta
) -> tuple[Params, Params]:
    """Stacks the instance norms of N styles, so that one forward pass draws N images in N styles.

    Args:
        library: the style library.
        names: N names of styles, one for each image.
        theta: the θ from which the library was adapted.

    Returns:
        Two sets of parameters for `transformer.apply` on N images. In both, the scales and biases
        of instance norms are `[N, C]`: those of the N styles in the first set, N copies of those of
        θ in the second.

    Raises:
        UserError: a name is unknown, or the tensors of the library are not the norms of θ.
    """
    flat = tensor_files.flatten(theta.params)
    is_norm = transformer.adapted('norm')
    expected = {name: leaf.shape for name, leaf in flat.items() if is_norm(name)}
    if {name: array.shape[1:] for name, array in library.params.items()} != expected:
        raise style_files.StyleFileError(
            'The library has other tensors than the instance norms of its θ: make it again.'
        )
    rows = [library.names.index(style_library.resolve(library, name)) for name in names]
    adapted = {name: array[rows] for name, array in library.params.items()}
    plain = {name: np.repeat(flat[name][None], len(rows), axis=0) for name in adapted}
    return tensor_files.unflatten(flat | adapted), tensor_files.unflatten(flat | plain)


def _check_strength(strength: float) -> None:
    checks.real_number('strength', strength, least=0, most=1)


def open_styles(style: StyleLike | Sequence[StyleLike]) -> list[style_files.Style]:
    """Reads one style or several; styles that are in memory already are returned as they are.

    Args:
        style: a style, or a sequence of styles.

    Returns:
        The styles, at least one.

    Raises:
        UserError: a style cannot be read, or no style is given.
    """
    if isinstance(style, style_files.Style):
        return [style]
    if isinstance(style, str | os.PathLike):
        return [style_library.open_style(style)]
    if callable(style):
        return [style()]
    styles = [one for each in style for one in open_styles(each)]
    if not styles:
        raise UserError('no style is given: name at least one')
    return styles
