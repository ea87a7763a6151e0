"""Replaces each painting in a list of styles by a function that makes its style when called.

This module loads JAX only when a style is made.
"""

import dataclasses
import functools
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from metastyle_jax.core.commands import first_steps, paths
from metastyle_jax.data.folders import picture_listing
from metastyle_jax.instant.config import InstantConfig

if TYPE_CHECKING:
    from metastyle_jax.storage import style_files


@dataclasses.dataclass(frozen=True)
class PaintingStyle:
    """The style of a painting; the first call makes it.

    Attributes:
        painting: see `instant_style`.
        theta: see `instant_style`.
        config: see `instant_style`.
        progress: see `instant_style`.
        made: called with the finished style.
    """

    painting: Any
    theta: Any = None
    config: InstantConfig = InstantConfig()
    progress: bool = False
    made: Callable[['style_files.Style'], None] = lambda style: None

    def __call__(self) -> 'style_files.Style':
        """Returns the style."""
        return self._style

    @functools.cached_property
    def _style(self) -> 'style_files.Style':
        from metastyle_jax.instant import instant_style

        style = instant_style.instant_style(
            self.painting, self.theta, config=self.config, progress=self.progress
        )
        self.made(style)
        return style


def is_painting(style: Any) -> bool:
    """Whether a style is a picture, according to its content or the suffix of its name.

    Args:
        style: the name of a file, the bytes of a picture, a Pillow image, an array, or a style.
    """
    if isinstance(style, str | os.PathLike):
        word = paths.expand(os.fspath(style))
        if os.path.isfile(word) and picture_listing.is_picture(word):
            return True
        has_suffix = picture_listing.has_suffix_of_picture(word)
        return has_suffix and not first_steps.is_style_name(word)
    arrays = ('__array__', '__array_interface__')  # the second for Pillow images
    return isinstance(style, bytes) or any(hasattr(style, name) for name in arrays)


def with_paintings(style: Any, **options: Any) -> Any:
    """Replaces paintings by `PaintingStyle`.

    Args:
        style: a style or a painting, or a sequence of them.
        **options: fields of `PaintingStyle`.

    Returns:
        Styles in the form that `styled_network.open_styles` takes.
    """
    if is_painting(style):
        return PaintingStyle(style, **options)
    if isinstance(style, list | tuple) and not hasattr(style, '_fields'):  # a style is a NamedTuple
        return [with_paintings(each, **options) for each in style]
    return style
