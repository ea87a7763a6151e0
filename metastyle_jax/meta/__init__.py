"""Exact gradients through the steps of an inner optimizer, for any loss and any pytree.

This package does not depend on images. Apart from the Python standard library, it imports only jax,
optax and numpy.
"""

from metastyle_jax.meta.estimators.evolution import (
    Particles,
    es_gradient,
    init_particles,
    pes_gradient,
)
from metastyle_jax.meta.estimators.forward import forward_gradient
from metastyle_jax.meta.estimators.implicit import implicit_gradient
from metastyle_jax.meta.estimators.reptile import reptile_gradient
from metastyle_jax.meta.gradient import MetaGradient, meta_gradient, meta_jacobian
from metastyle_jax.meta.inner import init_carry, initial_rates, inner_loop
from metastyle_jax.meta.task_mean import mean_over_tasks
from metastyle_jax.meta.types import MODES, ORDERS, Carry, Inner, Meta

__all__ = [
    'MODES',
    'ORDERS',
    'Carry',
    'Inner',
    'Meta',
    'MetaGradient',
    'Particles',
    'es_gradient',
    'forward_gradient',
    'implicit_gradient',
    'init_carry',
    'init_particles',
    'initial_rates',
    'inner_loop',
    'mean_over_tasks',
    'meta_gradient',
    'meta_jacobian',
    'pes_gradient',
    'reptile_gradient',
]
