"""One training step of a recipe, with the state and the metrics of meta-training.

A recipe has no inner loop. The gradient of its loss takes the place of the meta-gradient, with a
second-order part of zero. The optimizer, the log and the checkpoints are those of meta-training.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from metastyle_jax import meta
from metastyle_jax.core.devices import sharding
from metastyle_jax.core.types import Array, Params
from metastyle_jax.data import batching
from metastyle_jax.training import optimizers, outer_step, training_state
from metastyle_jax.training.configuration.schema import TrainConfig
from metastyle_jax.training.recipes import training_recipe


class TrainingMethod(NamedTuple):
    """The functions that the training loop calls, for meta-training or for a recipe.

    Attributes:
        train_step: `(state, fixed, batch) -> (state, metrics)`.
        preview: `(state, fixed, contents, style) -> (pictures, pictures)`.
        captions: captions of the two pictures of `preview`.
    """

    train_step: Callable[..., Any]
    preview: Callable[..., tuple[Array, Array]]
    captions: tuple[str, str]


def method_of(config: TrainConfig, recipe: training_recipe.Recipe | None) -> TrainingMethod:
    """Returns the training of a recipe; without one, that of the initialization θ.

    Args:
        config: the configuration.
        recipe: the recipe, or None.
    """
    if recipe is None:
        return TrainingMethod(
            functools.partial(outer_step.train_step, config=config),
            functools.partial(outer_step.preview, config=config),
            ('θ', f'after {config.inner.steps} inner step(s)'),
        )
    return TrainingMethod(
        functools.partial(train_step, config=config, recipe=recipe),
        functools.partial(preview, recipe=recipe),
        ('without style', 'stylized'),
    )


def create_state(
    config: TrainConfig, rng: Array, recipe: training_recipe.Recipe
) -> training_state.TrainingState:
    """Creates the state before the first step.

    Args:
        config: the configuration.
        rng: a key.
        recipe: the recipe.
    """
    init_rng, rng = jax.random.split(rng)
    params = recipe.init(init_rng)
    opt_state = optimizers.outer_optimizer(config).init(meta.Meta(params))
    return training_state.TrainingState(jnp.zeros((), jnp.int32), params, None, opt_state, rng)


def train_step(
    state: training_state.TrainingState,
    fixed: Params,
    batch: batching.MetaBatch,
    *,
    config: TrainConfig,
    recipe: training_recipe.Recipe,
) -> tuple[training_state.TrainingState, outer_step.StepMetrics]:
    """Takes one step on the styles of one device; call it through `sharding.spread`.

    Args:
        state: training state, the same on every device.
        fixed: parameters that stay as they are, from `Recipe.load_fixed`.
        batch: images as bytes: `outer [S, N, H, W, 3]` and `style [S, Hs, Ws, 3]`.
        config: the configuration.
        recipe: the recipe.

    Returns:
        The next state, and metrics averaged over all devices.
    """
    contents, styles = map(batching.as_float, (batch.outer, batch.style))

    def total(params: Params) -> tuple[Array, training_recipe.RecipeLoss]:
        loss = recipe.loss(params, fixed, contents, styles)
        return loss.total, loss

    gradient, loss = jax.grad(total, has_aux=True)(state.params)
    norm = optax.tree.norm(gradient)
    mean_gradient = sharding.mean(
        meta.MetaGradient(
            meta.Meta(gradient), loss.total, jnp.zeros((0,)), norm, jnp.zeros_like(norm), loss
        )
    )
    return outer_step.apply_meta_gradient(state, mean_gradient, config=config)


def preview(
    state: training_state.TrainingState,
    fixed: Params,
    contents: Array,
    style: Array,
    *,
    recipe: training_recipe.Recipe,
) -> tuple[Array, Array]:
    """Makes pictures of contents without the style and with it.

    Args:
        state: training state.
        fixed: see `train_step`.
        contents: `[N, H, W, 3]` in 0..1.
        style: `[Hs, Ws, 3]` in 0..1.
        recipe: the recipe.

    Returns:
        Two arrays `[N, H, W, 3]` in 0..1.
    """
    plain, stylized = (
        recipe.stylize(state.params, fixed, contents, style, alpha) for alpha in (0.0, 1.0)
    )
    return plain, stylized
