"""Exact gradients through the steps of an inner optimizer, for any loss and any pytree.

Nothing here knows of images. Apart from the Python standard library, this package loads only jax,
optax and numpy.
"""

from metastyle_jax.meta.gradient import MetaGradient, meta_gradient
from metastyle_jax.meta.inner import MODES, ORDERS, Inner, Meta, initial_rates, inner_loop
from metastyle_jax.meta.reptile import reptile_gradient
from metastyle_jax.meta.task_mean import mean_over_tasks

__all__ = [
    'MODES',
    'ORDERS',
    'Inner',
    'Meta',
    'MetaGradient',
    'initial_rates',
    'inner_loop',
    'mean_over_tasks',
    'meta_gradient',
    'reptile_gradient',
]
