"""The contact sheet of `metastyle poster --pictures`: photographs stylized by all systems."""

import functools
from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np

from metastyle_jax.adaptation import style_image
from metastyle_jax.core import progress_bar
from metastyle_jax.core.errors import UserError
from metastyle_jax.data.images import contact_sheet, image_inputs, resizing
from metastyle_jax.evaluation.poster import quality
from metastyle_jax.evaluation.poster.config import PosterConfig


def draw(
    style: image_inputs.ImageLike,
    photographs: Sequence[image_inputs.ImageLike],
    *,
    config: PosterConfig | None = None,
    weights: Mapping[str, str] | None = None,
) -> tuple[np.ndarray, dict[str, str]]:
    """Stylizes photographs with all systems: one row per photograph, one column per system.

    Args:
        style: the style image: a file, a Pillow image or an array, see `image_inputs.as_rgb`.
        photographs: the photographs, in one of these forms.
        config: settings; None for the defaults. `config.size` is the longer side of a picture.
        weights: system -> file of its weights; None for those of the package.

    Returns:
        `[H, W, 3]` float32 in 0..1, and for each missing system the reason.

    Raises:
        UserError: an image or a setting cannot be used, or no system has weights.
    """
    config = config or PosterConfig()
    config.validate()
    fit = functools.partial(resizing.fit_size, config.size)
    painting = image_inputs.as_rgb(
        style, name='style', target=functools.partial(style_image.fit_size, config.style_size)
    )
    contents = [image_inputs.as_rgb(photo, name='input', target=fit) for photo in photographs]
    columns: dict[str, list[np.ndarray]] = {}
    missing: dict[str, str] = {}
    for name in progress_bar.show(config.systems, description='stylizing', unit='system'):
        try:
            painter = quality.load_painter(name, config, weights=(weights or {}).get(name))
        except UserError as error:
            missing[name] = str(error)
            continue
        encoded = painter.encode_style(jnp.asarray(painting))
        caption = f'{name} ({painter.note})' if painter.note else name
        columns[caption] = [
            np.asarray(painter.apply(encoded, jnp.asarray(content)[None]))[0]
            for content in contents
        ]
    if not columns:
        raise UserError(f'no system can be shown: {next(iter(missing.values()))}')
    rows = [
        [painting, content, *pictures]
        for content, *pictures in zip(contents, *columns.values(), strict=True)
    ]
    captions = [['style', 'photograph', *columns]] * len(rows)
    return contact_sheet.contact_sheet(rows, captions=captions, cell=config.size), missing
