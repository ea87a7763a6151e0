"""Makes the style of a painting: predicts instance norms, and refines them by a few steps."""

import hashlib
import json
import os
import pathlib
from typing import Any

from absl import logging

from metastyle_jax._version import __version__
from metastyle_jax.adaptation import adapt, style_image
from metastyle_jax.adaptation.config import AdaptConfig
from metastyle_jax.core import checks, files
from metastyle_jax.core.commands import paths
from metastyle_jax.core.errors import UserError
from metastyle_jax.data.images import image_files, image_inputs
from metastyle_jax.instant import style_cache
from metastyle_jax.instant.config import STEPS_FROM_THETA, InstantConfig
from metastyle_jax.models import transformer, vgg
from metastyle_jax.storage import style_files, tensor_files, theta_files


def instant_style(
    painting: image_inputs.ImageLike,
    theta: str | os.PathLike | theta_files.Theta | None = None,
    *,
    config: InstantConfig | None = None,
    progress: bool = False,
    **settings: Any,
) -> style_files.Style:
    """Makes the style of a painting in a few steps, or reads it from the cache.

    Only instance norms are adapted. θ's predictor computes their first values, and a few gradient
    steps at the learned rates of θ refine them. `adapt` takes more steps and gives a better style.
    The style is cached in the user's cache folder, see `StyleCache`.

    ```python
    style = metastyle_jax.instant_style('painting.jpg', steps=0)
    ```

    Args:
        painting: the style image: a file, its bytes, a Pillow image or an array.
        theta: the initialization, see `adapt`; None for the one in the package.
        config: settings; None for the defaults of `InstantConfig`.
        progress: whether to show a progress bar of the steps.
        **settings: fields of `InstantConfig`; they replace those of `config`.

    Returns:
        A style of adapted instance norms, as `adapt` with `params='norm'` returns it.

    Raises:
        UserError: a file or a setting cannot be used, or the loss is not finite.
    """
    config = checks.replace_settings(config or InstantConfig(), settings)
    config.validate()
    if isinstance(painting, str | os.PathLike):
        painting = pathlib.Path(paths.expand(os.fspath(painting)))
    if not isinstance(theta, theta_files.Theta):
        theta = theta_files.load_theta(theta)
    steps = steps_for(config, theta)
    first_steps = min(steps, learned_steps(theta))
    adapting = AdaptConfig(params='norm', steps=max(steps, 1), inner_steps=first_steps)
    cache = _cache()
    name = files.shown(_name(painting))
    painting, digest = _identified(painting, adapting.style_size)
    key = _key(digest, theta, adapting, steps)
    style = cache and cache.get(key)
    if style and (style.style_sha256, style.theta_sha256) == (digest, theta.fingerprint):
        logging.info('style %s (%d steps, cached)', name, steps)
        return style._replace(style_name=name)
    if steps:
        style = adapt.adapt(painting, theta, config=adapting, progress=progress)
    else:
        style = adapt.predict(painting, theta, config=adapting)
    logging.info('style %s (%d steps)', style.style_name, steps)
    if cache and style.style_sha256 == digest:  # else the file has changed meanwhile
        cache.put(key, style)
    return style


def steps_for(config: InstantConfig, theta: theta_files.Theta) -> int:
    """Returns the number of gradient steps.

    Args:
        config: settings; see `InstantConfig.steps`.
        theta: the initialization.

    Raises:
        UserError: the number of steps is 0, and θ has no predictor.
    """
    if config.steps == 0 and theta.predictor is None:
        raise UserError(
            'steps=0: this θ has no norm predictor, so nothing would be adapted; give steps of at '
            'least 1'
        )
    if config.steps is not None:
        return config.steps
    without_rates = STEPS_FROM_THETA if theta.predictor is None else 0
    return learned_steps(theta) or without_rates


def learned_steps(theta: theta_files.Theta) -> int:
    """Returns the number of steps for which θ has learned rates of instance norms."""
    if not any(map(transformer.adapted('norm'), theta.rates or ())):
        return 0
    return int(theta.settings.get('inner', {}).get('steps', 1))


def _cache() -> style_cache.StyleCache | None:
    """Returns the user's cache; None, with a warning, if there is no home folder."""
    try:
        return style_cache.StyleCache()
    except UserError as error:
        style_cache.warn_once(str(error))
        return None


def _name(painting: image_inputs.ImageLike) -> str:
    """Returns the name of a painting that its style file records."""
    return painting.name if isinstance(painting, pathlib.Path) else 'array'


def _identified(painting: image_inputs.ImageLike, size: int) -> tuple[image_inputs.ImageLike, str]:
    """Returns a painting, and its SHA-256 as in its style file.

    Files and their bytes are not decoded. Pixels in memory are resized here, so that the adaptation
    need not do it again.
    """
    if isinstance(painting, pathlib.Path):
        image_files.probe(painting)
        return painting, files.sha256_of(painting)
    if isinstance(painting, bytes):
        image_files.probe(painting, name='style')
        return painting, hashlib.sha256(painting).hexdigest()
    picture, _, digest = style_image.read(painting, size)
    height, width = picture.shape[:2]
    # In rare cases, rounding gives the resized picture another size, and so another hash.
    is_final = style_image.fit_size(size, height, width) == (height, width)
    return (picture if is_final else painting), digest


def _key(digest: str, theta: theta_files.Theta, config: AdaptConfig, steps: int) -> str:
    """Returns the key of the cache: the SHA-256 of all inputs that determine the style.

    The fingerprint of θ includes neither its predictor nor its learned rates, so they are added.
    """
    learned = {'predictor': theta.predictor, 'rates': theta.rates}
    parts = {
        'painting': digest,
        'theta': theta.fingerprint,
        'learned': tensor_files.fingerprint(learned),
        'loop': theta.settings.get('inner', {}),
        'settings': config.to_record(match_colours=None, vgg=vgg.VGG16_DIGEST),
        'steps': steps,
        'version': __version__,
        'format': style_files.FORMAT_VERSION,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()
