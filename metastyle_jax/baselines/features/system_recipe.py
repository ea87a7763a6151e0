"""Training of a system with the package's own loop: what its parts are, and common losses."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from metastyle_jax.baselines import systems
from metastyle_jax.baselines.features import encoder_weights, statistics, system_files
from metastyle_jax.core import trees
from metastyle_jax.core.errors import UserError
from metastyle_jax.core.types import Array, Params
from metastyle_jax.training.recipes import training_recipe


def of_system(
    system: systems.System,
    loss: Callable[[Params, Array, Array], training_recipe.RecipeLoss],
    *,
    encoder: str,
    cut: str,
    width: int,
    start: str = '',
) -> training_recipe.Recipe:
    """Makes the recipe of a system with a fixed encoder; everything else is trained.

    Args:
        system: its parameters have the part 'encoder'.
        loss: `(params, contents, styles) -> RecipeLoss`, with all parameters, see
            `training_recipe.Recipe.loss`.
        encoder: one of `encoder_decoder.ENCODERS`.
        cut: the layer at which the encoder ends.
        width: channels of its first convolution.
        start: file of a trained system, from `system_files.save`, also of another system. Tensors
            of the same name and shape begin with its values, the others at random. If the file is
            of WCT, a single decoder begins with the values of WCT's decoder for the same layer.

    Raises:
        UserError: `start` cannot be read, or has no tensor of the same name and shape.
    """
    begun: dict[str, Any] = dict(system_files.read_tensors(start)) if start else {}

    def load_fixed(vgg_file: str | None) -> Params:
        return {'encoder': encoder_weights.load_encoder(encoder, cut, vgg_file, width=width)}

    def init(rng: Array) -> Params:
        drawn = {part: tree for part, tree in system.init(rng).items() if part != 'encoder'}
        flat: dict[str, Any] = trees.partition(drawn, lambda name: True)[0]
        of_wct = {k.replace(f'decoders/{cut}/', 'decoder/'): x for k, x in begun.items()}
        found = {**of_wct, **begun}
        same = {k: x for k, x in found.items() if k in flat and flat[k].shape == x.shape}
        if begun and not same:
            raise UserError(f'start={start}: it has no tensor of the shape of one that is trained')
        return trees.combine(drawn, {**flat, **same})

    def whole_loss(
        params: Params, fixed: Params, contents: Array, styles: Array
    ) -> training_recipe.RecipeLoss:
        return loss({**params, **fixed}, contents, styles)

    def stylize(
        params: Params, fixed: Params, contents: Array, style_image: Array, alpha: float
    ) -> Array:
        whole = {**params, **fixed}
        return system.apply(whole, system.encode_style(whole, style_image), contents, alpha)

    return training_recipe.Recipe(load_fixed, init, whole_loss, stylize)


def flat_pairs(contents: Array, styles: Array) -> tuple[Array, Array]:
    """Returns every content and, at the same place, its style image.

    Args:
        contents: `[S, N, H, W, 3]`.
        styles: `[S, Hs, Ws, 3]`.

    Returns:
        `[S·N, H, W, 3]` and `[S·N, Hs, Ws, 3]`.
    """
    each = contents.shape[1]
    return contents.reshape(-1, *contents.shape[2:]), jnp.repeat(styles, each, axis=0)


def mean_square(x: Array, y: Array) -> Array:
    """Computes the mean squared difference of two arrays of one shape."""
    return jnp.mean(jnp.square(x - y))


def feature_loss(features: Array, target: Array) -> Array:
    """Computes the mean squared difference of feature maps, in units of the target's mean.

        |features - target|² / mean(target)²

    The published weights of losses are for an encoder whose features have a mean of 1 in each
    layer. Those of VGG-16 and VGG-19 as published have means from 0.3 to 1.6, so without the
    division the last layers would outweigh the first one, which knows the colours.

    Args:
        features: `[N, h, w, C]`.
        target: of the same shape; features behind a ReLU, so their mean is positive.

    Returns:
        A scalar.
    """
    return mean_square(features, target) / _unit(target)


def moment_loss(features: tuple[Array, ...], targets: tuple[Array, ...]) -> Array:
    """Adds up the mean squared differences of means and of standard deviations.

    As in `feature_loss`, the unit of each layer is the mean of its target.

    Args:
        features: L feature maps `[N, h, w, C]`.
        targets: L feature maps of other pictures, of any height and width.

    Returns:
        A scalar.

    Source: Huang and Belongie 2017, equation 13, with squares in place of norms.
    """
    total = jnp.zeros(())
    for layer, target in zip(features, targets, strict=True):
        pairs = zip(statistics.moments(layer), statistics.moments(target), strict=True)
        apart = sum(mean_square(found, wanted) for found, wanted in pairs)
        total += apart / _unit(target)
    return total


def _unit(target: Array) -> Array:
    """Computes the square of the mean of features; black pictures do not make it 0."""
    return jnp.square(jnp.mean(target)) + 1e-6


def total_variation(images: Array) -> Array:
    """Computes the mean absolute difference of neighbouring pixels, of rows and of columns.

    Args:
        images: `[N, H, W, 3]`.

    Returns:
        A scalar, the sum of both means.
    """
    rows, columns = (jnp.abs(jnp.diff(images, axis=axis)) for axis in (1, 2))
    return jnp.mean(rows) + jnp.mean(columns)
