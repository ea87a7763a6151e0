"""How pictures are to look: one style or a blend, its strength, whose colours stay.

Source: Zhang, Zhu and Zhu 2019, arXiv 1812.05233, for blends.
"""

import os
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from metastyle_jax.core.errors import UserError
from metastyle_jax.core.types import Params
from metastyle_jax.models import transformer
from metastyle_jax.storage import style_files, style_library, theta_files
from metastyle_jax.stylization import blending

StyleLike: TypeAlias = str | os.PathLike | style_files.Style


class Look(NamedTuple):
    """How pictures are to look.

    Attributes:
        params: of the network.
        theta: of the unadapted network; needed for a strength below 1.
        strength: 1 for the style, 0 for the photograph itself, see `stylize`.
        keep_colours: whether the photograph's colours stay.
    """

    params: Params
    theta: Params | None = None
    strength: float = 1.0
    keep_colours: bool = False


def load(
    style: StyleLike | Sequence[StyleLike],
    *,
    weights: Sequence[float] | None = None,
    strength: float = 1.0,
    keep_colours: bool = False,
    theta: str | os.PathLike | theta_files.Theta | None = None,
) -> Look:
    """What a style or a blend is to look like; see `stylize.stylize` for the arguments."""
    _check_strength(strength)
    found = open_styles(style)
    if weights is None:
        weights = [1 / len(found)] * len(found)
    blending.check_weights(weights, len(found))
    for other in found[1:]:
        if other.theta_sha256 != found[0].theta_sha256:
            raise UserError(
                f'the styles {found[0].style_name!r} and {other.style_name!r} were adapted from '
                'different θ, so they cannot be blended: adapt both from one'
            )
    if theta is not None and not isinstance(theta, theta_files.Theta):
        theta = theta_files.load_theta(theta)
    if theta is None and (strength < 1 or any(one.adapted != 'all' for one in found)):
        shipped = theta_files.load_theta()
        theta = shipped if shipped.fingerprint == found[0].theta_sha256 else None
    if theta is None and strength < 1:
        raise UserError(
            f'strength={strength:g} needs the θ that the style was adapted from, '
            f'{found[0].theta_sha256}: give it with --theta'
        )
    networks = [style_files.merge_style(one, theta) for one in found]
    for network in networks:
        transformer.check(network)
    params = networks[0] if len(networks) == 1 else blending.blend(networks, weights)
    return Look(params, theta and theta.params, strength, keep_colours)


def load_batch(
    styles_of: style_library.Library,
    names: Sequence[str],
    *,
    strength: float = 1.0,
    keep_colours: bool = False,
    theta: str | os.PathLike | theta_files.Theta | None = None,
) -> Look:
    """What gives each of N pictures of a batch a style of its own."""
    _check_strength(strength)
    adapted, plain = style_library.stack(
        styles_of, names, style_library.own_theta(styles_of, theta)
    )
    return Look(adapted, plain, strength, keep_colours)


def _check_strength(strength: float) -> None:
    if not 0 <= strength <= 1:
        raise UserError(f'strength={strength}: it must be between 0 and 1')


def open_styles(style: StyleLike | Sequence[StyleLike]) -> list[style_files.Style]:
    """One style or several, from files or from memory."""
    if isinstance(style, style_files.Style):
        return [style]
    if isinstance(style, str | os.PathLike):
        return [style_library.open_style(style)]
    found = [one for each in style for one in open_styles(each)]
    if not found:
        raise UserError('no style is given: name at least one')
    return found


def network(look: Look) -> Params:
    """The parameters that make a look of some strength."""
    if look.strength == 1:
        return look.params
    return blending.blend([look.params, look.theta], [look.strength, 1 - look.strength])


def numbers(words: Sequence[str] | None) -> list[float] | None:
    """Reads the value of --weights."""
    try:
        return None if words is None else [float(word) for word in words]
    except ValueError as error:
        raise UserError(f'--weights={",".join(words or ())}: write numbers, as 0.3,0.7') from error
