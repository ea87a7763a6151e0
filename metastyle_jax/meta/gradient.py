"""Exact gradients of a loss through the steps of an inner optimizer.

Callables come in and pytrees go out; nothing here knows of images. For one task with inner
batches `b_1 … b_T` and an outer batch `b'`,

    w_0 = θ,   w_t = w_{t-1} + r ⊙ U(∇_w L(w_{t-1}, b_t)),   F(θ, r) = L'(w_T, b'),

where U is an optax transformation (`-δ·g` for SGD), r are optional learned inner rates, one for
each tensor (Meta-SGD), and the result is dF/d(θ, r) with every second derivative in it.

Sources: MAML, Finn et al. 2017, arXiv 1703.03400; Meta-SGD, Li et al. 2017, arXiv 1707.09835.
"""

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from metastyle_jax.core import trees
from metastyle_jax.core.errors import UserError
from metastyle_jax.core.types import Array, Params, PyTree
from metastyle_jax.meta import arguments, forward_over_reverse, shard_map

LossFn = Callable[[Params, PyTree], Any]
ORDERS = ('exact', 'first')
MODES = ('reverse', 'mixed')


class Meta(NamedTuple):
    """What is meta-learned.

    Attributes:
        theta: the initialization, any pytree of arrays.
        rates: dict from the name of each adapted tensor to a scalar that multiplies its inner
            updates (use `optax.sgd(1.0)` inside and these are its learning rates), or to an
            array of the tensor's shape; or None.
    """

    theta: Params
    rates: dict[str, Array] | None = None


class Inner(NamedTuple):
    """Outcome of the inner loop.

    Attributes:
        params: `w_T`, of θ's structure.
        losses: `[T]`, `L(w_{t-1}, b_t)`: the loss *before* each step.
    """

    params: Params
    losses: Array


class MetaGradient(NamedTuple):
    """Outcome of `meta_gradient`.

    Attributes:
        gradient: a `Meta` of the structure of the one given.
        outer_loss: scalar, `L'(w_T, b')`.
        inner_losses: `[T]`, the loss before each inner step.
        first_order_norm: norm of `∇L'` at `w_T`, the gradient that first-order MAML would use.
        second_order_norm: norm of what exactness adds to it: zero with `order='first'`, unless
            the optimizer itself depends on θ, as weight decay does.
        aux: what the outer loss returned beside its value, or None.
    """

    gradient: Meta
    outer_loss: Array
    inner_losses: Array
    first_order_norm: Array
    second_order_norm: Array
    aux: Any


def initial_rates(theta: Params, rate: float, adapted: Callable[[str], bool]) -> dict[str, Array]:
    """Equal learned inner rates, one scalar for each adapted tensor of θ.

    Args:
        theta: the initialization.
        rate: of all.
        adapted: predicate on names of tensors, see `inner_loop`.

    Returns:
        For `Meta.rates`.

    Raises:
        UserError: no tensor is adapted.
    """
    chosen, _ = trees.partition(theta, adapted)
    return {name: jnp.full((), rate, jnp.result_type(leaf)) for name, leaf in chosen.items()}


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
    """T steps of the inner optimizer in one `lax.scan`, differentiable in `meta`.

    Args:
        meta: θ and, if they are learned, the inner rates.
        batches: pytree whose leaves have a leading axis of T, one slice for each step. With
            T = 0 nothing moves, and a meta-gradient is the gradient of the outer loss at θ.
        loss: `(params, batch) -> scalar`.
        optimizer: U above. It sees a flat dict of the adapted tensors by name, so masks and
            labels for parts of them are functions of that dict. It is handed the loss too, as
            `value`, where it takes that. None: `optax.sgd(1e-4)`, or `optax.sgd(1.0)`
            if rates are learned. Give Adam an `eps_root`: without it the second derivative at a
            zero gradient is not a number.
        adapted: predicate on names ('down1/norm/scale') of the tensors that move.
        order: 'exact', or 'first' for gradients that are constants to the outer derivative.
        mode: 'reverse' differentiates the inner gradient in reverse mode; 'mixed' takes its
            Hessian-vector products forward over reverse, which is faster; the result can then be
            differentiated in reverse mode only. That needs derivatives that are symmetric: where
            the loss has a rule of its own (`jax.custom_vjp`, `jax.custom_jvp`), 'reverse' takes
            its place, with a warning.
        remat: recompute each step in the backward pass instead of keeping its intermediates, so
            that memory hardly grows with T, for up to a quarter more arithmetic. None: in mixed
            mode, where a loop remains; in unrolled steps it saves nothing on CPU.
        unroll: steps for each iteration of the compiled loop. None: one, except on CPU, where up
            to eight are unrolled, which takes a seventh less time.
        trust_rules: whether all rules of the loss give true derivatives, so that mixed mode may
            be used with them; they must not need a `jax.custom_vjp` within.

    Returns:
        An `Inner`.

    Inside `jax.shard_map` each device has its own w_t where its loss is its own, although θ is
    the same on all.

    Raises:
        UserError: unknown order or mode, no tensor adapted, rates of other names or shapes, a
            tensor to adapt that is not of floats, an inner loss that is not a scalar, or batches
            without a common leading axis.
    """
    _check(meta)
    if order not in ORDERS or mode not in MODES:
        raise UserError(f'order {order!r}, mode {mode!r}: they must be of {ORDERS} and of {MODES}')
    if not callable(adapted):
        raise UserError(f'adapted={adapted!r}: it must be a function of the name of a tensor')
    if optimizer is None:
        optimizer = optax.sgd(1e-4 if meta.rates is None else 1.0)
    optimizer = arguments.check_optimizer(optimizer)
    fast, slow = trees.partition(meta.theta, adapted)
    arguments.check_floats(fast)
    if meta.rates is not None:
        arguments.check_shapes(meta.rates, fast)
    steps = arguments.leading_axis(batches, least=0)
    if not steps:
        return Inner(meta.theta, jnp.zeros((0,)))
    unroll = unroll or _unroll(steps)

    def by_parts(fast, slow, batch):
        return loss(trees.combine(meta.theta, fast, slow), batch)

    first = jax.tree.map(lambda leaf: leaf[0], batches)
    if shard_map.told():
        # Of parameters that are the same on all devices, JAX would sum the gradients of all.
        value = jax.eval_shape(by_parts, fast, slow, first)
        fast = shard_map.vary(fast, shard_map.axes((value, meta.rates, fast)))
        update = lambda fast, value: optimizer.update(
            fast, optimizer.init(fast), fast, value=value
        )  # fmt: skip
        fast = shard_map.vary(fast, shard_map.axes(jax.eval_shape(update, fast, value)))
    # Traced once, so that arrays which the loss closes over become inputs like the others.
    # `jax.closure_convert` does the same, but keeps every array it has seen alive in a cache.
    closed = forward_over_reverse.trace(by_parts, fast, slow, first)
    if (
        mode == 'mixed'
        and not trust_rules
        and (rules := list(forward_over_reverse.own_rules(closed.jaxpr)))
    ):
        warnings.warn(
            "mode='mixed' needs true derivatives, and the inner loss has rules of its own, of "
            f"{'; '.join(rules)}: mode='reverse' takes its place. If they give true derivatives, "
            'pass trust_rules=True',
            stacklevel=2,
        )
        mode = 'reverse'
    if remat is None:
        remat = mode == 'mixed' and unroll < steps
    if mode == 'mixed':
        gradient = forward_over_reverse.value_and_grad(closed, remat=remat)
    else:
        gradient = jax.value_and_grad(by_parts)

    def step(carry, batch):
        fast, opt_state = carry
        value, grads = gradient(fast, slow, batch)
        told = (grads, value)
        if order == 'first':
            told = jax.lax.stop_gradient(told)
        updates, opt_state = optimizer.update(told[0], opt_state, fast, value=told[1])
        if meta.rates is not None:
            updates = {name: meta.rates[name] * update for name, update in updates.items()}
        return (optax.apply_updates(fast, updates), opt_state), value

    step = jax.checkpoint(step) if remat and mode == 'reverse' else step
    carry = (fast, shard_map.vary(optimizer.init(fast), shard_map.axes(fast)))
    (fast, _), losses = jax.lax.scan(step, carry, batches, unroll=unroll)
    return Inner(trees.combine(meta.theta, fast, slow), losses)


def meta_gradient(
    meta: Meta,
    inner_batches: PyTree,
    outer_batch: PyTree,
    *,
    inner_loss: LossFn,
    outer_loss: LossFn | None = None,
    has_aux: bool = False,
    optimizer: optax.GradientTransformation | None = None,
    adapted: Callable[[str], bool] = lambda name: True,
    order: str = 'exact',
    mode: str = 'reverse',
    remat: bool | None = None,
    unroll: int | None = None,
    trust_rules: bool = False,
) -> MetaGradient:
    """Gradient of the outer loss through the inner loop, for one task.

    Args:
        meta: what is differentiated: θ and, if they are learned, the inner rates.
        inner_batches: pytree whose leaves have a leading axis of T.
        outer_batch: pytree.
        inner_loss: `(params, batch) -> scalar`.
        outer_loss: `(params, batch) -> scalar`, or `-> (scalar, aux)` with `has_aux`; the inner
            loss if None.
        has_aux: whether the outer loss returns something beside its value.
        optimizer: as in `inner_loop`, and so are the others.
        adapted: predicate on the names of the tensors that move in the inner loop.
        order: 'exact' or 'first'.
        mode: 'reverse' or 'mixed'.
        remat: recompute inner steps in the backward pass, or not.
        unroll: inner steps for each iteration of the compiled loop.
        trust_rules: as in `inner_loop`.

    Returns:
        A `MetaGradient`; inside `jax.shard_map` each device has that of its own task, for
        `jax.lax.pmean`.

    Raises:
        UserError: as `inner_loop`; and θ holds something that has no derivative.

    Example:
        >>> loss = lambda w, b: 0.5 * jnp.sum((w - b) ** 2)
        >>> found = meta_gradient(Meta(jnp.zeros(2)), jnp.ones((1, 2)), jnp.ones(2),
        ...                       inner_loss=loss, optimizer=optax.sgd(0.5))
        >>> found.gradient.theta  # (1 - 0.5)² (θ - 1)
        Array([-0.25, -0.25], dtype=float32)
    """
    outer = inner_loss if outer_loss is None else outer_loss

    def objective(meta, offset):
        result = inner_loop(
            meta,
            inner_batches,
            loss=inner_loss,
            optimizer=optimizer,
            adapted=adapted,
            order=order,
            mode=mode,
            remat=remat,
            unroll=unroll,
            trust_rules=trust_rules,
        )
        # An offset of zero on w_T: its gradient is the first-order part, at no extra pass.
        value = outer(jax.tree.map(jnp.add, result.params, offset), outer_batch)
        value, aux = arguments.value_and_aux(value, has_aux)
        return value, (aux, result.losses)

    _check(meta)
    arguments.check_floats(meta.theta)
    offset = jax.tree.map(jnp.zeros_like, meta.theta)
    if shard_map.told():  # or the gradients of all devices' tasks would be summed
        axes = shard_map.axes(jax.eval_shape(objective, meta, offset)[0])
        meta, offset = shard_map.vary((meta, offset), axes)
    (value, (aux, losses)), (gradient, first) = jax.value_and_grad(
        objective, argnums=(0, 1), has_aux=True
    )(meta, offset)
    second = jax.tree.map(jnp.subtract, gradient.theta, first)
    return MetaGradient(gradient, value, losses, _norm(first), _norm(second), aux)


def reptile_gradient(
    meta: Meta,
    inner_batches: PyTree,
    outer_batch: PyTree,
    *,
    inner_loss: LossFn,
    outer_loss: LossFn | None = None,
    has_aux: bool = False,
    **options: Any,
) -> MetaGradient:
    """Reptile's direction for one task, `θ - w_T`: nothing is differentiated but the inner loss.

    Args:
        meta: θ, and the inner rates, which are not learned by this.
        inner_batches: as in `meta_gradient`, and so are the others.
        outer_batch: for the loss that is told; it does not enter the direction.
        inner_loss: see `meta_gradient`.
        outer_loss: see `meta_gradient`.
        has_aux: see `meta_gradient`.
        **options: of `inner_loop`, but for `order`.

    Returns:
        A `MetaGradient`, both of whose norms are that of the direction and zero.

    Source: Nichol, Achiam and Schulman 2018, arXiv 1803.02999.
    """
    result = inner_loop(meta, inner_batches, loss=inner_loss, **{**options, 'order': 'first'})
    value = (outer_loss or inner_loss)(result.params, outer_batch)
    value, aux = arguments.value_and_aux(value, has_aux)
    direction = jax.tree.map(jnp.subtract, meta.theta, result.params)
    norm = _norm(direction)
    return MetaGradient(
        Meta(direction, jax.tree.map(jnp.zeros_like, meta.rates)),
        value,
        result.losses,
        norm,
        jnp.zeros_like(norm),
        aux,
    )


def mean_over_tasks(
    gradient: Callable[[PyTree, PyTree], MetaGradient],
    inner_batches: PyTree,
    outer_batches: PyTree,
    *,
    unroll: int | None = None,
) -> MetaGradient:
    """Mean of the meta-gradients of several tasks, one after another in a `lax.scan`.

    Algorithm 1 of MetaStyle takes the sum; the mean differs by a constant that Adam absorbs, and
    keeps clipping thresholds and logged losses independent of the number of styles. Gradients
    are accumulated, so that memory does not grow with the number of tasks.

    Args:
        gradient: `(inner_batches, outer_batch) -> MetaGradient` of one task.
        inner_batches: leaves `[S, T, ...]`.
        outer_batches: leaves `[S, ...]`.
        unroll: tasks for each iteration of the compiled loop; None as in `inner_loop`.

    Returns:
        A `MetaGradient`, each leaf the mean over the S tasks; of whole numbers and truth values
        too, as floats.

    Raises:
        UserError: batches without a common leading axis, of at least one task.
    """
    tasks = arguments.leading_axis((inner_batches, outer_batches))

    def one_task(*batches):
        return jax.tree.map(
            lambda x: x if arguments.is_float(x) else jnp.asarray(x, float), gradient(*batches)
        )

    def add(total, batches):
        return jax.tree.map(jnp.add, total, one_task(*batches)), None

    one = jax.tree.map(lambda leaf: leaf[0], (inner_batches, outer_batches))
    zero = jax.tree.map(
        lambda a: shard_map.vary(jnp.zeros(a.shape, a.dtype), shard_map.axes(a)),
        jax.eval_shape(one_task, *one),
    )
    total, _ = jax.lax.scan(
        add, zero, (inner_batches, outer_batches), unroll=unroll or _unroll(tasks)
    )
    return jax.tree.map(lambda leaf: leaf / tasks, total)


def _unroll(length: int) -> int:
    """Unrolling for the backend at hand: CPU loops are slower, but long programs compile long."""
    # For a length of one `lax.scan` would keep a loop of one trip if it were told to unroll one.
    return min(max(length, 2), 8) if jax.default_backend() == 'cpu' else 1


def _check(meta: Meta) -> None:
    """Raises UserError for what is no `Meta`, or has rates of another kind."""
    if not isinstance(meta, Meta):
        raise UserError(f'meta is of {type(meta).__name__}: give Meta(theta)')
    arguments.check_rates(meta.rates)


def _norm(tree: PyTree) -> Array:
    """Norm of all leaves together; short floats would overflow."""
    return optax.tree.norm(
        jax.tree.map(lambda x: x.astype(jnp.promote_types(x.dtype, jnp.float32)), tree)
    )
