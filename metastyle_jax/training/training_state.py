"""The state of meta-training, and the meta-parameters from which an inner loop starts."""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metastyle_jax import meta
from metastyle_jax.core.types import Array, Params, PyTree
from metastyle_jax.models import norm_predictor, transformer
from metastyle_jax.training import optimizers, per_style_norms
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


def create_state(
    config: TrainConfig,
    rng: Array,
    *,
    theta: Params | None = None,
    predictor: norm_predictor.Predictor | None = None,
    rates: Mapping[str, Array] | None = None,
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
        rates: parameter name -> inner rates to start from, see `optimizers.initial_log_rates`.
        styles: number of style images; needed if `outer.norms_rate` is above 0.
        features: number of style features, see `norm_predictor`; needed for a new predictor.
        hidden: width of the hidden layer of a new predictor.
    """
    init_rng, rng, predictor_rng = jax.random.split(rng, 3)
    params = transformer.init(init_rng, width=config.model.width, blocks=config.model.blocks)
    if theta is not None:
        params = jax.tree.map(jnp.asarray, theta)
    log_rates = optimizers.initial_log_rates(params, config, rates)
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
