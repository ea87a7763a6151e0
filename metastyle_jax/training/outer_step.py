"""One outer step of meta-training: state, optimizers and step, as pure functions.

Source: Algorithm 1 of Zhang, Zhu and Zhu 2019, arXiv 1812.05233.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from metastyle_jax import meta
from metastyle_jax.core import trees
from metastyle_jax.core.devices import sharding
from metastyle_jax.core.types import Array, Params, PyTree
from metastyle_jax.data import batching
from metastyle_jax.models import gram, norm_predictor, transformer
from metastyle_jax.training import gram_cache, objective, optimizers, per_style_norms
from metastyle_jax.training.configuration.schema import TrainConfig


class TrainState(NamedTuple):
    """Everything that a checkpoint of a run keeps, but for the position in the data.

    Attributes:
        step: scalar int32, outer steps done.
        params: θ.
        log_rates: logarithms of the learned inner rates by parameter name, or None.
        opt_state: state of the outer optimizer.
        rng: a key; split off at the start, for whatever a later step wants to draw.
        table: of styles with instance norms of their own, or None.
        predictor: of the norms that a style begins with, or None.
    """

    step: Array
    params: Params
    log_rates: dict[str, Array] | None
    opt_state: PyTree
    rng: Array
    table: per_style_norms.Table | None = None
    predictor: norm_predictor.Training | None = None


class Metrics(NamedTuple):
    """Scalars of one outer step, but for `inner`: the losses `[T]` before each inner step."""

    outer: Array
    content: Array
    style: Array
    inner: Array
    gradient_norm: Array
    params_norm: Array
    first_order_norm: Array
    second_order_norm: Array


def create(
    config: TrainConfig,
    rng: Array,
    *,
    theta: Params | None = None,
    predictor: norm_predictor.Predictor | None = None,
    styles: int = 0,
    features: int = 0,
    hidden: int = norm_predictor.WIDTH,
) -> TrainState:
    """The state before the first step.

    Args:
        config: see `training.configuration`.
        rng: a key.
        theta: what to start from; random parameters if None.
        predictor: that comes with it; a new one if None, where the configuration wants any.
        styles: how many there are; needed where each has norms of its own.
        features: of a style, see `norm_predictor.features`; needed where a predictor is made.
        hidden: width of the hidden layer of a predictor that is made.
    """
    init_rng, rng, predictor_rng = jax.random.split(rng, 3)
    params = transformer.init(init_rng, width=config.model.width, blocks=config.model.blocks)
    if theta is not None:
        params = jax.tree.map(jnp.asarray, theta)
    log_rates = None
    if config.inner.learn_rates:
        adapted = transformer.adapted(config.inner.params)
        log_rates = meta.initial_rates(params, np.log(config.inner.rate), adapted)
    opt_state = optimizers.outer_optimizer(config).init(meta.Meta(params, log_rates))
    table = per_style_norms.create(params, styles) if config.outer.norms_rate else None
    if config.model.predictor and predictor is None:
        predictor = norm_predictor.create(predictor_rng, params, features, hidden=hidden)
    return TrainState(
        jnp.zeros((), jnp.int32),
        params,
        log_rates,
        opt_state,
        rng,
        table,
        norm_predictor.start(predictor) if config.model.predictor and predictor else None,
    )


def learned(state: TrainState) -> meta.Meta:
    """What an inner loop is differentiated in: θ, and the rates themselves."""
    return meta.Meta(state.params, jax.tree.map(jnp.exp, state.log_rates))


def begin(state: TrainState, targets: tuple[Array, ...]) -> meta.Meta:
    """What the inner loop of a style starts from.

    Args:
        state: of the run.
        targets: L arrays `[C, C]`, Gram matrices of the style.
    """
    predictor = state.predictor and state.predictor.params
    start = learned(state)
    return start._replace(theta=norm_predictor.begin(start.theta, predictor, targets))


def train_step(
    state: TrainState,
    vgg_params: Params,
    batch: batching.MetaBatch | gram_cache.Batch,
    *,
    config: TrainConfig,
) -> tuple[TrainState, Metrics]:
    """One outer step on one device's share of the styles; call it through `sharding.spread`.

    Args:
        state: the same on every device.
        vgg_params: weights of the loss network.
        batch: images as bytes, `inner [S, T, N, H, W, 3]`, `outer [S, N, H, W, 3]`,
            `style [S, Hs, Ws, 3]`; or, in place of styles, their Gram matrices.
        config: see `training.configuration`.

    Returns:
        The next state, and `Metrics` averaged over all styles.
    """
    if config.outer.norms_rate or config.outer.predictor_rate:
        return _conditional_step(state, vgg_params, batch, config=config)
    evaluate = objective.loss(vgg_params, config)

    def outer_loss(params, task):
        value = evaluate(params, task)
        # Losses of styles differ by orders of magnitude; logarithms give each the same say.
        return jnp.log(value.total) if config.outer.log_loss else value.total, value

    def one_style(inner, outer_and_style):
        outer, targets = outer_and_style
        every = objective.tasks(vgg_params, jnp.concatenate([inner, outer[None]]), targets)
        gradient, options = meta.meta_gradient, objective.inner_options(config, state.step)
        if options['order'] == 'reptile':
            gradient = meta.reptile_gradient
        # A predictor is not trained here: what it adds to θ does not depend on θ.
        return gradient(
            begin(state, targets),
            jax.tree.map(lambda leaf: leaf[:-1], every),
            jax.tree.map(lambda leaf: leaf[-1], every),
            inner_loss=objective.inner_loss(evaluate, config),
            outer_loss=outer_loss,
            has_aux=True,
            **options,
        )

    inner, outer = map(batching.as_float, (batch.inner, batch.outer))
    targets = objective.style_grams(vgg_params, batch)
    found = sharding.mean(meta.mean_over_tasks(one_style, inner, (outer, targets)))
    return advance(state, found, config=config)


def _conditional_step(
    state: TrainState,
    vgg_params: Params,
    batch: batching.MetaBatch | gram_cache.Batch,
    *,
    config: TrainConfig,
) -> tuple[TrainState, Metrics]:
    """`train_step` where each style has norms of its own: from a table, predicted, or both."""
    index, targets = jnp.asarray(batch.style_index), objective.style_grams(vgg_params, batch)
    table, predictor = state.table, state.predictor
    parts: list[dict[str, Array]] = []
    if table is not None:
        parts.append(per_style_norms.of_styles(table, index))
    if predictor is not None:
        predicted, pull_back = norm_predictor.pull_back(predictor.params, targets)
        parts.append(predicted)
    found = per_style_norms.gradients(
        state.params,
        jax.tree.map(lambda *leaves: sum(leaves), *parts),
        vgg_params,
        batching.as_float(batch.outer),
        targets,
        log_loss=config.outer.log_loss,
        content_weight=config.loss.content_weight,
        style_weight=config.loss.style_weight,
    )
    after, metrics = advance(state, sharding.mean(per_style_norms.as_meta(found)), config=config)
    factor = optimizers.rate_decay(config, state.step)
    if table is not None:
        index, own = sharding.gather((index, found.own))
        rate = config.outer.norms_rate * factor
        params, table = per_style_norms.update(after.params, table, index, own, rate=rate)
        after = after._replace(params=params, table=table)
    if predictor is not None and config.outer.predictor_rate:
        gradient = sharding.mean(pull_back(found.own))
        rate = config.outer.predictor_rate * factor
        after = after._replace(predictor=norm_predictor.update(predictor, gradient, rate=rate))
    return after, metrics


def advance(
    state: TrainState, found: meta.MetaGradient, *, config: TrainConfig
) -> tuple[TrainState, Metrics]:
    """One step of the outer optimizer.

    Args:
        state: before it.
        found: mean over the styles; its `aux` is the loss.
        config: see `training.configuration`.

    Returns:
        The next state, and `Metrics`.
    """
    start = learned(state)
    gradient = found.gradient
    if gradient.rates is not None:  # by the chain rule, for the logarithms
        gradient = gradient._replace(rates=jax.tree.map(jnp.multiply, gradient.rates, start.rates))
    before = meta.Meta(state.params, state.log_rates)
    updates, opt_state = optimizers.outer_optimizer(config).update(
        gradient, state.opt_state, before
    )
    after = optax.apply_updates(before, updates)
    if config.outer.keep_norms:
        after = after._replace(theta=keep_norms(after.theta, before.theta))
    # Unbounded rates make the meta-gradient explode.
    bound = np.log(config.inner.max_rate)
    log_rates = jax.tree.map(lambda rate: jnp.minimum(rate, bound), after.rates)
    metrics = Metrics(
        outer=found.aux.total,
        content=found.aux.content,
        style=found.aux.style,
        inner=found.inner_losses,
        gradient_norm=optax.tree.norm(gradient),
        params_norm=optax.tree.norm(after.theta),
        first_order_norm=found.first_order_norm,
        second_order_norm=found.second_order_norm,
    )
    after_state = state._replace(
        step=state.step + 1, params=after.theta, log_rates=log_rates, opt_state=opt_state
    )
    return after_state, metrics


def keep_norms(params: Params, before: Params) -> Params:
    """Gives kernels that an instance norm follows the lengths that they had.

    Such a kernel's length changes no output. Training lets it grow, and the steps of adaptation
    turn a longer kernel by less.

    Args:
        params: of the transformer.
        before: of lengths to keep.

    Returns:
        `params` but for those kernels.

    Source: van Laarhoven 2017, arXiv 1706.05350.
    """

    def scale(path, after, before):
        if not trees.leaf_name(path).endswith('/conv/kernel'):
            return after
        return after * (optax.tree.norm(before) / optax.tree.norm(after))

    return jax.tree_util.tree_map_with_path(scale, params, before)


def preview(
    state: TrainState, vgg_params: Params, contents: Array, style: Array, *, config: TrainConfig
) -> tuple[Array, Array]:
    """What a style's start makes of contents before and after one inner loop on them.

    Args:
        state: of the run.
        vgg_params: weights of the loss network.
        contents: `[N, H, W, 3]` in 0..1.
        style: `[Hs, Ws, 3]` in 0..1.
        config: see `training.configuration`.

    Returns:
        Two arrays `[N, H, W, 3]`.
    """
    targets = gram.of_image(vgg_params, style)
    start = begin(state, targets)
    before = transformer.apply(start.theta, contents)
    if not config.inner.steps:
        return before, before
    evaluate = objective.loss(vgg_params, config)
    repeated = jnp.broadcast_to(contents[None], (config.inner.steps, *contents.shape))
    found = meta.inner_loop(
        start,
        objective.tasks(vgg_params, repeated, targets),
        loss=objective.inner_loss(evaluate, config),
        **{**objective.inner_options(config, state.step), 'order': 'first'},
    )
    return before, transformer.apply(found.params, contents)
