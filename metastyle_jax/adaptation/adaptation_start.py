"""Prepares an adaptation: settings, initial parameters, learned inner loop, learning rate."""

import dataclasses
import os

import jax

from metastyle_jax.adaptation import adaptation_step
from metastyle_jax.adaptation.config import RATES, STEPS, AdaptConfig
from metastyle_jax.core.errors import UserError
from metastyle_jax.core.types import Array, Params
from metastyle_jax.models import norm_predictor, transformer
from metastyle_jax.storage import theta_files


def resolve(
    config: AdaptConfig, theta: str | os.PathLike | theta_files.Theta | None
) -> tuple[AdaptConfig, theta_files.Theta]:
    """Checks the settings, fills in the defaults that depend on θ, and loads θ.

    Args:
        config: settings of the adaptation.
        theta: the initialization, or a path or address of it, see `theta_files.load_theta`.

    Returns:
        The settings with numbers of steps and a learning rate, and θ.

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
    config = dataclasses.replace(
        config,
        steps=step_count(config, theta),
        inner_steps=inner_steps(config, theta),
        rate=learning_rate(config, theta),
    )
    config.validate()
    return config, theta


def _start(config: AdaptConfig, theta: theta_files.Theta) -> str:
    """Returns what the adaptation starts from, one of `STARTS`."""
    return 'theta' if theta.predictor is None else config.begin


def step_count(config: AdaptConfig, theta: theta_files.Theta) -> int:
    """Returns the number of steps: `config.steps`, or the one in `STEPS` if that is None."""
    return STEPS[_start(config, theta)] if config.steps is None else config.steps


def learning_rate(config: AdaptConfig, theta: theta_files.Theta) -> float:
    """Returns the learning rate of Adam: `config.rate`, or the one in `RATES` if that is None."""
    if config.rate is not None:
        return config.rate
    return RATES[_start(config, theta)][config.params]


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
    # Only the shape is computed: computing the features outside of a compiled program takes long.
    given = jax.eval_shape(norm_predictor.style_features, grams).shape[-1]
    expected = len(theta.predictor.kernel)
    if given != expected:
        raise UserError(
            f'the predictor of this θ takes {expected} style features, and this loss network gives '
            f"{given}: use the loss network that θ was trained with, or begin='theta'"
        )
    return norm_predictor.predicted_theta(theta.params, theta.predictor, grams)


def inner_steps(config: AdaptConfig, theta: theta_files.Theta) -> int:
    """Returns the number of first steps that are taken at the learned rates of θ.

    Args:
        config: settings of the adaptation; the default of `AdaptConfig.inner_steps` depends on θ.
        theta: the initialization.
    """
    if config.inner_steps is not None:
        return config.inner_steps
    starts_otherwise = config.begin == 'theta' and theta.predictor is not None
    trained_size = theta.settings.get('data', {}).get('size', 0)
    if theta.rates is None or starts_otherwise or config.size < trained_size:
        return 0
    return min(step_count(config, theta), trained_loop(theta).steps)


def trained_loop(theta: theta_files.Theta) -> adaptation_step.LearnedLoop:
    """Returns the constants of the inner loop that θ was trained with."""
    inner = theta.settings.get('inner', {})
    names = adaptation_step.LearnedLoop._fields
    return adaptation_step.LearnedLoop(**{name: inner[name] for name in names if name in inner})


def learned_rates(
    config: AdaptConfig, theta: theta_files.Theta
) -> adaptation_step.LearnedRates | None:
    """Returns the first steps of an adaptation, at learned rates; None if there are none.

    Args:
        config: settings of the adaptation.
        theta: the initialization.
    """
    steps = inner_steps(config, theta)
    if not steps or theta.rates is None:
        return None
    return adaptation_step.LearnedRates(trained_loop(theta)._replace(steps=steps), theta.rates)
