"""Settings of `metastyle ui`: defaults, ranges and help texts.

This module loads neither JAX nor Gradio, so that `--help` answers at once.
"""

import dataclasses
import os

from metastyle_jax.core import checks

MEGABYTE = 1_000_000
MEGAPIXEL = 1_000_000
MOST_BLENDED = 4  # largest number of paintings in one blend


@dataclasses.dataclass(frozen=True, kw_only=True)
class UiConfig:
    """Settings of the server of the web page, and limits for its visitors."""

    theta: str | os.PathLike | None = checks.setting(
        None,
        'Initialization θ: a file, a training run or hf://OWNER/NAME (default: the one in the '
        'package).',
        path=True,
    )
    """The initialization, see `adapt`; None for the one in the package."""

    library: str | os.PathLike | None = checks.setting(
        None, 'Style file or style library; every visitor can choose its styles.', path=True
    )
    """A style file or a style library; every visitor can choose its styles. None for none."""

    keep: bool = checks.setting(
        True, 'Show a checkbox with which visitors keep their styles in --keep_folder.'
    )
    """Whether visitors may keep their styles on the disk of the server. Every later visitor can
    choose the kept styles."""

    keep_folder: str | os.PathLike | None = checks.setting(
        None,
        'Folder of the styles that visitors keep (default: metastyle_jax/styles in $XDG_DATA_HOME '
        'or in ~/.local/share).',
        path=True,
    )
    """Folder of the styles that visitors keep; None for `metastyle_jax/styles` in `$XDG_DATA_HOME`
    or in `~/.local/share`."""

    host: str = checks.setting(
        '127.0.0.1',
        'Address at which the server listens; 0.0.0.0 lets other computers open the page, without '
        'a password.',
    )
    """Address at which the server listens. With '127.0.0.1' only programs on this computer can
    open the page."""

    port: int = checks.setting(
        7860, 'Port at which the server listens; 0 for any free one.', least=0, most=65535
    )
    """Port at which the server listens, 0 to 65535; 0 for any free one."""

    open: bool = checks.setting(True, 'Open the page in the browser.')
    """Whether to open the page in the browser of this computer."""

    max_upload: int = checks.setting(
        500, 'Largest size of an uploaded file, in megabytes.', least=1
    )
    """Largest size of an uploaded file, in megabytes, at least 1."""

    max_pixels: int = checks.setting(
        100, 'Largest size of an uploaded picture, in megapixels.', least=1, most=200
    )
    """Largest size of an uploaded picture, in megapixels, 1 to 200."""

    max_files: int = checks.setting(
        100, 'Largest number of pictures that a visitor uploads together.', least=1
    )
    """Largest number of pictures that a visitor uploads together, at least 1."""

    max_frames: int = checks.setting(5000, 'Largest number of frames of an uploaded film.', least=1)
    """Largest number of frames of an uploaded film, at least 1."""

    max_styles: int = checks.setting(
        100, 'Largest number of styles in the list of one visitor.', least=1
    )
    """Largest number of styles in the list of one visitor, at least 1."""

    max_visitors: int = checks.setting(
        20, 'Largest number of visitors at the same time; each open page counts.', least=1
    )
    """Largest number of visitors at the same time, at least 1. Each open page counts."""

    max_waiting: int = checks.setting(
        50, 'Largest number of waiting requests; one picture is painted at a time.', least=1
    )
    """Largest number of waiting requests, at least 1. One picture is painted at a time."""

    linger: float = checks.setting(
        60.0,
        'Seconds after a page is closed until the files of its visitor are deleted.',
        least=0,
    )
    """Seconds after a page is closed until the files of its visitor are deleted, at least 0. So a
    phone that loses its connection for a moment does not lose its files."""

    def validate(self) -> None:
        """Raises UserError unless every setting has its type and lies in its range."""
        checks.check_settings(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PaintOptions:
    """How the style of a painting is made."""

    steps: int = checks.setting(10, 'Number of steps. More steps match the style better.', most=100)
    """Number of gradient steps, 0 to 100; 0 for the predicted style."""

    style_size: int = checks.setting(
        256,
        'Size to which the painting is resized, in pixels. A larger size gives finer strokes.',
        least=64,
        most=1024,
    )
    """The painting is resized to the area of a square with this side in pixels, 64 to 1024. A
    larger size gives finer strokes."""

    whole: bool = checks.setting(
        True,
        'Adapt the whole network: a better style, but slower; the style file has 6.7 MB instead of '
        '20 kB.',
    )
    """Whether all parameters are adapted, or only the instance norms."""

    def validate(self) -> None:
        """Raises UserError unless every setting has its type and lies in its range."""
        checks.check_settings(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RenderOptions:
    """How a style is applied to photographs and films."""

    strength: float = checks.setting(
        1.0, 'Strength of the style: 0 is the photograph, 1 the full style.', least=0, most=1
    )
    """Strength of the style, from 0 (the photograph) to 1 (the full style)."""

    keep_colours: bool = checks.setting(False, 'Keep the colours of the photograph.')
    """Whether the colours of the photograph are kept."""

    max_size: int | None = checks.setting(
        None, 'Longest side of the result in pixels.', least=64, most=20_000
    )
    """Longest side of the result in pixels; None for the size of the photograph."""

    def validate(self) -> None:
        """Raises UserError unless every setting has its type and lies in its range."""
        checks.check_settings(self)
