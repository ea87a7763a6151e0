"""The exact meta-gradient in few meta-parameters, in forward mode: memory does not grow with T."""

from typing import Any

import jax
from jax.flatten_util import ravel_pytree

from metastyle_jax.core.errors import UserError
from metastyle_jax.core.types import PyTree
from metastyle_jax.meta import gradient, objective, types


def forward_gradient(
    meta: types.Meta, inner_batches: PyTree, outer_batch: PyTree, **options: Any
) -> gradient.MetaGradient:
    """Computes the exact gradient in the rates and in `hyper` in forward mode.

    With one tangent for each of the n numbers in the rates and in `hyper`, each inner step also
    computes::

        dw_t = (∂w_t / ∂w_{t-1}) dw_{t-1} + (∂w_t / ∂h) dh

    Nothing is stored for a backward pass, so memory is that of about n inner loops without any
    differentiation, whatever T is. Time grows with n.

    Args:
        meta: the meta-parameters.
        inner_batches: see `meta_gradient`.
        outer_batch: pytree.
        **options: of `meta_gradient`, such as the losses; `mode` and `remat` have no effect.

    Returns:
        A `MetaGradient` without a gradient in θ and without norms: these are None.

    Raises:
        UserError: as `meta_gradient`; also if there are neither rates nor `hyper`.

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
