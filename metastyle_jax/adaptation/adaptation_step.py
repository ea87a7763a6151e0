"""Adaptation of θ to one style, step by step.

Source: Zhang, Zhu and Zhu 2019, arXiv 1812.05233, section 3.
"""

import functools
import math
import numbers
import os
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from metastyle_jax.adaptation import adam_schedule
from metastyle_jax.core import trees
from metastyle_jax.core.errors import UserError
from metastyle_jax.core.types import Array, Params, PyTree
from metastyle_jax.data import batching
from metastyle_jax.meta import inner_optimizers
from metastyle_jax.models import norm_predictor, perceptual_loss, transformer, vgg
from metastyle_jax.storage import theta_files

# Of Adam, by where adaptation begins and what is adapted. Norms that fit already are lost in steps
# that are right from θ itself.
RATES = {
    'predicted': {'all': 2e-4, 'norm': 4e-4},
    'theta': {'all': 1.5e-3, 'norm': 1.5e-3},
}
BEGIN = ('predicted', 'theta')
MOST = 1024  # photographs a step
# Scales and biases of instance norms are 30 times larger than kernels, and take larger steps; the
# largest where they are all that moves.
NORM_FACTORS = {'all': 10.0, 'norm': 60.0}


class InnerLoop(NamedTuple):
    """How the inner loop goes that θ was trained for.

    Attributes:
        steps: how many, T.
        optimizer: see `inner_optimizers.by_name`.
        log_loss: whether it descends the logarithm of the loss.
        eps_root: of Adam.
    """

    steps: int = 1
    optimizer: str = 'sgd'
    log_loss: bool = False
    eps_root: float = 1e-8


class Learned(NamedTuple):
    """An inner loop and the rates, by name of the adapted tensor, that were learned with θ."""

    loop: InnerLoop
    rates: dict[str, Array]


class State(NamedTuple):
    """What a step of adaptation updates.

    Attributes:
        step: scalar int32, steps done.
        fast: adapted tensors by name.
        adam: state of Adam, which follows the gradients from the first step on.
        inner: state of the inner loop's optimizer, or None.
    """

    step: Array
    fast: dict[str, Array]
    adam: PyTree
    inner: PyTree


class Weights(NamedTuple):
    """Numbers of a step that may change without compiling it anew.

    Attributes:
        rate: of Adam.
        content: weight of the content loss.
        style: weight of the style loss.
    """

    rate: float
    content: float
    style: float


class Fixed(NamedTuple):
    """What no step changes.

    Attributes:
        slow: tensors that stay, by name.
        rates: of the learned inner loop, by name.
    """

    slow: dict[str, Array]
    rates: dict[str, Array]


class Plan(NamedTuple):
    """What is known when the steps of an adaptation are compiled.

    Attributes:
        like: the structure of θ.
        loop: the learned inner loop that it begins with; None for Adam alone.
        schedule: of Adam, see `adam_schedule.adam`.
        norm_factor: how many times longer Adam's steps are for instance norms; 1 with 'constant'.
    """

    like: Any
    loop: InnerLoop | None
    schedule: str
    norm_factor: float


def learned(theta: theta_files.Theta, *, steps: int | None = None) -> Learned | None:
    """The inner loop of a θ that was trained with learned rates, else None.

    Args:
        theta: of `theta_files.load_theta`.
        steps: T; None for as many as it was trained for.
    """
    if theta.rates is None:
        return None
    inner = theta.settings.get('inner', {})
    loop = InnerLoop(**{name: inner[name] for name in InnerLoop._fields if name in inner})
    if steps is not None:
        loop = loop._replace(steps=steps)
    return Learned(loop, theta.rates) if loop.steps else None


def begin(theta: theta_files.Theta, grams: tuple[Array, ...], where: str) -> Params:
    """Where adaptation to a style begins.

    Args:
        theta: of `theta_files.load_theta`.
        grams: L arrays `[C, C]` of the style image.
        where: 'predicted' for θ with the norms that its predictor gives, if it has one; 'theta' for
            θ itself.

    Returns:
        Parameters of the transformer.

    Raises:
        UserError: the predictor is of another loss network.
    """
    if where == 'theta' or theta.predictor is None:
        return theta.params
    found, known = norm_predictor.describe(grams).shape[-1], len(theta.predictor.kernel)
    if found != known:
        raise UserError(
            f'the predictor of this θ reads {known} numbers, and this loss network gives {found}: '
            "choose the loss network that θ was trained with, or begin='theta'"
        )
    return norm_predictor.begin(theta.params, theta.predictor, grams)


def rate_from(theta: theta_files.Theta, where: str, params: str) -> float:
    """Adam's rate where none is given, for what `begin` begins with."""
    return RATES['theta' if theta.predictor is None else where][params]


def start(
    theta: Params, params: str, inner: Learned | None = None, *, schedule: str = 'falling'
) -> tuple[State, Fixed, Plan]:
    """What the first step of an adaptation needs.

    Args:
        theta: the initialization; it is copied, since a step reuses the buffers of a state.
        params: 'all' or 'norm'.
        inner: the learned inner loop to begin with; Adam alone if None.
        schedule: of Adam, see `adam_schedule.adam`.

    Returns:
        The state, what stays, and the plan.

    Raises:
        UserError: `params`, the schedule or the name of the inner optimizer is unknown.
    """
    fast, slow = trees.partition(theta, transformer.adapted(params))
    fast = jax.tree.map(jnp.copy, fast)
    opt_state = adam_schedule.adam(1.0, schedule).init(fast)
    zero = jnp.zeros((), jnp.int32)
    factor = 1.0 if schedule == 'constant' else NORM_FACTORS[params]
    plan = Plan(jax.tree.structure(theta), inner and inner.loop, schedule, factor)
    if inner is None:
        return State(zero, fast, opt_state, None), Fixed(slow, {}), plan
    rates = {name: jnp.asarray(inner.rates.get(name, 0.0), jnp.float32) for name in fast}
    inner_state = inner_optimizers.by_name(inner.loop.optimizer, 1.0, inner.loop.eps_root).init(
        fast
    )
    return State(zero, fast, opt_state, inner_state), Fixed(slow, rates), plan


def settle(
    settings: dict[str, Any], theta: str | os.PathLike | theta_files.Theta | None
) -> tuple[dict[str, Any], theta_files.Theta]:
    """Checks the settings of an adaptation, reads θ, and fills in the rate.

    Args:
        settings: arguments of `adapt.adapt`.
        theta: what to adapt, or where it is, see `theta_files.load_theta`.

    Returns:
        The settings, and θ.

    Raises:
        UserError: a value or θ is not usable, or θ has no inner loop that is asked for.
    """
    settings = check_settings(settings)
    if not isinstance(theta, theta_files.Theta):
        theta = theta_files.load_theta(theta)
    transformer.check(theta.params)
    if settings['inner_steps'] and theta.rates is None:
        raise UserError(
            f'inner_steps={settings["inner_steps"]}: this θ has no learned rates, leave it out'
        )
    if settings['rate'] is None:
        settings['rate'] = rate_from(theta, settings['begin'], settings['params'])
    return settings, theta


def check_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Checks that an adaptation can work with some settings.

    Args:
        settings: arguments of `adapt.adapt`.

    Returns:
        The same, numbers of NumPy as Python's, so that JSON holds them.

    Raises:
        UserError: a value is not usable.
    """
    transformer.adapted(settings['params'])
    adam_schedule.adam(1.0, settings['schedule'])
    if settings['begin'] not in BEGIN:
        raise UserError(f'begin={settings["begin"]!r}: it must be one of {", ".join(BEGIN)}')
    least_of = {'steps': 1, 'inner_steps': 0, 'batch': 1, 'size': 16, 'style_size': 16}
    for name, least in least_of.items():
        value = settings[name]
        if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
            raise UserError(f'{name}={value!r}: it must be a whole number of at least {least}')
    if settings['batch'] > MOST:
        raise UserError(f'batch={settings["batch"]}: it must be at most {MOST}')
    if settings['inner_steps'] > settings['steps']:
        raise UserError(
            f'inner_steps={settings["inner_steps"]} is more than steps={settings["steps"]}, of '
            'which they are the first'
        )
    rate = settings['rate']
    if rate is not None and not (_is_number(rate) and rate > 0):
        raise UserError(f'rate={rate!r}: it must be a number above zero')
    for name in ('content_weight', 'style_weight'):
        value = settings[name]
        if not (_is_number(value) and value >= 0):
            raise UserError(f'{name}={value!r}: it must be a number, not below zero')
    batching.check_seed(settings['seed'])
    return {
        name: value.item() if isinstance(value, np.generic) else value
        for name, value in settings.items()
    }


def _is_number(value: Any) -> bool:
    """Whether a value is a finite number."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number may exceed all floats
        return False


def check_finite(loss: perceptual_loss.Loss, step: int, weights: Weights) -> None:
    """Raises UserError when adaptation has diverged."""
    if not np.isfinite(loss.total):
        raise UserError(
            f'the loss is {loss.total} at step {step + 1}: lower --rate (it is {weights.rate}) '
            f'or --style_weight (it is {weights.style})'
        )


@functools.partial(jax.jit, static_argnames='plan', donate_argnames='state')
def adapt_step(
    state: State,
    fixed: Fixed,
    vgg_params: Params,
    contents: Array,
    grams: tuple[Array, ...],
    weights: Weights,
    *,
    plan: Plan,
) -> tuple[State, perceptual_loss.Loss]:
    """One step on one batch: of the learned inner loop at first, of Adam after it.

    Args:
        state: before the step; its buffers are reused.
        fixed: see `start`.
        vgg_params: weights of the loss network.
        contents: `[N, H, W, 3] uint8`.
        grams: L arrays `[C, C]` of the style image.
        weights: of the losses, and Adam's rate.
        plan: see `start`.

    Returns:
        The next state and the loss before the step.
    """
    contents = batching.as_float(contents)
    skeleton = jax.tree.unflatten(plan.like, range(plan.like.num_leaves))

    def total(fast):
        params = trees.combine(skeleton, fast, fixed.slow)
        loss = content_and_style(params, vgg_params, contents, grams, weights)
        return loss.total, loss

    grads, loss = jax.grad(total, has_aux=True)(state.fast)
    return update(state, grads, fixed, loss.total, weights, plan), loss


def update(
    state: State,
    grads: dict[str, Array],
    fixed: Fixed,
    total: Array,
    weights: Weights,
    plan: Plan,
) -> State:
    """The state after a step, by Adam or the learned inner loop.

    Every operation is elementwise, so that styles may be stacked: `[S, ...]`.

    Args:
        state: before the step.
        grads: of the loss in `state.fast`.
        fixed: see `start`.
        total: the loss, a scalar, or `[S]` of stacked styles.
        weights: for Adam's rate.
        plan: see `start`.
    """
    updates, opt_state = adam_schedule.adam(weights.rate, plan.schedule).update(grads, state.adam)
    is_norm = transformer.adapted('norm')
    updates = {
        name: update * (plan.norm_factor if is_norm(name) else 1.0)
        for name, update in updates.items()
    }
    inner = state.inner
    if plan.loop is not None:
        if plan.loop.log_loss:
            grads = jax.tree.map(
                lambda leaf: leaf / total.reshape(total.shape + (1,) * (leaf.ndim - total.ndim)),
                grads,
            )
        optimizer = inner_optimizers.by_name(plan.loop.optimizer, 1.0, plan.loop.eps_root)
        first, inner = optimizer.update(grads, inner, state.fast)
        first = {name: fixed.rates[name] * update for name, update in first.items()}
        early = state.step < plan.loop.steps
        updates = jax.tree.map(lambda a, b: jnp.where(early, a, b), first, updates)
    return State(state.step + 1, optax.apply_updates(state.fast, updates), opt_state, inner)


def content_and_style(
    params: Params,
    vgg_params: Params,
    contents: Array,
    grams: tuple[Array, ...],
    weights: Weights,
) -> perceptual_loss.Loss:
    """The perceptual loss of a network's outputs on some contents.

    Args:
        params: of the transformer.
        vgg_params: weights of the loss network.
        contents: `[N, H, W, 3]` in 0..1.
        grams: L arrays `[C, C]` of the style image.
        weights: of the losses.
    """
    return perceptual_loss.perceptual_loss(
        lambda x: vgg.features(vgg_params, x),
        transformer.apply(params, contents),
        perceptual_loss.Targets(vgg.content_features(vgg_params, contents), grams),
        content_weight=weights.content,
        style_weight=weights.style,
    )
