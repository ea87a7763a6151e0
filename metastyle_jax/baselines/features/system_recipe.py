"""Training of a system with the package's own loop: what its parts are, and common losses."""

from collections.abc import Callable

import jax.numpy as jnp

from metastyle_jax.baselines import systems
from metastyle_jax.baselines.features import encoder_weights, statistics
from metastyle_jax.core.types import Array, Params
from metastyle_jax.training.recipes import training_recipe


def of_system(
    system: systems.System,
    loss: Callable[[Params, Array, Array], training_recipe.RecipeLoss],
    *,
    encoder: str,
    cut: str,
    width: int,
) -> training_recipe.Recipe:
    """Makes the recipe of a system with a fixed encoder; everything else is trained.

    Args:
        system: its parameters have the part 'encoder'.
        loss: `(params, contents, styles) -> RecipeLoss`, with all parameters, see
            `training_recipe.Recipe.loss`.
        encoder: one of `encoder_decoder.ENCODERS`.
        cut: the layer at which the encoder ends.
        width: channels of its first convolution.
    """

    def load_fixed(vgg_file: str | None) -> Params:
        return {'encoder': encoder_weights.load_encoder(encoder, cut, vgg_file, width=width)}

    def init(rng: Array) -> Params:
        return {part: tree for part, tree in system.init(rng).items() if part != 'encoder'}

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


def moment_loss(features: tuple[Array, ...], targets: tuple[Array, ...]) -> Array:
    """Adds up the mean squared differences of means and of standard deviations.

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
        total += sum(mean_square(found, wanted) for found, wanted in pairs)
    return total


def total_variation(images: Array) -> Array:
    """Computes the mean absolute difference of neighbouring pixels, of rows and of columns.

    Args:
        images: `[N, H, W, 3]`.

    Returns:
        A scalar, the sum of both means.
    """
    rows, columns = (jnp.abs(jnp.diff(images, axis=axis)) for axis in (1, 2))
    return jnp.mean(rows) + jnp.mean(columns)
