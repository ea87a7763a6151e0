"""Adaptation of θ to one style, step by step.

Source: Zhang, Zhu and Zhu 2019, arXiv 1812.05233, section 3.
"""

import functools
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
from metastyle_jax.models import perceptual_loss, transformer

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


def check_finite(loss: perceptual_loss.Loss, step: int, weights: Weights) -> None:
    """Raises UserError when adaptation has diverged."""
    if not np.isfinite(loss.total):
        raise UserError(
            f'the loss is {loss.total} at step {step + 1}: lower rate={weights.rate} or '
            f'style_weight={weights.style}'
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
    targets = perceptual_loss.compute_targets(vgg_params, contents, grams)
    loss_weights = perceptual_loss.LossWeights(weights.content, weights.style)
    skeleton = jax.tree.unflatten(plan.like, range(plan.like.num_leaves))

    def total(fast):
        params = trees.combine(skeleton, fast, fixed.slow)
        loss = perceptual_loss.of_network(params, vgg_params, contents, targets, loss_weights)
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
