"""Optimizers for the inner loop, chosen by name. All can be differentiated through."""

from typing import Any

import optax

from metastyle_jax.core import checks

NAMES = ('sgd', 'momentum', 'adam')
# Default eps_root of Adam. The configuration of training has the same one, as a test holds.
EPS_ROOT = 1e-8


def by_name(name: str, rate: Any, eps_root: float = EPS_ROOT) -> optax.GradientTransformation:
    """Makes the inner optimizer of the given name.

    Args:
        name: 'sgd', 'momentum' (SGD with momentum 0.9) or 'adam'.
        rate: learning rate, a number or a scalar array.
        eps_root: constant under the square root of Adam; the other optimizers ignore it.

    Raises:
        UserError: the name is unknown.
    """
    checks.one_of('optimizer', name, NAMES)
    if name == 'sgd':
        return optax.sgd(rate)
    if name == 'momentum':
        return optax.sgd(rate, momentum=0.9)
    # The derivative of a square root at zero is infinite. With eps_root=0, a gradient of zero would
    # therefore give a second derivative that is not a number.
    return optax.adam(rate, eps_root=eps_root)
