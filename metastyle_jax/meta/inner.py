"""The inner loop: T steps of an optimizer, starting from the initialization θ.

Sources: MAML, Finn et al. 2017, arXiv 1703.03400; learned rates: Meta-SGD, Li et al. 2017,
arXiv 1707.09835; rates for each step: MAML++, Antoniou et al. 2019, arXiv 1810.09502.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import optax

from metastyle_jax.core.types import Array, Params, PyTree
from metastyle_jax.meta import arguments, types
from metastyle_jax.meta.steps import losses, running, selection
from metastyle_jax.meta.types import Carry, Inner, LossFn, Meta


def initial_rates(
    theta: Params,
    rate: float,
    adapted: Any,
    steps: int | None = None,
    *,
    each_element: bool = False,
) -> dict[str, Array]:
    """Makes the first values of learned inner rates, which are all the same number.

    Args:
        theta: the initialization.
        rate: the value of every inner rate.
        adapted: which tensors are adapted, see `inner_loop`.
        steps: T, for different rates in each step, which have a leading axis of size T; None for
            rates that all steps share.
        each_element: if True, each element of a tensor has its own rate, and rates have the
            tensor's shape. If False, all elements share a rate: a scalar, or `[T, 1, …, 1]`.

    Returns:
        A dict for `Meta.rates`.

    Raises:
        UserError: no tensor is adapted.
    """
    fast = selection.divide(theta, adapted).fast

    def shape(leaf):
        if steps is None:
            return jnp.shape(leaf) if each_element else ()
        return (steps, *(jnp.shape(leaf) if each_element else [1] * jnp.ndim(leaf)))

    return {name: jnp.full(shape(leaf), rate, jnp.result_type(leaf)) for name, leaf in fast.items()}


def init_carry(
    meta: Meta,
    *,
    optimizer: optax.GradientTransformation | Callable[..., Any] | None = None,
    adapted: Any = lambda name: True,
    state: Any = None,
) -> Carry:
    """Makes the carry of an inner loop before its first step.

    With it, a training run can be divided into many calls of `inner_loop` or `meta_gradient`.

    Args:
        meta: the meta-parameters.
        optimizer: the inner optimizer, see `inner_loop`.
        adapted: which tensors are adapted, see `inner_loop`.
        state: the first state of the inner loss.

    Raises:
        UserError: see `inner_loop`.
    """
    arguments.check_meta(meta)
    fast = selection.divide(meta.theta, adapted).fast
    arguments.check_floats(fast)
    return running.first_carry(meta, losses.optimizer_of(optimizer, meta).init(fast), state)


def inner_loop(
    meta: Meta,
    batches: PyTree = None,
    *,
    loss: LossFn,
    has_aux: bool = False,
    optimizer: optax.GradientTransformation | Callable[..., Any] | None = None,
    adapted: Any = lambda name: True,
    steps: int | None = None,
    carry: Carry | None = None,
    state: Any = None,
    order: str = 'exact',
    mode: str = 'reverse',
    remat: Any = None,
    unroll: int | None = None,
    trust_rules: bool = False,
) -> Inner:
    """Takes T steps of an optimizer on the inner loss, as a `lax.scan`.

    With w_0 = θ, step t = 1 ... T is::

        w_t = w_{t-1} + r ⊙ U(∇L(w_{t-1}, b_t))

    where L is the inner loss, b_t the batch of step t, and U the update that the optimizer computes
    from a gradient; for SGD, U(g) = -δ g. The factors r are the learned inner rates; without them
    r = 1.

    The inner loss is called as `loss(params, batch)`. If it has parameters `meta`, `state` or
    `step` without a default value, it also gets the meta-parameters, its own state, or the number
    of finished steps. With `state` it must return `(scalar, next state)`, with `has_aux`
    `(scalar, aux)`, with both `(scalar, next state, aux)`.

    Inside `jax.shard_map`, the adapted parameters w_t may differ between devices, if batches or
    losses differ, even though θ is the same on all devices.

    Args:
        meta: the meta-parameters: θ and, if they are learned, inner rates and others.
        batches: pytree whose leaves have a leading axis of size T, one slice for each step. With
            T = 0 the result is θ itself. If `steps` is given: the same batch for all steps, a
            function from the number of the step to its batch, or None.
        loss: the inner loss L.
        has_aux: whether the loss also returns an auxiliary output.
        optimizer: U in the equation above: an optimizer of optax, or a function with a parameter
            `meta` that returns one, such as `lambda meta: optax.sgd(meta.hyper)`. Its parameters
            are a flat dict, name -> adapted tensor, so masks and labels of optax must be functions
            of such a dict. It gets the loss as the argument `value` if it accepts it. None means
            `optax.sgd(1e-4)`, or `optax.sgd(1.0)` if rates are learned. Adam needs a positive
            `eps_root`; without it, its second derivative is NaN where a gradient is zero. Updates
            of float16 tensors are computed in float32.
        adapted: which tensors are adapted: a predicate on names ('down1/norm/scale'); a pytree of
            booleans with the structure of θ or a prefix of it; a type, which selects all tensors
            within nodes of this type; or a filter of `flax.nnx`, `(path, value) -> bool`, or of
            Equinox, such as `equinox.is_inexact_array`.
        steps: T, if `batches` has no leading axis.
        carry: the inner loop continues from this carry instead of starting at θ. Frozen tensors are
            still those of θ.
        state: the first state of the inner loss, a pytree of arrays.
        order: 'exact' for all second derivatives; 'first' treats the inner gradients as
            constants when the result is differentiated (first-order MAML).
        mode: how the inner gradient is differentiated: 'reverse' in reverse mode; 'mixed' by
            Hessian-vector products in forward-over-reverse mode, which is faster. After 'mixed'
            the result can only be differentiated once, in reverse mode. 'mixed' also needs
            symmetric second derivatives. If the loss contains custom derivative rules
            (`jax.custom_vjp`, `jax.custom_jvp`), or functions of JAX without a forward derivative,
            'reverse' is used instead, with a warning.
        remat: what the backward pass recomputes to save memory. True: each step; memory then hardly
            grows with T. 'sqrt': each step and each segment of √T steps, so that parameters and
            optimizer states are stored for only 2√T steps. A policy of `jax.checkpoint_policies`:
            everything that the policy does not save. False: nothing. None: each step if the mode is
            'mixed', a loop remains after unrolling, and the loss has more intermediate results than
            parameters; otherwise nothing.
        unroll: number of steps in each iteration of the compiled loop. None means up to 8 on CPU
            for losses with convolutions, which are slow inside loops, and for very small problems;
            otherwise 1.
        trust_rules: whether the custom derivative rules in the loss are true derivatives, so that
            mixed mode can be used with them.

    Returns:
        An `Inner`.

    Raises:
        UserError: an unknown option, order or mode; no tensor is adapted; learned rates have other
            names or shapes than the adapted tensors; an adapted tensor is not of floats; the inner
            loss is not a scalar; or the batches have no common leading axis.
    """
    options = types.Options(
        loss=loss, has_aux=has_aux, optimizer=optimizer, adapted=adapted, steps=steps, carry=carry,
        state=state, order=order, mode=mode, remat=remat, unroll=unroll, trust_rules=trust_rules,
    )  # fmt: skip
    return running.run(meta, batches, options)[0]
