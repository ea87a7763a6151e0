"""One step of an adaptation: its state, its constants, and the compiled function.

A step is Adam on the perceptual loss. If θ has learned rates, the tensors that have them take
their first steps at these rates instead, and Adam begins on them afterwards. Adam adapts the other
tensors from the first step on.

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
    """The first steps of an adaptation, at learned rates.

    Attributes:
        loop: constants of the inner loop.
        rates: name of an adapted tensor -> learned rates, see `theta_files.Theta`.
    """

    loop: LearnedLoop
    rates: dict[str, Array]


class AdamStates(NamedTuple):
    """The states of two Adam optimizers, which start at different steps.

    Attributes:
        others: for the tensors without learned rates; it starts with the first step.
        learned: for the tensors with learned rates; it starts after the steps at these rates.
    """

    others: PyTree
    learned: PyTree


class AdaptationState(NamedTuple):
    """Arrays that a step of the adaptation updates.

    Attributes:
        step: scalar int32, number of steps done.
        fast: adapted parameters by name.
        adam: states of Adam.
        inner: state of the optimizer of the steps at learned rates; None without such steps.
    """

    step: Array
    fast: dict[str, Array]
    adam: AdamStates
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
        slow: parameters that are not adapted, by name.
        rates: learned rates by name of the adapted tensor, `[T, ...]`, or `[1, ...]` if all steps
            share them; empty without learned steps.
    """

    slow: dict[str, Array]
    rates: dict[str, Array]


class StepPlan(NamedTuple):
    """Constants that are compiled into a step; a different plan needs a new compilation.

    Attributes:
        like: tree structure of θ.
        loop: constants of the steps at learned rates; None if Adam takes all steps.
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
        inner: the first steps, at learned rates; None if Adam takes all steps.
        schedule: schedule of Adam, see `warmup_and_decay.adam`.

    Returns:
        The state, the fixed tensors and the plan.

    Raises:
        UserError: `params`, the schedule or the name of the inner optimizer is unknown.
    """
    fast, slow = trees.partition(theta, transformer.adapted(params))
    fast = jax.tree.map(jnp.copy, fast)
    given = {} if inner is None else inner.rates
    rates = {
        name: _with_step_axis(given[name], leaf.ndim)
        for name, leaf in fast.items()
        if name in given
    }
    learned, others = _split(fast, rates)
    adam = warmup_and_decay.adam(1.0, schedule)
    factor = 1.0 if schedule == 'constant' else NORM_FACTORS[params]
    state = AdaptationState(
        jnp.zeros((), jnp.int32),
        fast,
        AdamStates(adam.init(others), adam.init(learned)),
        None if inner is None else _inner_optimizer(inner.loop).init(learned),
    )
    plan = StepPlan(jax.tree.structure(theta), inner and inner.loop, schedule, factor)
    return state, FixedTensors(slow, rates), plan


def _with_step_axis(rates: Any, ndim: int) -> Array:
    """Returns the learned rates of a tensor with an axis of steps in front.

    Args:
        rates: one rate for each step, or the same rates for all steps; see `theta_files.Theta`.
        ndim: number of axes of the tensor.
    """
    rates = jnp.asarray(rates, jnp.float32)
    return rates if rates.ndim == ndim + 1 else rates[None]


def _split(
    tensors: dict[str, Array], rates: dict[str, Array]
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Returns the tensors that have learned rates, and the others."""
    return (
        {name: leaf for name, leaf in tensors.items() if name in rates},
        {name: leaf for name, leaf in tensors.items() if name not in rates},
    )


def _inner_optimizer(loop: LearnedLoop) -> optax.GradientTransformation:
    """Returns the optimizer whose updates the learned rates multiply."""
    return inner_optimizers.by_name(loop.optimizer, 1.0, loop.eps_root)


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
    """Takes one step on one content batch.

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
    """Updates the state by a gradient, with Adam and, in the first steps, at the learned rates.

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
    adam = warmup_and_decay.adam(scalars.rate, plan.schedule)
    learned, others = _split(grads, fixed.rates)
    updates, adam_others = adam.update(others, state.adam.others)
    late_updates, adam_learned = adam.update(learned, state.adam.learned)
    is_norm = transformer.adapted('norm')
    updates = {
        name: update * (plan.norm_factor if is_norm(name) else 1.0)
        for name, update in (updates | late_updates).items()
    }
    inner = state.inner
    if plan.loop is not None:
        if plan.loop.log_loss:
            # ∇ log ℓ = ∇ℓ / ℓ
            learned = jax.tree.map(
                lambda leaf: leaf / total.reshape(total.shape + (1,) * (leaf.ndim - total.ndim)),
                learned,
            )
        first, inner = _inner_optimizer(plan.loop).update(learned, inner)
        # Both kinds of steps are computed each time, so that one program serves all steps.
        early = state.step < plan.loop.steps
        for name, update in first.items():
            rates = fixed.rates[name]
            rate = rates[jnp.minimum(state.step, len(rates) - 1)]
            updates[name] = jnp.where(early, rate * update, updates[name])
        adam_learned = jax.tree.map(
            lambda before, after: jnp.where(early, before, after), state.adam.learned, adam_learned
        )
    return AdaptationState(
        state.step + 1,
        optax.apply_updates(state.fast, updates),
        AdamStates(adam_others, adam_learned),
        inner,
    )
