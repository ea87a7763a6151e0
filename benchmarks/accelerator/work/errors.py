"""How far a result is from the same in float64."""

import numpy as np

from benchmarks import inputs


def compare(found: inputs.Arrays, exact: inputs.Arrays) -> dict[str, float]:
    """Compares arrays by name with their reference.

    Args:
        found: what was computed.
        exact: the same in float64; arrays of zeros only are left out, because their relative error
            has no meaning.

    Returns:
        `relative`, ‖a − b‖ / ‖b‖ over all arrays together; and `largest`, max |a − b| / max |b|.
    """
    names = [name for name, b in exact.items() if np.any(b)]
    a, b = (
        np.concatenate([np.asarray(side[name], np.float64).ravel() for name in names])
        for side in (found, exact)
    )
    return {
        'relative': float(np.linalg.norm(a - b) / np.linalg.norm(b)),
        'largest': float(np.max(np.abs(a - b)) / np.max(np.abs(b))),
    }
