"""One outer step of meta-training, and the training state that it updates, as pure functions.

Source: Algorithm 1 of Zhang, Zhu and Zhu 2019, arXiv 1812.05233.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from metastyle_jax import meta
from metastyle_jax.core.devices import sharding
from metastyle_jax.core.types import Array, Params, PyTree
from metastyle_jax.data import batching
from metastyle_jax.models import gram, norm_predictor, transformer
from metastyle_jax.training import gram_cache, objective, optimizers, per_style_norms
from metastyle_jax.training.configuration.schema import TrainConfig


class TrainingState(NamedTuple):
    """Everything that outer steps change. Checkpoints use the names of these attributes.

    Attributes:
        step: scalar int32, number of finished outer steps.
        params: θ, the initialization.
        log_rates: logarithms of the learned inner rates by parameter name, see
            `optimizers.initial_log_rates`; None if not learned.
        opt_state: state of the outer optimizer.
        rng: a random key for later use; no step uses it yet.
        table: instance norms of each style; None if `outer.norms_rate` is 0.
        predictor: predictor of instance norms; None if `model.predictor` is False.
    """

    step: Array
    params: Params
    log_rates: dict[str, Array] | None
    opt_state: PyTree
    rng: Array
    table: per_style_norms.StyleNormTable | None = None
    predictor: norm_predictor.PredictorTraining | None = None


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


def create_state(
    config: TrainConfig,
    rng: Array,
    *,
    theta: Params | None = None,
    predictor: norm_predictor.Predictor | None = None,
    styles: int = 0,
    features: int = 0,
    hidden: int = norm_predictor.WIDTH,
) -> TrainingState:
    """Creates the state before the first step.

    Args:
        config: the configuration.
        rng: a random key.
        theta: initialization to start from; None for random parameters.
        predictor: predictor to start from; if None, a new one is made if `model.predictor` is True.
        styles: number of style images; needed if `outer.norms_rate` is above 0.
        features: number of style features, see `norm_predictor`; needed for a new predictor.
        hidden: width of the hidden layer of a new predictor.
    """
    init_rng, rng, predictor_rng = jax.random.split(rng, 3)
    params = transformer.init(init_rng, width=config.model.width, blocks=config.model.blocks)
    if theta is not None:
        params = jax.tree.map(jnp.asarray, theta)
    log_rates = optimizers.initial_log_rates(params, config)
    opt_state = optimizers.outer_optimizer(config).init(meta.Meta(params, log_rates))
    table = per_style_norms.create_table(params, styles) if config.outer.norms_rate else None
    if config.model.predictor and predictor is None:
        predictor = norm_predictor.init(predictor_rng, params, features, hidden=hidden)
    return TrainingState(
        jnp.zeros((), jnp.int32),
        params,
        log_rates,
        opt_state,
        rng,
        table,
        norm_predictor.init_training(predictor) if config.model.predictor and predictor else None,
    )


def meta_parameters(state: TrainingState) -> meta.Meta:
    """Returns the meta-parameters: θ and the learned inner rates, not their logarithms."""
    return meta.Meta(state.params, jax.tree.map(jnp.exp, state.log_rates))


def style_start(state: TrainingState, grams: tuple[Array, ...]) -> meta.Meta:
    """Returns the meta-parameters from which the inner loop of one style starts.

    With a predictor, the offsets that it predicts for the style are added to θ's instance norms.

    Args:
        state: training state.
        grams: L arrays `[C, C]`, Gram matrices of the style.
    """
    predictor = state.predictor and state.predictor.params
    start = meta_parameters(state)
    return start._replace(theta=norm_predictor.predicted_theta(start.theta, predictor, grams))


def train_step(
    state: TrainingState,
    vgg_params: Params,
    batch: batching.MetaBatch | gram_cache.GramBatch,
    *,
    config: TrainConfig,
) -> tuple[TrainingState, StepMetrics]:
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
    if config.outer.norms_rate or config.outer.predictor_rate:
        return _per_style_norms_step(state, vgg_params, batch, config=config)
    evaluate = objective.loss(vgg_params, config)

    def outer_loss(params, task):
        loss = evaluate(params, task)
        # The losses of styles differ by orders of magnitude. Their logarithms give each style the
        # same influence on the meta-gradient.
        return jnp.log(loss.total) if config.outer.log_loss else loss.total, loss

    def style_gradient(inner_contents, outer_contents_and_grams):
        outer_contents, grams = outer_contents_and_grams
        contents = jnp.concatenate([inner_contents, outer_contents[None]])
        tasks = objective.make_tasks(vgg_params, contents, grams)
        is_reptile = config.inner.order == 'reptile'
        gradient = meta.reptile_gradient if is_reptile else meta.meta_gradient
        # This does not train a predictor: the offsets that it adds to θ do not depend on θ, so the
        # gradient with respect to the start of the inner loop is the gradient with respect to θ.
        return gradient(
            style_start(state, grams),
            jax.tree.map(lambda leaf: leaf[:-1], tasks),
            jax.tree.map(lambda leaf: leaf[-1], tasks),
            inner_loss=objective.inner_loss(evaluate, config),
            outer_loss=outer_loss,
            has_aux=True,
            **objective.inner_options(config, state.step),
        )

    inner, outer = map(batching.as_float, (batch.inner, batch.outer))
    grams = objective.style_grams(vgg_params, batch)
    mean_gradient = sharding.mean(meta.mean_over_tasks(style_gradient, inner, (outer, grams)))
    return apply_meta_gradient(state, mean_gradient, config=config)


def _per_style_norms_step(
    state: TrainingState,
    vgg_params: Params,
    batch: batching.MetaBatch | gram_cache.GramBatch,
    *,
    config: TrainConfig,
) -> tuple[TrainingState, StepMetrics]:
    """Does the same as `train_step` without inner steps, where each style has own instance norms.

    Their offsets from the norms of θ come from the table, from the predictor, or from both as sum.
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
    decay = optimizers.rate_decay(config, state.step)
    if table is not None:
        # Every device updates the rows of all styles of the step, so that tables stay equal.
        index, by_style = sharding.gather((index, gradients.by_style))
        rate = config.outer.norms_rate * decay
        params, table = per_style_norms.update(next_state.params, table, index, by_style, rate=rate)
        next_state = next_state._replace(params=params, table=table)
    if predictor is not None and config.outer.predictor_rate:
        predictor_gradient = sharding.mean(pull_back(gradients.by_style))
        rate = config.outer.predictor_rate * decay
        predictor = norm_predictor.update(predictor, predictor_gradient, rate=rate)
        next_state = next_state._replace(predictor=predictor)
    return next_state, metrics


def apply_meta_gradient(
    state: TrainingState, mean_gradient: meta.MetaGradient, *, config: TrainConfig
) -> tuple[TrainingState, StepMetrics]:
    """Updates θ and the learned inner rates by one step of the outer optimizer.

    Args:
        state: training state.
        mean_gradient: mean of the meta-gradients of all styles; its `aux` is the perceptual loss.
        config: the configuration.

    Returns:
        The next state, and metrics.
    """
    gradient = mean_gradient.gradient
    if gradient.rates is not None:
        # The optimizer moves logarithms of rates, so that rates stay positive. By the chain rule,
        # d/d(log r) = r · d/dr.
        rates = meta_parameters(state).rates
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
    state: TrainingState, vgg_params: Params, contents: Array, style: Array, *, config: TrainConfig
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
    start = style_start(state, grams)
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
