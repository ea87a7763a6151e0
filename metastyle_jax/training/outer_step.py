"""One outer step of meta-training, as pure functions.

Source: Algorithm 1 of Zhang, Zhu and Zhu 2019, arXiv 1812.05233.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from metastyle_jax import meta
from metastyle_jax.core.devices import sharding
from metastyle_jax.core.types import Array, Params
from metastyle_jax.data import batching
from metastyle_jax.models import gram, norm_predictor, perceptual_loss, transformer
from metastyle_jax.training import (
    gram_cache,
    objective,
    optimizers,
    per_style_norms,
    training_state,
)
from metastyle_jax.training.configuration.schema import TrainConfig


class StepMetrics(NamedTuple):
    """Metrics of one outer step, as means over its styles. All are scalars except `inner`.

    Attributes:
        outer: outer loss.
        content, style: the two parts of the outer loss.
        inner: `[T]`, inner loss before each inner step.
        gradient_norm: norm of the meta-gradient.
        params_norm: norm of θ after the step.
        first_order_norm: norm of the first-order approximation of the meta-gradient.
        second_order_norm: norm of the remainder, the second-order part.
    """

    outer: Array
    content: Array
    style: Array
    inner: Array
    gradient_norm: Array
    params_norm: Array
    first_order_norm: Array
    second_order_norm: Array


def train_step(
    state: training_state.TrainingState,
    vgg_params: Params,
    batch: batching.MetaBatch | gram_cache.GramBatch,
    *,
    config: TrainConfig,
) -> tuple[training_state.TrainingState, StepMetrics]:
    """Takes one outer step on the styles of one device; must be called through `sharding.spread`.

    Args:
        state: training state, the same on every device.
        vgg_params: weights of the loss network.
        batch: uint8 images: `inner [S, T, N, H, W, 3]`, `outer [S, N, H, W, 3]` and
            `style [S, Hs, Ws, 3]`; or Gram matrices instead of the style images.
        config: the configuration.

    Returns:
        The next state, and metrics averaged over the styles of all devices.
    """
    if not config.inner.steps and (config.outer.norms_rate or config.outer.predictor_rate):
        return _per_style_norms_step(state, vgg_params, batch, config=config)
    evaluate = objective.loss(vgg_params, config)
    learns_predictor = state.predictor is not None and config.outer.predictor_rate > 0

    def style_gradient(inner_contents, outer_contents_and_grams):
        outer_contents, grams = outer_contents_and_grams
        contents = jnp.concatenate([inner_contents, outer_contents[None]])
        tasks = objective.make_tasks(vgg_params, contents, ())
        in_style = objective.with_grams(evaluate, grams)
        is_reptile = config.inner.order == 'reptile'
        gradient = meta.reptile_gradient if is_reptile else meta.meta_gradient
        # The offsets that a predictor adds to θ do not depend on θ, so the gradient with respect to
        # the start of the inner loop is the gradient with respect to θ.
        start = training_state.style_start(state, grams)
        outer_task = jax.tree.map(lambda leaf: leaf[-1], tasks)
        outer_loss = functools.partial(_outer_loss, evaluate=in_style, config=config)
        found = gradient(
            start,
            jax.tree.map(lambda leaf: leaf[:-1], tasks),
            outer_task,
            inner_loss=objective.inner_loss(in_style, config),
            outer_loss=outer_loss,
            has_aux=True,
            **objective.inner_options(config, state.step),
            **objective.outer_options(config),
        )
        if share := config.outer.start_weight:
            at_start, _ = jax.grad(outer_loss, has_aux=True)(start.theta, outer_task)
            found = _with_start(found, at_start, share)
        if not learns_predictor:
            return found
        # There are no other meta-parameters, so `hyper` can hold the gradient of the predictor.
        of_predictor = _predictor_gradient(state, grams, found.gradient.theta)
        return found._replace(gradient=found.gradient._replace(hyper=of_predictor))

    inner, outer = map(batching.as_float, (batch.inner, batch.outer))
    grams = objective.style_grams(vgg_params, batch)
    mean_gradient = sharding.mean(meta.mean_over_tasks(style_gradient, inner, (outer, grams)))
    next_state, metrics = apply_meta_gradient(state, mean_gradient, config=config)
    if learns_predictor:
        of_predictor = mean_gradient.gradient.hyper
        next_state = _update_predictor(next_state, of_predictor, state.step, config)
    return next_state, metrics


def _with_start(found: meta.MetaGradient, at_start: Params, share: float) -> meta.MetaGradient:
    """Returns (1 - share) · meta-gradient + share · gradient of the outer loss at the start."""
    scaled = jax.tree.map(lambda leaf: (1 - share) * leaf, found.gradient)
    theta = jax.tree.map(lambda after, before: after + share * before, scaled.theta, at_start)
    return found._replace(gradient=scaled._replace(theta=theta))


def _outer_loss(
    params: Params,
    task: objective.StyleTask,
    *,
    evaluate: Callable[[Params, objective.StyleTask], perceptual_loss.Loss],
    config: TrainConfig,
) -> tuple[Array, perceptual_loss.Loss]:
    """Returns the outer loss or its logarithm, and the perceptual loss."""
    loss = evaluate(params, task)
    # The losses of styles differ by orders of magnitude. Their logarithms give each style the same
    # influence on the meta-gradient.
    return jnp.log(loss.total) if config.outer.log_loss else loss.total, loss


def _predictor_gradient(
    state: training_state.TrainingState, grams: tuple[Array, ...], start_gradient: Params
) -> norm_predictor.Predictor:
    """Computes the gradient of the predictor from that of the start of the inner loop."""
    assert state.predictor is not None
    _, pull_back = jax.vjp(
        lambda predictor: norm_predictor.predicted_theta(state.params, predictor, grams),
        state.predictor.params,
    )
    return pull_back(start_gradient)[0]


def _update_predictor(
    state: training_state.TrainingState,
    gradient: norm_predictor.Predictor,
    step: Array,
    config: TrainConfig,
) -> training_state.TrainingState:
    """Updates the predictor of a state by one step of Adam."""
    assert state.predictor is not None
    rate = config.outer.predictor_rate * optimizers.rate_decay(config, step)
    predictor = norm_predictor.update(state.predictor, gradient, rate=rate)
    return state._replace(predictor=predictor)


def _per_style_norms_step(
    state: training_state.TrainingState,
    vgg_params: Params,
    batch: batching.MetaBatch | gram_cache.GramBatch,
    *,
    config: TrainConfig,
) -> tuple[training_state.TrainingState, StepMetrics]:
    """Does the same as `train_step` without inner steps, with different norms for each style.

    The norms of a style are those of θ plus an offset. The offset comes from the table or from the
    predictor; if there are both, it is the sum of the two.
    """
    index, grams = jnp.asarray(batch.style_index), objective.style_grams(vgg_params, batch)
    table, predictor = state.table, state.predictor
    offsets: list[dict[str, Array]] = []
    if table is not None:
        offsets.append(per_style_norms.offsets_of(table, index))
    if predictor is not None:
        predicted, pull_back = norm_predictor.offsets_and_pull_back(predictor.params, grams)
        offsets.append(predicted)
    gradients = per_style_norms.gradients(
        state.params,
        jax.tree.map(lambda *leaves: sum(leaves), *offsets),
        vgg_params,
        batching.as_float(batch.outer),
        grams,
        config=config,
    )
    mean_gradient = sharding.mean(per_style_norms.as_meta_gradient(gradients))
    next_state, metrics = apply_meta_gradient(state, mean_gradient, config=config)
    if table is not None:
        # Every device updates the rows of all styles of the step, so that tables stay equal.
        index, by_style = sharding.gather((index, gradients.by_style))
        rate = config.outer.norms_rate * optimizers.rate_decay(config, state.step)
        params, table = per_style_norms.update(next_state.params, table, index, by_style, rate=rate)
        next_state = next_state._replace(params=params, table=table)
    if predictor is not None and config.outer.predictor_rate:
        predictor_gradient = sharding.mean(pull_back(gradients.by_style))
        next_state = _update_predictor(next_state, predictor_gradient, state.step, config)
    return next_state, metrics


def apply_meta_gradient(
    state: training_state.TrainingState, mean_gradient: meta.MetaGradient, *, config: TrainConfig
) -> tuple[training_state.TrainingState, StepMetrics]:
    """Updates θ and the learned inner rates by one step of the outer optimizer.

    Args:
        state: training state.
        mean_gradient: mean of the meta-gradients of all styles; its `aux` is the perceptual loss.
        config: the configuration.

    Returns:
        The next state, and metrics.
    """
    gradient = mean_gradient.gradient._replace(hyper=None)  # the predictor has its own optimizer
    if gradient.rates is not None:
        # The optimizer moves logarithms of rates, so that rates stay positive. By the chain rule,
        # d/d(log r) = r · d/dr.
        rates = training_state.meta_parameters(state).rates
        gradient = gradient._replace(rates=jax.tree.map(jnp.multiply, gradient.rates, rates))
    before = meta.Meta(state.params, state.log_rates)
    optimizer = optimizers.outer_optimizer(config)
    updates, opt_state = optimizer.update(gradient, state.opt_state, before)
    after = optax.apply_updates(before, updates)
    if config.outer.keep_norms and not config.outer.freeze_theta:
        after = after._replace(theta=optimizers.keep_kernel_norms(after.theta, before.theta))
    # Without a bound, rates can grow until the meta-gradient explodes.
    bound = np.log(config.inner.max_rate)
    log_rates = jax.tree.map(lambda leaf: jnp.minimum(leaf, bound), after.rates)
    metrics = StepMetrics(
        outer=mean_gradient.aux.total,
        content=mean_gradient.aux.content,
        style=mean_gradient.aux.style,
        inner=mean_gradient.inner_losses,
        gradient_norm=optax.tree.norm(gradient),
        params_norm=optax.tree.norm(after.theta),
        first_order_norm=mean_gradient.first_order_norm,
        second_order_norm=mean_gradient.second_order_norm,
    )
    next_state = state._replace(
        step=state.step + 1, params=after.theta, log_rates=log_rates, opt_state=opt_state
    )
    return next_state, metrics


def preview(
    state: training_state.TrainingState,
    vgg_params: Params,
    contents: Array,
    style: Array,
    *,
    config: TrainConfig,
) -> tuple[Array, Array]:
    """Stylizes contents before and after one inner loop on the same contents.

    Args:
        state: training state.
        vgg_params: weights of the loss network.
        contents: `[N, H, W, 3]` in 0..1.
        style: `[Hs, Ws, 3]` in 0..1.
        config: the configuration.

    Returns:
        Two arrays `[N, H, W, 3]` in 0..1.
    """
    grams = gram.of_image(vgg_params, style)
    start = training_state.style_start(state, grams)
    before = transformer.apply(start.theta, contents)
    if not config.inner.steps:
        return before, before
    evaluate = objective.loss(vgg_params, config)
    repeated = jnp.broadcast_to(contents, (config.inner.steps, *contents.shape))
    adapted = meta.inner_loop(
        start,
        objective.make_tasks(vgg_params, repeated, grams),
        loss=objective.inner_loss(evaluate, config),
        # Nothing is differentiated here; 'first' is the cheapest order with the same steps.
        **{**objective.inner_options(config, state.step), 'order': 'first'},
    )
    return before, transformer.apply(adapted.params, contents)
