"""Where adaptation to a style begins: θ, with norms that a small network predicts from the style.

The network reads how strong each channel of the loss network is in a painting, and gives offsets to
θ's instance norms. It learns together with θ, on all styles at once, and costs nothing beside a
step of adaptation:

    minimize over w, n, φ   mean_k E_c[ℓ(I_c, I_k, M(I_c; w, n + f(G_k; φ)))],   θ = (w, n, φ).

Source: a network that predicts norms is of Ghiasi et al. 2017, arXiv 1705.06830; that it is an
initialization, and reads Gram matrices, which adaptation needs anyway, is this project's.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from metastyle_jax.core import trees
from metastyle_jax.core.types import Array, Params, PyTree
from metastyle_jax.models import transformer, vgg

WIDTH = 64  # of the hidden layer
_FLOOR = 0.1  # of the mean strength in a layer: what is weaker tells little


class Predictor(NamedTuple):
    """φ: an affine layer, a rectifier and a linear layer.

    Attributes:
        kernel: `[F, R]`.
        bias: `[R]`.
        out: `[R, C]` by name of the norms' tensors.
    """

    kernel: Array
    bias: Array
    out: dict[str, Array]


class Training(NamedTuple):
    """A predictor in training.

    Attributes:
        params: φ.
        adam: state of its optimizer.
    """

    params: Predictor
    adam: PyTree


def describe(grams: tuple[Array, ...]) -> Array:
    """What is told of a style: logarithms of the strengths of channels, and of whole layers.

    Args:
        grams: L arrays `[..., C, C]`.

    Returns:
        `[..., F]`; F is the sum of C + 1 over the layers.
    """
    parts = []
    for gram in grams:
        energy = jnp.maximum(jnp.diagonal(gram, axis1=-2, axis2=-1), 0.0)
        strength = jnp.sqrt(energy)
        mean = jnp.mean(strength, axis=-1, keepdims=True) + 1e-12
        parts += [jnp.log(strength / mean + _FLOOR), jnp.log(mean)]
    return jnp.concatenate(parts, axis=-1)


def features(vgg_params: Params) -> int:
    """F of a loss network."""
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    return sum(layer.shape[-1] + 1 for layer in jax.eval_shape(vgg.features, vgg_params, image))


def hidden(predictor: Predictor | None) -> int:
    """Width of the hidden layer, R; `WIDTH` for None."""
    return WIDTH if predictor is None else predictor.bias.shape[0]


def create(rng: Array, theta: Params, count: int, *, hidden: int = WIDTH) -> Predictor:
    """A predictor that gives no offsets yet.

    Args:
        rng: a key.
        theta: of the transformer.
        count: F.
        hidden: R.
    """
    norms, _ = trees.partition(theta, transformer.adapted('norm'))
    kernel = jax.random.normal(rng, (count, hidden)) / count**0.5
    return Predictor(
        kernel,
        jnp.zeros((hidden,)),
        {name: jnp.zeros((hidden, *leaf.shape)) for name, leaf in norms.items()},
    )


def offsets(predictor: Predictor, grams: tuple[Array, ...]) -> dict[str, Array]:
    """What is added to θ's norms for a style.

    Args:
        predictor: φ.
        grams: L arrays `[..., C, C]`.

    Returns:
        By name, `[..., C]`.
    """
    sums = describe(grams) @ predictor.kernel
    hidden = jax.nn.relu(sums + jnp.broadcast_to(predictor.bias, sums.shape))
    return {name: hidden @ leaf for name, leaf in predictor.out.items()}


@jax.jit
def begin(theta: Params, predictor: Predictor | None, grams: tuple[Array, ...]) -> Params:
    """θ with the norms that are predicted for one style.

    Args:
        theta: of the transformer.
        predictor: φ; None for θ as it is.
        grams: L arrays `[C, C]`.
    """
    if predictor is None:
        return theta
    norms, rest = trees.partition(theta, transformer.adapted('norm'))
    added = offsets(predictor, grams)
    return trees.combine(theta, {name: norms[name] + added[name] for name in norms}, rest)


def centered(
    theta: Params, predictor: Predictor, mean: dict[str, Array]
) -> tuple[Params, Predictor]:
    """θ with the mean norms of some styles, and a predictor of what each differs by.

    Together they are what they were for every style. But nothing in training holds θ's own norms
    near those of any style, and what blends with θ, or begins there, then needs them to be. The
    predictor gets one more hidden unit, which is 1 for all styles.

    Args:
        theta: of the transformer.
        predictor: φ.
        mean: by name `[C]`, of `offsets` over the styles.
    """
    norms, rest = trees.partition(theta, transformer.adapted('norm'))
    moved = {name: leaf + mean[name] for name, leaf in norms.items()}
    added = Predictor(
        jnp.pad(predictor.kernel, ((0, 0), (0, 1))),
        jnp.pad(predictor.bias, (0, 1), constant_values=1.0),
        {name: jnp.concatenate([leaf, -mean[name][None]]) for name, leaf in predictor.out.items()},
    )
    return trees.combine(theta, moved, rest), added


def start(predictor: Predictor) -> Training:
    """A predictor before its first step of training."""
    return Training(predictor, optax.adam(1.0).init(predictor))


def pull_back(
    predictor: Predictor, grams: tuple[Array, ...]
) -> tuple[dict[str, Array], Callable[[dict[str, Array]], Predictor]]:
    """Offsets of S styles, and what turns gradients in each one's offsets into the mean one in φ.

    Args:
        predictor: φ.
        grams: L arrays `[S, C, C]`.

    Returns:
        By name `[S, C]`; and a function of as much.
    """
    found, transpose = jax.vjp(lambda params: offsets(params, grams), predictor)
    count = len(grams[0])
    return found, lambda own: transpose(jax.tree.map(lambda leaf: leaf / count, own))[0]


def update(training: Training, gradient: Predictor, *, rate: Any) -> Training:
    """One step of Adam.

    Args:
        training: before it.
        gradient: in φ.
        rate: of Adam.
    """
    updates, state = optax.adam(rate).update(gradient, training.adam)
    return Training(optax.apply_updates(training.params, updates), state)
