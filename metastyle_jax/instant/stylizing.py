"""The functions of stylization; here a style may also be a painting."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from metastyle_jax.instant import paintings
from metastyle_jax.stylization import grids as _grids
from metastyle_jax.stylization import stylize as _stylize
from metastyle_jax.stylization import stylize_folder as _stylize_folder
from metastyle_jax.stylization import stylize_video as _stylize_video

_NOTE = """
    A style may also be a painting: a picture in any form that `adapt` accepts. `instant_style` then
    makes its style with the default settings. For other settings, call `instant_style` and pass its
    result as the style.
"""


def _taking_paintings(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function whose first argument, a style or several, may hold paintings."""
    signature = inspect.signature(function)
    first = next(iter(signature.parameters))

    @functools.wraps(function)
    def stylizing(*arguments: Any, **options: Any) -> Any:
        bound = signature.bind(*arguments, **options)
        bound.arguments[first] = paintings.with_paintings(
            bound.arguments[first],
            theta=options.get('theta'),
            progress=bool(options.get('progress')),
        )
        return function(*bound.args, **bound.kwargs)

    before, args, after = (function.__doc__ or '').partition('\n    Args:')
    stylizing.__doc__ = f'{before.rstrip()}\n{_NOTE}{args}{after}'
    return stylizing


stylize = _taking_paintings(_stylize.stylize)
stylize_file = _taking_paintings(_stylize_folder.stylize_file)
stylize_folder = _taking_paintings(_stylize_folder.stylize_folder)
stylize_video = _taking_paintings(_stylize_video.stylize_video)
draw_grid = _taking_paintings(_grids.draw_grid)
animate = _taking_paintings(_grids.animate)
