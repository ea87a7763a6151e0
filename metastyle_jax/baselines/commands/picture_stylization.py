"""Stylizes one photograph with a trained system of the poster."""

import functools
from typing import Any

import jax.numpy as jnp
import numpy as np

from metastyle_jax.adaptation import style_image
from metastyle_jax.baselines import systems
from metastyle_jax.baselines.commands.system_settings import SystemSettings
from metastyle_jax.baselines.features import system_files
from metastyle_jax.core import checks
from metastyle_jax.core.errors import UserError
from metastyle_jax.data.images import image_files, image_inputs, resizing


def stylize(
    name: str,
    style: image_inputs.ImageLike,
    content: image_inputs.ImageLike,
    *,
    config: SystemSettings | None = None,
    **settings: Any,
) -> np.ndarray:
    """Stylizes one photograph in the style of an image.

    ```python
    picture = picture_stylization.stylize('adain', 'painting.jpg', 'photo.jpg', alpha=0.8)
    ```

    Args:
        name: one of `system_files.NAMES`.
        style: the style image: a file, a Pillow image or an array, see `image_inputs.as_rgb`.
        content: the photograph, in one of these forms.
        config: settings; None for the defaults of `SystemSettings`.
        **settings: fields of `SystemSettings`; they replace those of `config`.

    Returns:
        `[H, W, 3]` float32 in 0..1.

    Raises:
        UserError: an image, a setting or the weights cannot be used.
    """
    config = checks.replace_settings(config or SystemSettings(), settings)
    config.validate()
    fit, fit_style = resizing.fit_size, style_image.fit_size
    photo = image_inputs.as_rgb(
        content, name='content', target=functools.partial(fit, config.max_size)
    )
    painting = image_inputs.as_rgb(
        style, name='style', target=functools.partial(fit_style, config.style_size)
    )
    height, width = photo.shape[:2]
    if min(height, width) < image_files.MIN_SIDE:
        raise UserError(
            f'max_size={config.max_size} reduces the photograph to {height} x {width} pixels: '
            f'raise it until both sides have at least {image_files.MIN_SIDE}'
        )
    trained = system_files.load(name, config.weights, encoder=config.encoder, vgg=config.vgg)
    picture = systems.stylize(
        systems.compiled(trained.system),
        trained.params,
        jnp.asarray(painting),
        jnp.asarray(photo)[None],
        alpha=config.alpha,
    )
    return np.asarray(picture[0])
