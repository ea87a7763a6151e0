"""Exact gradients through the steps of an inner optimizer, for any loss and any pytree.

Nothing in this package knows of images; it imports jax, optax and numpy alone.
"""

from metastyle_jax.meta.gradient import (
    MODES,
    ORDERS,
    Inner,
    Meta,
    MetaGradient,
    initial_rates,
    inner_loop,
    mean_over_tasks,
    meta_gradient,
    reptile_gradient,
)

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
