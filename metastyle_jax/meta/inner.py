"""The inner loop: T steps of an optimizer, starting from the initialization θ.

Sources: MAML, Finn et al. 2017, arXiv 1703.03400; learned rates: Meta-SGD, Li et al. 2017,
arXiv 1707.09835.
"""

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from metastyle_jax.core import checks, trees
from metastyle_jax.core.errors import UserError
from metastyle_jax.core.types import Array, Params, PyTree
from metastyle_jax.meta import arguments, forward_over_reverse, shard_map

LossFn = Callable[[Params, PyTree], Any]
ORDERS = ('exact', 'first')
MODES = ('reverse', 'mixed')

_MAX_UNROLL = 8  # on CPU; a program grows, and compiles more slowly, with each unrolled step


class Meta(NamedTuple):
    """The meta-parameters: everything that meta-learning changes.

    Attributes:
        theta: the initialization, any pytree of arrays.
        rates: learned inner rates, or None. A dict from the name of each adapted tensor to a
            factor for its updates: a scalar, or an array of the tensor's shape. With
            `optax.sgd(1.0)` as the inner optimizer these factors are the learning rates.
    """

    theta: Params
    rates: dict[str, Array] | None = None


class Inner(NamedTuple):
    """Result of the inner loop.

    Attributes:
        params: `w_T`, the adapted parameters, of the same structure as θ.
        losses: `[T]`, `L(w_{t-1}, b_t)`, the inner loss before each step.
    """

    params: Params
    losses: Array


def initial_rates(theta: Params, rate: float, adapted: Callable[[str], bool]) -> dict[str, Array]:
    """Learned inner rates to begin with: the same scalar for each adapted tensor.

    Args:
        theta: the initialization.
        rate: the value of every inner rate.
        adapted: predicate on names of tensors, see `inner_loop`.

    Returns:
        A dict for `Meta.rates`.

    Raises:
        UserError: no tensor is adapted.
    """
    fast, _ = trees.partition(theta, adapted)
    return {name: jnp.full((), rate, jnp.result_type(leaf)) for name, leaf in fast.items()}


def inner_loop(
    meta: Meta,
    batches: PyTree,
    *,
    loss: LossFn,
    optimizer: optax.GradientTransformation | None = None,
    adapted: Callable[[str], bool] = lambda name: True,
    order: str = 'exact',
    mode: str = 'reverse',
    remat: bool | None = None,
    unroll: int | None = None,
    trust_rules: bool = False,
) -> Inner:
    """Runs T steps of the inner optimizer in one `lax.scan`, differentiable in `meta`.

    With inner batches `b_1 … b_T`, the inner loss L and `w_0 = θ`, each step computes::

        w_t = w_{t-1} + r ⊙ U(∇L(w_{t-1}, b_t))

    Here U is the inner optimizer (`-δ·g` for SGD with learning rate δ) and r are the learned inner
    rates; without them r = 1.

    Inside `jax.shard_map` each device gets its own w_t if its batches or its loss are its own,
    even though θ is the same on all devices.

    Args:
        meta: θ and, if they are learned, the inner rates.
        batches: pytree whose leaves have a leading axis of size T, one slice for each step. With
            T = 0 the result is θ itself.
        loss: `(params, batch) -> scalar`, the inner loss L.
        optimizer: U in the equation above. It sees a flat dict from names to adapted tensors, so
            masks and labels of optax must be functions of such a dict. If it accepts the loss as
            the argument `value`, it gets it. None means `optax.sgd(1e-4)`, or `optax.sgd(1.0)` if
            rates are learned. Give Adam a positive `eps_root`: otherwise its second derivative at
            a gradient of zero is not a number.
        adapted: predicate on names ('down1/norm/scale'); tensors for which it is true are adapted.
        order: 'exact' for all second derivatives; 'first' treats the inner gradients as constants
            when the result is differentiated (first-order MAML).
        mode: how the inner gradient is differentiated: 'reverse' in reverse mode; 'mixed' by
            Hessian-vector products in forward-over-reverse mode, which is faster. After 'mixed'
            the result can only be differentiated once, in reverse mode. 'mixed' also needs
            symmetric second derivatives. If the loss contains custom derivative rules
            (`jax.custom_vjp`, `jax.custom_jvp`), 'reverse' is used instead, with a warning.
        remat: whether the backward pass recomputes each step instead of storing its intermediate
            values. Memory then hardly grows with T, at the price of more arithmetic. None
            means: only in mixed mode, and only if a loop remains after unrolling. On CPU,
            recomputation in unrolled steps saves no memory.
        unroll: number of steps in each iteration of the compiled loop. None means 1, except on
            CPU, where up to 8 steps are unrolled because loops are slow there.
        trust_rules: whether the custom derivative rules in the loss give true derivatives, so that
            mixed mode may be used with them. They must not contain a `jax.custom_vjp` themselves.

    Returns:
        An `Inner`.

    Raises:
        UserError: unknown order or mode; no tensor is adapted; learned rates have other names or
            shapes than the adapted tensors; an adapted tensor is not of floats; the inner loss is
            not a scalar; or the batches have no common leading axis.
    """
    optimizer = _check(meta, optimizer, adapted, order, mode)
    fast, slow = trees.partition(meta.theta, adapted)  # adapted and frozen tensors, by name
    arguments.check_fast(fast, meta.rates)
    steps = arguments.leading_axis(batches, least=0)
    if not steps:
        return Inner(meta.theta, jnp.zeros((0,)))
    unroll = unroll or default_unroll(steps)

    def loss_of_parts(fast, slow, batch):
        return loss(trees.combine(meta.theta, fast, slow), batch)

    example = (slow, jax.tree.map(lambda leaf: leaf[0], batches))
    if shard_map.is_active():
        fast = _own_copy(fast, example, loss_of_parts, optimizer, meta.rates)
    # The trace turns arrays that the loss closes over into inputs, so that mixed mode can
    # differentiate in them. `jax.closure_convert` also does that, but its cache would keep every
    # such array alive.
    closed = forward_over_reverse.trace(loss_of_parts, fast, *example)
    if mode == 'mixed' and not trust_rules and _has_custom_rules(closed):
        mode = 'reverse'
    if remat is None:
        remat = mode == 'mixed' and unroll < steps
    if mode == 'mixed':
        value_and_grad = forward_over_reverse.value_and_grad(closed, remat=remat)
    else:
        value_and_grad = jax.value_and_grad(loss_of_parts)

    def step(carry, batch):
        fast, opt_state = carry
        value, grads = value_and_grad(fast, slow, batch)
        seen = (grads, value) if order == 'exact' else jax.lax.stop_gradient((grads, value))
        updates, opt_state = optimizer.update(seen[0], opt_state, fast, value=seen[1])
        if meta.rates is not None:
            updates = {name: meta.rates[name] * update for name, update in updates.items()}
        return (optax.apply_updates(fast, updates), opt_state), value

    if remat and mode == 'reverse':
        step = jax.checkpoint(step)
    opt_state = shard_map.mark_varying(optimizer.init(fast), shard_map.varying_axes(fast))
    (fast, _), losses = jax.lax.scan(step, (fast, opt_state), batches, unroll=unroll)
    return Inner(trees.combine(meta.theta, fast, slow), losses)


def check_meta(meta: Any) -> None:
    """Raises UserError unless `meta` is a `Meta` whose rates are None or a dict of floats."""
    if not isinstance(meta, Meta):
        raise UserError(f'meta is of {type(meta).__name__}: give Meta(theta)')
    arguments.check_rates(meta.rates)


def default_unroll(length: int) -> int:
    """Number of iterations of a `lax.scan` to unroll on the current backend.

    On CPU, XLA computes convolutions much more slowly inside a loop than outside, so iterations
    are unrolled there. On other backends a loop costs nothing and compiles faster.
    """
    # A scan of length 1 with unroll=1 would remain a loop, with a single iteration.
    return min(max(length, 2), _MAX_UNROLL) if jax.default_backend() == 'cpu' else 1


def _check(
    meta: Meta,
    optimizer: optax.GradientTransformation | None,
    adapted: Callable[[str], bool],
    order: str,
    mode: str,
) -> optax.GradientTransformationExtraArgs:
    """Checks the arguments of `inner_loop` that need no computation; returns the optimizer."""
    check_meta(meta)
    checks.one_of('order', order, ORDERS)
    checks.one_of('mode', mode, MODES)
    arguments.check_predicate(adapted)
    if optimizer is None:
        optimizer = optax.sgd(1e-4 if meta.rates is None else 1.0)
    return arguments.check_optimizer(optimizer)


def _own_copy(
    fast: dict[str, Array],
    example: tuple[dict[str, Array], PyTree],
    loss_of_parts: Callable[..., Array],
    optimizer: optax.GradientTransformationExtraArgs,
    rates: dict[str, Array] | None,
) -> dict[str, Array]:
    """Marks θ's adapted tensors as different on each device of a `jax.shard_map`.

    The gradient in a parameter that is equal on all devices is the sum of all devices' gradients.
    But each device has a task of its own, and its w_t must follow its own gradient. So `fast` is
    marked along every mesh axis along which the loss, the rates or the updates differ.
    """
    value = jax.eval_shape(loss_of_parts, fast, *example)
    fast = shard_map.mark_varying(fast, shard_map.varying_axes((value, rates, fast)))

    def update(fast, value):
        return optimizer.update(fast, optimizer.init(fast), fast, value=value)

    # The optimizer itself may hold arrays that differ between devices, such as a learning rate.
    updated = jax.eval_shape(update, fast, value)
    return shard_map.mark_varying(fast, shard_map.varying_axes(updated))


def _has_custom_rules(closed: Any) -> bool:
    """Whether a traced loss contains derivative rules of users; warns if so."""
    rules = forward_over_reverse.untrusted_rules(closed)
    if rules:
        warnings.warn(
            "mode='reverse' is used instead of mode='mixed', which needs true derivatives: the "
            f'inner loss contains custom derivative rules, of {"; ".join(rules)}. If these rules '
            'give true derivatives, pass trust_rules=True',
            stacklevel=3,
        )
    return bool(rules)
