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
    """Learned inner rates to begin with: the same number for each adapted tensor.

    Args:
        theta: the initialization.
        rate: the value of every inner rate.
        adapted: which tensors are adapted, see `inner_loop`.
        steps: T, for rates of each step, with one axis more in front; None for rates that all
            steps share.
        each_element: whether each element of a tensor has a rate of its own, so that rates have
            the tensor's shape. Otherwise its elements share a rate: a scalar, or `[T, 1, …, 1]`.

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
    """The carry of an inner loop before its first step, for training that goes on over many calls.

    Args:
        meta: the meta-parameters.
        optimizer: the inner optimizer, see `inner_loop`.
        adapted: which tensors are adapted, see `inner_loop`.
        state: the first state of the inner loss.

    Raises:
        UserError: as `inner_loop`.
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

    where L is the inner loss, b_t the batch of step t, and U the update that the optimizer makes
    of a gradient, with the sign of a descent: for SGD, U(g) = -δ g. The factors r are the learned
    inner rates; without them r = 1.

    The inner loss is called as `loss(params, batch)`. If it declares one of the parameters `meta`,
    `state` and `step`, without a default value, it gets the meta-parameters, its own state, or the
    number of steps done. With `state` it returns `(scalar, next state)`, with `has_aux`
    `(scalar, aux)`, with both `(scalar, next state, aux)`.

    Inside `jax.shard_map` each device gets its own w_t if its batches or its loss are its own,
    even though θ is the same on all devices.

    Args:
        meta: the meta-parameters: θ and, if they are learned, inner rates and others.
        batches: pytree whose leaves have a leading axis of size T, one slice for each step. With
            T = 0 the result is θ itself. If `steps` is given: the same batch for all steps, a
            function from the number of the step to its batch, or None.
        loss: the inner loss L.
        has_aux: whether the loss also returns an auxiliary output.
        optimizer: U in the equation above: an optimizer of optax, or a function with a parameter
            `meta` that returns one, as in `lambda meta: optax.sgd(meta.hyper)`. It sees a flat
            dict from names to adapted tensors, so masks and labels of optax must be functions of
            such a dict. If it accepts the loss as the argument `value`, it gets it. None means
            `optax.sgd(1e-4)`, or `optax.sgd(1.0)` if rates are learned. Give Adam a positive
            `eps_root`: otherwise its second derivative at a gradient of zero is not a number.
            Updates of float16 tensors are computed in float32.
        adapted: which tensors are adapted: a predicate on names ('down1/norm/scale'); a pytree of
            booleans with the structure of θ or a prefix of it; a type, which chooses all tensors
            within nodes of this type; or a filter of `flax.nnx`, `(path, value) -> bool`, or of
            Equinox, such as `equinox.is_inexact_array`.
        steps: T, if `batches` has no leading axis.
        carry: continue from here instead of starting at θ; frozen tensors are still those
            of θ.
        state: the first state of the inner loss, a pytree of arrays.
        order: 'exact' for all second derivatives; 'first' treats the inner gradients as
            constants when the result is differentiated (first-order MAML).
        mode: how the inner gradient is differentiated: 'reverse' in reverse mode; 'mixed' by
            Hessian-vector products in forward-over-reverse mode, which is faster. After 'mixed'
            the result can only be differentiated once, in reverse mode. 'mixed' also needs
            symmetric second derivatives. If the loss contains custom derivative rules
            (`jax.custom_vjp`, `jax.custom_jvp`), or such of JAX that have no forward derivative,
            'reverse' is used instead, with a warning.
        remat: what the backward pass recomputes. True: each step; memory then hardly grows with T.
            'sqrt': also segments of √T steps, so that parameters and optimizer states are stored
            for 2√T steps only. A policy of `jax.checkpoint_policies`: what it does not save. False:
            nothing. None: each step in mixed mode if a loop remains after unrolling
            and the loss has more intermediate results than parameters; otherwise nothing.
        unroll: number of steps in each iteration of the compiled loop. None means 1,
            except on CPU for losses with convolutions, which are slow inside loops, and for very
            small problems. There, up to 8 steps are unrolled.
        trust_rules: whether the custom derivative rules in the loss give true derivatives,
            so that mixed mode may be used with them.

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
