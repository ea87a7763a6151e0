"""Optimizers that the inner loop can be differentiated through, by name."""

from typing import Any

import optax

from metastyle_jax.core.errors import UserError

NAMES = ('sgd', 'momentum', 'adam')


def by_name(name: str, rate: Any, eps_root: float) -> optax.GradientTransformation:
    """An optimizer that the inner loop can be differentiated through.

    Args:
        name: 'sgd', 'momentum' or 'adam'.
        rate: a number or scalar array.
        eps_root: of Adam.

    Raises:
        UserError: unknown name.
    """
    if name == 'sgd':
        return optax.sgd(rate)
    if name == 'momentum':
        return optax.sgd(rate, momentum=0.9)
    if name == 'adam':
        # Without eps_root the second derivative at a zero gradient is not a number.
        return optax.adam(rate, eps_root=eps_root)
    raise UserError(f'optimizer={name!r}: it must be one of {", ".join(NAMES)}')
