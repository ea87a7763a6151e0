"""The exact meta-gradient for a few meta-parameters, in forward mode with constant memory in T."""

from typing import Any

import jax
from jax.flatten_util import ravel_pytree

from metastyle_jax.core.errors import UserError
from metastyle_jax.core.types import PyTree
from metastyle_jax.meta import gradient, objective, types


def forward_gradient(
    meta: types.Meta, inner_batches: PyTree, outer_batch: PyTree, **options: Any
) -> gradient.MetaGradient:
    """Computes the exact gradient with respect to `rates` and `hyper`, in forward mode.

    For each of the n numbers in `rates` and `hyper`, each inner step also computes a tangent dw::

        dw_t = (∂w_t / ∂w_{t-1}) dw_{t-1} + (∂w_t / ∂h) dh

    where h stands for `rates` and `hyper`. Nothing is stored for a backward pass, so memory does
    not depend on T; it is about that of n inner loops without differentiation. Time grows with n.

    Args:
        meta: the meta-parameters.
        inner_batches: see `meta_gradient`.
        outer_batch: pytree.
        **options: further arguments of `meta_gradient`, such as the losses; `mode` and `remat` have
            no effect.

    Returns:
        A `MetaGradient` in which the gradient with respect to θ and the norms are None.

    Raises:
        UserError: see `meta_gradient`; also if there are neither rates nor `hyper`.

    Source: real-time recurrent learning for hyperparameters, Franceschi et al. 2017,
    arXiv 1703.01785.
    """
    problem = objective.problem(
        meta, inner_batches, outer_batch, **{**options, 'mode': 'reverse', 'remat': False}
    )
    flat, unravel = ravel_pytree((problem.tensors.rates, problem.tensors.hyper))
    if not flat.size:
        raise UserError('forward_gradient differentiates in rates and hyper: meta has neither')

    def value(flat):
        rates, hyper = unravel(flat)
        tensors = problem.tensors._replace(rates=rates, hyper=hyper)
        value, outcome = problem.evaluate(tensors, problem.offset)
        return value, (value, outcome)

    slope, (found, outcome) = jax.jacfwd(value, has_aux=True)(flat)
    return gradient.as_result(meta, types.Meta(None, *unravel(slope)), found, outcome)
