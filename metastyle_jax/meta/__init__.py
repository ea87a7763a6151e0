"""Exact gradients through the steps of an inner optimizer, for any loss and any pytree.

Nothing here knows of images. Apart from the Python standard library, this package loads only jax,
optax and numpy.
"""

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
    'init_carry',
    'initial_rates',
    'inner_loop',
    'mean_over_tasks',
    'meta_gradient',
    'meta_jacobian',
    'reptile_gradient',
]
