"""The functions of stylization, for which a style may also be a painting."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from metastyle_jax.instant import paintings
from metastyle_jax.instant.config import InstantConfig
from metastyle_jax.stylization import grids as _grids
from metastyle_jax.stylization import stylize as _stylize
from metastyle_jax.stylization import stylize_folder as _stylize_folder
from metastyle_jax.stylization import stylize_video as _stylize_video

_STEPS = """
        steps: for paintings. A style may also be a painting: a picture in any form that `adapt`
            takes. Its style is made by `instant_style` with this number of gradient steps; None
            for the default, 0 for the prediction alone.
"""


def _taking_paintings(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function whose first argument may hold paintings, with the argument `steps`."""
    signature = inspect.signature(function)
    first = next(iter(signature.parameters))

    @functools.wraps(function)
    def stylizing(*arguments: Any, steps: int | None = None, **options: Any) -> Any:
        bound = signature.bind(*arguments, **options)
        config = InstantConfig(steps=steps)
        config.validate()
        bound.arguments[first] = paintings.with_paintings(
            bound.arguments[first],
            theta=options.get('theta'),
            config=config,
            progress=bool(options.get('progress')),
        )
        return function(*bound.args, **bound.kwargs)

    steps = inspect.Parameter('steps', inspect.Parameter.KEYWORD_ONLY, default=None,
                              annotation=int | None)  # fmt: skip
    parameters = [*signature.parameters.values()]
    place = len(parameters) - any(each.kind is each.VAR_KEYWORD for each in parameters)
    parameters.insert(place, steps)
    stylizing.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    before, returns, after = (function.__doc__ or '').partition('\n    Returns:')
    stylizing.__doc__ = f'{before.rstrip()}{_STEPS}{returns}{after}'
    return stylizing


stylize = _taking_paintings(_stylize.stylize)
stylize_file = _taking_paintings(_stylize_folder.stylize_file)
stylize_folder = _taking_paintings(_stylize_folder.stylize_folder)
stylize_video = _taking_paintings(_stylize_video.stylize_video)
draw_grid = _taking_paintings(_grids.draw_grid)
animate = _taking_paintings(_grids.animate)
