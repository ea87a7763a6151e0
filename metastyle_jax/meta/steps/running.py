"""Runs the inner loop; `inner.inner_loop` is its public function."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from metastyle_jax.core import checks
from metastyle_jax.core.errors import UserError
from metastyle_jax.core.types import Array, PyTree
from metastyle_jax.meta import arguments, forward_over_reverse, shard_map
from metastyle_jax.meta.steps import closures, loops, losses, selection
from metastyle_jax.meta.types import Carry, Inner, Meta, Options


class Feed(NamedTuple):
    """The batches of the inner steps.

    Attributes:
        steps: T, the number of steps.
        stacked: pytree with leaves `[T, ...]`; the loop takes one slice of it for each step.
        of_step: function `(slice of stacked, step) -> batch`.
    """

    steps: int
    stacked: PyTree
    of_step: Callable[[PyTree, Array], PyTree]

    def first(self, step: Array) -> PyTree:
        """Returns the batch of the first step, which has the number `step`."""
        return self.of_step(jax.tree.map(lambda leaf: leaf[0], self.stacked), step)


class _Start(NamedTuple):
    """The first carry of the loop, and values that are constant in the loop.

    Attributes:
        fast: name -> adapted tensor.
        opt_state: state of the inner optimizer.
        state: state of the loss.
        numbers: `[T]` int32, the number of each step.
        slow: name -> frozen tensor.
        visible: the meta-parameters if the loss declares them, see `losses.visible_meta`.
    """

    fast: dict[str, Array]
    opt_state: Any
    state: Any
    numbers: Array
    slow: dict[str, Array]
    visible: Any


def run(
    meta: Meta,
    batches: PyTree,
    options: Options,
    *,
    after_step: Callable[..., Any] | None = None,
    outside: dict[str, Any] | None = None,
) -> tuple[Inner, Any]:
    """Takes the inner steps, and may call a function after each step.

    Args:
        meta: the meta-parameters.
        batches: the batches, see `inner.inner_loop`.
        options: the keyword arguments of `inner.inner_loop`.
        after_step: function `(params, *, state, step) -> pytree`; None to call nothing.
        outside: name -> array that no loss, optimizer or function of batches may close over.

    Returns:
        An `Inner`, and the results of `after_step` with a leading axis of size T, or None.
    """
    arguments.check_meta(meta)
    arguments.check_options(options)
    chain = losses.optimizer_of(options.optimizer, meta)
    parts = selection.divide(meta.theta, options.adapted)
    feed = feed_of(batches, options.steps)
    arguments.check_fast(parts.fast, meta.rates, feed.steps)
    carry = options.carry or first_carry(meta, chain.init(parts.fast), options.state)
    fast = selection.divide(carry.params, options.adapted).fast
    if not feed.steps:
        params = parts.combine(fast, parts.slow)
        return Inner(params, jnp.zeros((0,)), None, carry._replace(params=params)), None
    loss, visible = _loss_of_parts(meta, parts, options)
    numbers = jnp.asarray(carry.step, jnp.int32) + jnp.arange(feed.steps, dtype=jnp.int32)
    start = _Start(fast, carry.opt_state, carry.state, numbers, parts.slow, visible)
    if outside:
        closures.check_optimizer(options.optimizer, meta, parts.fast, outside)
        if callable(batches):
            closures.check_batches(batches, numbers[0], outside)
    if shard_map.is_active():
        start = _own_copies(start, feed, loss, chain, meta.rates)
    value_and_grad, looping = _derivative(loss, start, feed, options, outside or {})
    by_step, by_tensor = losses.divide_rates(meta.rates, fast)

    def step(loop_carry, x):
        fast, opt_state, state = loop_carry
        item, number, rates = x
        batch = feed.of_step(item, number)
        (value, (state, aux)), grads = value_and_grad(
            fast, parts.slow, batch, visible, state, number
        )
        if options.order == 'first':
            grads, loss_value = jax.lax.stop_gradient((grads, value))
        else:
            loss_value = value
        updates, opt_state = chain.update(grads, opt_state, fast, value=loss_value)
        fast = optax.apply_updates(fast, losses.scaled(updates, rates | by_tensor))
        after = None
        if after_step is not None:
            after = after_step(parts.combine(fast, parts.slow), state=state, step=number + 1)
        return (fast, opt_state, state), (value, aux, after)

    (fast, opt_state, state), (values, aux, after) = loops.scan(
        step, start[:3], (feed.stacked, numbers, by_step), length=feed.steps, **looping
    )
    params = parts.combine(fast, parts.slow)
    return Inner(params, values, aux, Carry(params, opt_state, state, numbers[-1] + 1)), after


def first_carry(meta: Meta, opt_state: Any, state: Any) -> Carry:
    """Makes the carry before the first step; the leaves of `state` become JAX arrays."""
    return Carry(meta.theta, opt_state, jax.tree.map(jnp.asarray, state), jnp.zeros((), jnp.int32))


def feed_of(batches: PyTree, steps: int | None) -> Feed:
    """Makes a `Feed` from the arguments `batches` and `steps` of `inner_loop`."""
    if steps is None:
        if callable(batches):
            raise UserError('batches is a function: give steps, the number of inner steps')
        return Feed(arguments.leading_axis(batches, least=0), batches, lambda item, step: item)
    checks.whole_number('steps', steps, 0)
    if callable(batches):
        return Feed(steps, None, lambda item, step: batches(step))
    return Feed(steps, None, lambda item, step: batches)


def _loss_of_parts(
    meta: Meta, parts: selection.Parts, options: Options
) -> tuple[Callable[..., Any], Any]:
    """Wraps the loss as a function whose arguments are pytrees of arrays only.

    Returns:
        The function `(fast, slow, batch, visible, state, step) -> (value, (next state, aux))`, and
        its argument `visible`, see `losses.visible_meta`.
    """
    visible, with_settings = losses.visible_meta(options.loss, meta)
    has_state = 'state' in losses.extras_of(options.loss)

    def loss(fast, slow, batch, visible, state, step):
        extras = {'meta': with_settings(visible), 'state': state, 'step': step}
        result = losses.call(options.loss, parts.combine(fast, slow), batch, **extras)
        value, after, aux = losses.split_inner(result, has_state=has_state, has_aux=options.has_aux)
        return value, (jax.tree.map(jnp.asarray, after) if has_state else state, aux)

    return loss, visible


def _derivative(
    loss: Callable[..., Any],
    start: _Start,
    feed: Feed,
    options: Options,
    outside: dict[str, Any],
) -> tuple[Callable[..., Any], dict[str, Any]]:
    """Chooses the differentiation mode, rematerialization and unrolling of the inner loop.

    Returns:
        A function like `jax.value_and_grad(loss, has_aux=True)`, and arguments of `loops.scan`.
    """
    example = _example(start, feed)
    # The trace turns arrays that the loss closes over into inputs, so that mixed mode can
    # differentiate in them. `jax.closure_convert` also does that, but its cache would keep every
    # such array alive.
    traced = forward_over_reverse.trace(loss, *example)
    closures.check_loss(traced.closed, outside, 'inner')
    _check_state(start.state, jax.tree.unflatten(traced.extras, traced.closed.out_avals[1:])[0])
    params = start.fast, start.slow
    unroll = options.unroll or loops.unroll_of(traced.closed, feed.steps, params)
    mixed = options.mode == 'mixed' and not _needs_reverse(traced, options.trust_rules, example)
    remat = options.remat
    if remat is None:
        remat = mixed and unroll < feed.steps
        remat = remat and loops.is_bound_by_activations(traced.closed, params)
    looping = {'unroll': unroll, 'remat': remat, 'recompute': not mixed}
    if mixed:
        return forward_over_reverse.value_and_grad(traced, remat=remat in (True, 'sqrt')), looping
    return jax.value_and_grad(loss, has_aux=True), looping


def _example(start: _Start, feed: Feed) -> tuple[PyTree, ...]:
    """Returns the arguments of the loss in the first step."""
    step = start.numbers[0]
    return start.fast, start.slow, feed.first(step), start.visible, start.state, step


def _check_state(state: PyTree, next_state: PyTree) -> None:
    """Raises UserError if structure, shapes or types differ between a loss's state and the next."""
    kinds = lambda tree: jax.tree.map(lambda x: (x.shape, str(x.dtype)), tree)
    before, after = kinds(state), kinds(next_state)
    if before != after:
        raise UserError(
            f'the inner loss changes its state from (shape, dtype) = {before} to {after}: the '
            'next state must have the same structure, shapes and types'
        )


def _needs_reverse(
    traced: forward_over_reverse.TracedLoss, trust_rules: bool, example: tuple[PyTree, ...]
) -> bool:
    """Whether a loss does not support mixed mode; logs a warning with the reason if so."""
    rules = [] if trust_rules else forward_over_reverse.untrusted_rules(traced)
    if rules:
        why = (
            'which needs true derivatives: the inner loss contains custom derivative rules, of '
            f'{"; ".join(rules)}. If these rules give true derivatives, pass trust_rules=True'
        )
    elif not forward_over_reverse.is_supported(traced, *example):
        why = (
            'which needs forward derivatives: the inner loss contains a jax.custom_vjp whose rules '
            'have none, such as jax.experimental.ode.odeint'
        )
    else:
        return False
    arguments.warn_caller(f"mode='reverse' is used instead of mode='mixed', {why}")
    return True


def _own_copies(
    start: _Start,
    feed: Feed,
    loss: Callable[..., Any],
    optimizer: optax.GradientTransformationExtraArgs,
    rates: dict[str, Array] | None,
) -> _Start:
    """Marks the start of the loop as different on each device of a `jax.shard_map`.

    If a parameter is equal on all devices, JAX sums its gradients over the devices. But each device
    has its own task, and must adapt w_t by its own gradient. So `fast` is marked as varying along
    each mesh axis along which the loss, the rates or the updates vary.
    """
    fast, *others = _example(start, feed)
    value, (state, _) = jax.eval_shape(loss, fast, *others)
    fast = shard_map.mark_varying(fast, shard_map.varying_axes((value, rates, fast)))

    def update(fast, value):
        return optimizer.update(fast, optimizer.init(fast), fast, value=value)

    # The optimizer itself may hold arrays that differ between devices, such as a learning rate.
    updated = jax.eval_shape(update, fast, value)
    axes = shard_map.varying_axes(updated)
    return start._replace(
        fast=shard_map.mark_varying(fast, axes),
        opt_state=shard_map.mark_varying(start.opt_state, axes | shard_map.varying_axes(fast)),
        state=shard_map.mark_varying(start.state, axes | shard_map.varying_axes(state)),
    )
