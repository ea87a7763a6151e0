"""Types of the meta-parameters, and of the options, the carry and the result of the inner loop."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

from metastyle_jax.core.types import Array, Params

LossFn = Callable[..., Any]
ORDERS = ('exact', 'first')
MODES = ('reverse', 'mixed')


class Meta(NamedTuple):
    """The meta-parameters: all parameters that the outer loop of meta-learning trains.

    Attributes:
        theta: the initialization, any pytree of arrays. It may be or contain an
            `equinox.Module` or an `nnx.Module`; leaves of a module that have no derivative, such
            as functions and integers, stay as they are.
        rates: learned inner rates, or None. A dict from the name of each adapted tensor to a
            factor for its updates, which is broadcast to the shape of the tensor. An array with
            one axis more than the tensor has rates for each step, `[T, ...]`. With
            `optax.sgd(1.0)` as the inner optimizer these factors are the learning rates.
        hyper: other meta-parameters, or None: any pytree of arrays, for example weights of the
            inner loss, a learned loss, or a learning rate. Losses and optimizers that declare a
            parameter `meta` get them as `meta.hyper`.
    """

    theta: Params
    rates: dict[str, Array] | None = None
    hyper: Any = None


class Carry(NamedTuple):
    """The state that the inner loop passes from step to step, and from one call to the next.

    Attributes:
        params: adapted parameters, of the same structure as θ.
        opt_state: state of the inner optimizer.
        state: state of the inner loss, such as batch statistics; None if it has none.
        step: scalar int32, number of finished inner steps.
    """

    params: Params
    opt_state: Any
    state: Any = None
    step: Array | int = 0


class Inner(NamedTuple):
    """Result of the inner loop.

    Attributes:
        params: `w_T`, the adapted parameters, of the same structure as θ.
        losses: `[T]`, `L(w_{t-1}, b_t)`, the inner loss before each step.
        aux: auxiliary outputs of the inner loss, with a leading axis of size T, or None.
        carry: the carry from which another call can continue.
    """

    params: Params
    losses: Array
    aux: Any
    carry: Carry


@dataclasses.dataclass(frozen=True)
class Options:
    """The keyword arguments of `inner_loop`, see there."""

    loss: LossFn
    has_aux: bool = False
    optimizer: Any = None
    adapted: Any = ...
    steps: int | None = None
    carry: Carry | None = None
    state: Any = None
    order: str = 'exact'
    mode: str = 'reverse'
    remat: Any = None
    unroll: int | None = None
    trust_rules: bool = False
