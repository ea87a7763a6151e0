"""Where to begin with a new style: its instance norms, foretold from those of finished ones.

Paintings whose features are alike end at norms that are alike. Kernel ridge regression from channel
statistics of the loss network to norms costs nothing beside a step of adaptation, and begins where
θ arrives after about ten of them.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

LEAST = 16  # finished styles, before it is worth it
FEATURES = 256
_RIDGES = 10.0 ** np.arange(-3, 3.5, 0.5)  # of the mean of the kernel's diagonal
_LENGTH, _LENGTHS = 1.2, (0.25, 4.0)  # of a step in the median, and the range of all
_ENERGY = 5.0  # weight of a layer's energy beside the proportions of its channels


def describe(grams: Sequence[np.ndarray]) -> np.ndarray:
    """What is told of a painting: how strong each channel of the loss network is in it.

    Args:
        grams: L arrays `[C, C]`.

    Returns:
        `[FEATURES]` float16. The channels of all layers are added up, with signs, in so many
        places: inner products stay about what they were, and a thousand styles take half a MB.
    """
    parts = []
    for gram in grams:
        energy = np.diag(np.asarray(gram, np.float64))
        strength = np.sqrt(np.maximum(energy, 0))
        parts += [
            strength / max(strength.mean(), 1e-12),
            [_ENERGY * np.log(max(energy.mean(), 1e-12))],
        ]
    flat = np.concatenate(parts)
    places = np.arange(len(flat))
    signs = 1.0 - 2.0 * ((places * 2654435761 >> 16) & 1)  # Knuth's multiplicative hash
    found = np.zeros(FEATURES)
    np.add.at(found, places % FEATURES, signs * flat)
    return found.astype(np.float16)


class Start(NamedTuple):
    """Where new styles begin.

    Attributes:
        norms: name -> `[N, C]` float32.
        lengths: name -> `[C]` float32, how much longer or shorter than others a step should be:
            as far as the foretold of finished styles was off.
    """

    norms: dict[str, np.ndarray]
    lengths: dict[str, np.ndarray]


def start(features: np.ndarray, params: dict[str, np.ndarray], wanted: np.ndarray) -> Start:
    """Foretells the norms of new styles.

    The ridge is that of the least leave-one-out error, which has a closed form; where features
    tell nothing it is large, and the mean of the finished styles is what remains.

    Args:
        features: `[S, FEATURES]`, of finished styles.
        params: name -> `[S, C]`, their norms.
        wanted: `[N, FEATURES]`, of the new ones.

    Returns:
        A `Start`.
    """
    names, widths = list(params), [leaf.shape[1] for leaf in params.values()]
    targets = np.concatenate([params[name] for name in names], axis=1).astype(np.float64)
    centre, mean = np.asarray(features, np.float64).mean(0), targets.mean(0)
    known, new = features - centre, wanted - centre
    values, vectors = np.linalg.eigh(known @ known.T)
    turned = vectors.T @ (targets - mean)

    def left_out(ridge: float) -> np.ndarray:
        """What is missing to each finished style when the others foretell it, `[S, P]`."""
        weights = 1 / (np.maximum(values, 0) + ridge)
        return vectors @ (weights[:, None] * turned) / (vectors**2 @ weights)[:, None]

    ridges = _RIDGES * max(values.mean(), 1e-12)
    ridge = min(ridges, key=lambda ridge: np.sum(left_out(ridge) ** 2))
    dual = vectors @ (turned / (np.maximum(values, 0) + ridge)[:, None])
    missing = np.sqrt(np.mean(left_out(ridge) ** 2, axis=0))
    lengths = np.clip(_LENGTH * missing / max(np.median(missing), 1e-12), *_LENGTHS)

    def part(array: np.ndarray) -> dict[str, np.ndarray]:
        parts = np.split(array.astype(np.float32), np.cumsum(widths)[:-1], axis=-1)
        return dict(zip(names, parts, strict=True))

    return Start(part(mean + new @ known.T @ dual), part(lengths))
