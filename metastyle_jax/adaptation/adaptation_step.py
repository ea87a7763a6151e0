"""One step of an adaptation: its state, its constants, and the compiled function.

A step of Adam minimizes the perceptual loss. If θ was trained with learned rates, the first steps
can be steps of its inner loop instead.

Source: Zhang, Zhu and Zhu 2019, arXiv 1812.05233, section 3.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from metastyle_jax.adaptation import warmup_and_decay
from metastyle_jax.core import trees
from metastyle_jax.core.errors import UserError
from metastyle_jax.core.types import Array, Params, PyTree
from metastyle_jax.data import batching
from metastyle_jax.meta import inner_optimizers
from metastyle_jax.models import perceptual_loss, transformer

# Scales and biases of instance norms are about 30 times larger than the entries of kernels, so they
# can take longer steps, and the longest when they are all that is adapted.
NORM_FACTORS = {'all': 10.0, 'norm': 60.0}


class LearnedLoop(NamedTuple):
    """Constants of the inner loop that θ was trained for.

    Attributes:
        steps: T, the number of inner steps.
        optimizer: name of the inner optimizer, see `inner_optimizers.by_name`.
        log_loss: whether the inner loop minimizes the logarithm of the loss.
        eps_root: constant under the square root of Adam.
    """

    steps: int = 1
    optimizer: str = 'sgd'
    log_loss: bool = False
    eps_root: float = inner_optimizers.EPS_ROOT


class LearnedRates(NamedTuple):
    """A learned inner loop.

    Attributes:
        loop: constants of the inner loop.
        rates: name of an adapted tensor -> learned rates, see `theta_files.Theta`.
    """

    loop: LearnedLoop
    rates: dict[str, Array]


class AdaptationState(NamedTuple):
    """Arrays that a step of the adaptation updates.

    Attributes:
        step: scalar int32, number of finished steps.
        fast: name -> adapted parameter.
        adam: state of Adam. It receives the gradients of all steps, also of the inner loop's steps.
        inner: state of the inner loop's optimizer; None without an inner loop.
    """

    step: Array
    fast: dict[str, Array]
    adam: PyTree
    inner: PyTree


class StepScalars(NamedTuple):
    """Numbers that are arguments of the compiled step, so new values need no new compilation.

    Attributes:
        rate: learning rate of Adam.
        content: weight of the content loss.
        style: weight of the style loss.
    """

    rate: float
    content: float
    style: float


class FixedTensors(NamedTuple):
    """Arrays that stay constant during an adaptation.

    Attributes:
        slow: name -> parameter that is not adapted.
        rates: name of an adapted tensor -> learned rates of the inner loop, `[T, ...]`, or
            `[1, ...]` if all steps share them; empty without an inner loop.
    """

    slow: dict[str, Array]
    rates: dict[str, Array]


class StepPlan(NamedTuple):
    """Constants that are compiled into a step; a different plan needs a new compilation.

    Attributes:
        like: tree structure of θ.
        loop: inner loop of the first steps; None if Adam takes all steps.
        schedule: schedule of Adam, see `warmup_and_decay.adam`.
        norm_factor: factor that multiplies Adam's updates of instance norms; 1 with schedule
            'constant'.
    """

    like: Any
    loop: LearnedLoop | None
    schedule: str
    norm_factor: float


def start(
    theta: Params, params: str, inner: LearnedRates | None = None, *, schedule: str = 'falling'
) -> tuple[AdaptationState, FixedTensors, StepPlan]:
    """Makes the arguments of the first step.

    Args:
        theta: parameters from which the adaptation starts. They are copied, because each step
            overwrites the memory of its state.
        params: 'all', or 'norm' to adapt instance norms only.
        inner: learned inner loop of the first steps; None if Adam takes all steps.
        schedule: schedule of Adam, see `warmup_and_decay.adam`.

    Returns:
        The state, the fixed tensors and the plan.

    Raises:
        UserError: `params`, the schedule or the name of the inner optimizer is unknown.
    """
    fast, slow = trees.partition(theta, transformer.adapted(params))
    fast = jax.tree.map(jnp.copy, fast)
    adam_state = warmup_and_decay.adam(1.0, schedule).init(fast)
    zero = jnp.zeros((), jnp.int32)
    factor = 1.0 if schedule == 'constant' else NORM_FACTORS[params]
    plan = StepPlan(jax.tree.structure(theta), inner and inner.loop, schedule, factor)
    if inner is None:
        return AdaptationState(zero, fast, adam_state, None), FixedTensors(slow, {}), plan
    # A tensor without a learned rate was not adapted in training, and stays in the inner loop.
    rates = {name: _by_step(inner.rates.get(name, 0.0), leaf) for name, leaf in fast.items()}
    inner_state = inner_optimizers.by_name(inner.loop.optimizer, 1.0, inner.loop.eps_root).init(
        fast
    )
    return AdaptationState(zero, fast, adam_state, inner_state), FixedTensors(slow, rates), plan


def _by_step(rates: Any, leaf: Array) -> Array:
    """Returns the rates of one tensor with a leading axis for the inner steps.

    Args:
        rates: `[]`, the shape of `leaf`, or either with a leading axis of T steps.
        leaf: the tensor.

    Returns:
        `[T, ...]`, or `[1, ...]` if all steps share the rates.
    """
    rates = jnp.asarray(rates, jnp.float32)
    return rates if rates.ndim == leaf.ndim + 1 else rates[None]


def check_finite(loss: perceptual_loss.Loss, step: int, scalars: StepScalars) -> None:
    """Raises UserError if the loss is not finite because the adaptation diverged."""
    if not np.isfinite(loss.total):
        raise UserError(
            f'the loss is {loss.total} at step {step + 1}: lower rate={scalars.rate} or '
            f'style_weight={scalars.style}'
        )


@functools.partial(jax.jit, static_argnames='plan', donate_argnames='state')
def adapt_step(
    state: AdaptationState,
    fixed: FixedTensors,
    vgg_params: Params,
    contents: Array,
    grams: tuple[Array, ...],
    scalars: StepScalars,
    *,
    plan: StepPlan,
) -> tuple[AdaptationState, perceptual_loss.Loss]:
    """Takes one step on one content batch: first steps of the inner loop, later steps of Adam.

    Args:
        state: state before the step; its memory is overwritten.
        fixed: fixed tensors, see `start`.
        vgg_params: weights of the loss network.
        contents: `[N, H, W, 3]` uint8.
        grams: L arrays `[C, C]`, Gram matrices of the style image.
        scalars: learning rate and weights of the losses.
        plan: plan, see `start`.

    Returns:
        The state after the step, and the loss before the step.
    """
    contents = batching.as_float(contents)
    targets = perceptual_loss.compute_targets(vgg_params, contents, grams)
    loss_weights = perceptual_loss.LossWeights(scalars.content, scalars.style)
    skeleton = jax.tree.unflatten(plan.like, range(plan.like.num_leaves))

    def total(fast):
        params = trees.combine(skeleton, fast, fixed.slow)
        loss = perceptual_loss.of_network(params, vgg_params, contents, targets, loss_weights)
        return loss.total, loss

    grads, loss = jax.grad(total, has_aux=True)(state.fast)
    return update(state, grads, fixed, loss.total, scalars, plan), loss


def update(
    state: AdaptationState,
    grads: dict[str, Array],
    fixed: FixedTensors,
    total: Array,
    scalars: StepScalars,
    plan: StepPlan,
) -> AdaptationState:
    """Updates the state with a gradient, by Adam or by the learned inner loop.

    All operations are elementwise. So the arrays of S styles may be stacked to `[S, ...]`, and each
    style is updated independently.

    Args:
        state: state before the step.
        grads: name -> gradient of the loss with respect to this entry of `state.fast`.
        fixed: fixed tensors, see `start`.
        total: the loss, a scalar; `[S]` for stacked styles.
        scalars: learning rate of Adam.
        plan: plan, see `start`.
    """
    updates, adam_state = warmup_and_decay.adam(scalars.rate, plan.schedule).update(
        grads, state.adam
    )
    is_norm = transformer.adapted('norm')
    updates = {
        name: update * (plan.norm_factor if is_norm(name) else 1.0)
        for name, update in updates.items()
    }
    inner = state.inner
    if plan.loop is not None:
        if plan.loop.log_loss:
            # ∇ log ℓ = ∇ℓ / ℓ
            grads = jax.tree.map(
                lambda leaf: leaf / total.reshape(total.shape + (1,) * (leaf.ndim - total.ndim)),
                grads,
            )
        optimizer = inner_optimizers.by_name(plan.loop.optimizer, 1.0, plan.loop.eps_root)
        first, inner = optimizer.update(grads, inner, state.fast)
        first = {
            name: fixed.rates[name][jnp.minimum(state.step, len(fixed.rates[name]) - 1)] * update
            for name, update in first.items()
        }
        # Both updates are computed in every step, so that one program serves all steps.
        early = state.step < plan.loop.steps
        updates = jax.tree.map(lambda a, b: jnp.where(early, a, b), first, updates)
    return AdaptationState(
        state.step + 1, optax.apply_updates(state.fast, updates), adam_state, inner
    )
