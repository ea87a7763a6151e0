"""Prepares an adaptation: settings, initial parameters, learned inner loop, learning rate."""

import dataclasses
import os

from metastyle_jax.adaptation import adaptation_step
from metastyle_jax.adaptation.config import RATES, AdaptConfig
from metastyle_jax.core.errors import UserError
from metastyle_jax.core.types import Array, Params
from metastyle_jax.models import norm_predictor, transformer
from metastyle_jax.storage import theta_files


def resolve(
    config: AdaptConfig, theta: str | os.PathLike | theta_files.Theta | None
) -> tuple[AdaptConfig, theta_files.Theta]:
    """Checks the settings, fills in the default learning rate, and loads θ.

    Args:
        config: settings of the adaptation.
        theta: the initialization, or a path or address of it, see `theta_files.load_theta`.

    Returns:
        The settings with a learning rate, and θ.

    Raises:
        UserError: a setting is invalid, θ cannot be used, or `inner_steps` is above 0 and θ has no
            learned rates.
    """
    config.validate()
    if not isinstance(theta, theta_files.Theta):
        theta = theta_files.load_theta(theta)
    transformer.check(theta.params)
    if config.inner_steps and theta.rates is None:
        raise UserError(
            f'inner_steps={config.inner_steps}: this θ has no learned rates, leave it out'
        )
    return dataclasses.replace(config, rate=learning_rate(config, theta)), theta


def learning_rate(config: AdaptConfig, theta: theta_files.Theta) -> float:
    """Returns the learning rate of Adam: `config.rate`, or the one in `RATES` if that is None."""
    if config.rate is not None:
        return config.rate
    start = 'theta' if theta.predictor is None else config.begin
    return RATES[start][config.params]


def step_scalars(config: AdaptConfig, theta: theta_files.Theta) -> adaptation_step.StepScalars:
    """Returns the learning rate and the loss weights, as arguments of every step."""
    rate = learning_rate(config, theta)
    return adaptation_step.StepScalars(rate, config.content_weight, config.style_weight)


def start_params(theta: theta_files.Theta, grams: tuple[Array, ...], begin: str) -> Params:
    """Returns the parameters from which the adaptation to a style starts.

    Args:
        theta: the initialization.
        grams: L arrays `[C, C]`, Gram matrices of the style image.
        begin: 'theta' for θ itself; 'predicted' for θ with the instance norms that its predictor
            computes for the style, or for θ itself if it has no predictor.

    Returns:
        Parameters of the transformer.

    Raises:
        UserError: the predictor was trained with another loss network.
    """
    if begin == 'theta' or theta.predictor is None:
        return theta.params
    given, expected = norm_predictor.style_features(grams).shape[-1], len(theta.predictor.kernel)
    if given != expected:
        raise UserError(
            f'the predictor of this θ takes {expected} style features, and this loss network gives '
            f"{given}: use the loss network that θ was trained with, or begin='theta'"
        )
    return norm_predictor.predicted_theta(theta.params, theta.predictor, grams)


def learned_inner_loop(
    theta: theta_files.Theta, *, steps: int | None = None
) -> adaptation_step.LearnedRates | None:
    """Returns the inner loop that θ was trained with, if its rates were learned.

    Args:
        theta: the initialization.
        steps: T, the number of inner steps; None for the same number as in training.

    Returns:
        The inner loop; None if θ has no learned rates, or T is 0.
    """
    if theta.rates is None:
        return None
    inner = theta.settings.get('inner', {})
    names = adaptation_step.LearnedLoop._fields
    loop = adaptation_step.LearnedLoop(**{name: inner[name] for name in names if name in inner})
    if steps is not None:
        loop = loop._replace(steps=steps)
    return adaptation_step.LearnedRates(loop, theta.rates) if loop.steps else None
