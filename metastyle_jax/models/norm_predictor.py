"""A small network that predicts, from a style image, the instance norms to start adaptation with.

The predictor f reads the Gram matrices G_k of style k, reduced to style features, and returns
offsets from θ's instance norms n. It is trained together with θ on all styles at once:

    minimize over w, n, φ   mean_k E_c[ℓ(I_c, I_k, M(I_c; w, n + f(G_k; φ)))],   θ = (w, n),

where w are the convolutions, φ the parameters of the predictor, and I_c, I_k the content and the
style images. One prediction is much cheaper than one step of adaptation, and the Gram matrices are
needed for the loss in any case.

Source: a network that predicts instance norms is due to Ghiasi et al. 2017, arXiv 1705.06830. Here
its prediction is only an initialization, and it reads Gram matrices instead of an image.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metastyle_jax.core import trees
from metastyle_jax.core.types import Array, Params, PyTree
from metastyle_jax.models import transformer, vgg

WIDTH = 64  # units of the hidden layer
# Added to relative strengths before the logarithm. Channels much weaker than this say little about
# a style, and their logarithms would otherwise vary the most.
FLOOR = 0.1
TINY = 1e-12  # added to mean strengths before division and logarithm


class Predictor(NamedTuple):
    """Parameters φ: an affine layer, a ReLU and a linear layer.

    Attributes:
        kernel: `[F, R]` float32, from F style features to R hidden units.
        bias: `[R]` float32.
        out: name of a scale or bias of θ's instance norms -> `[R, C]` float32.
    """

    kernel: Array
    bias: Array
    out: dict[str, Array]


class PredictorTraining(NamedTuple):
    """A predictor and the state of its optimizer.

    Attributes:
        params: φ.
        adam: state of Adam.
    """

    params: Predictor
    adam: PyTree


def style_features(grams: tuple[Array, ...]) -> Array:
    """Computes style features: log strengths of VGG channels, and of whole layers.

    The strength of a channel is the square root of its entry on the diagonal of the Gram matrix,
    which is its root mean square up to a constant factor. The features of a layer are the logarithm
    of each channel's strength relative to the mean strength of the layer, and the logarithm of this
    mean.

    Args:
        grams: L arrays `[..., C, C]`.

    Returns:
        `[..., F]`, where F is the sum of C + 1 over the layers.
    """
    parts = []
    for layer in grams:
        energy = jnp.maximum(jnp.diagonal(layer, axis1=-2, axis2=-1), 0.0)
        strength = jnp.sqrt(energy)
        mean = jnp.mean(strength, axis=-1, keepdims=True) + TINY  # a black image has strength 0
        parts += [jnp.log(strength / mean + FLOOR), jnp.log(mean)]
    return jnp.concatenate(parts, axis=-1)


def feature_count(vgg_params: Params) -> int:
    """Returns the number of style features, F, for a loss network."""
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    return sum(layer.shape[-1] + 1 for layer in jax.eval_shape(vgg.features, vgg_params, image))


def hidden_width(predictor: Predictor | None) -> int:
    """Returns the number of hidden units of a predictor, or the default for None."""
    return WIDTH if predictor is None else predictor.bias.shape[0]


def init(rng: Array, theta: Params, count: int, *, hidden: int = WIDTH) -> Predictor:
    """Draws the parameters of a new predictor, whose offsets are zero for every style.

    The offsets are zero because the last layer is zero. So training starts from θ unchanged.

    Args:
        rng: a key of `jax.random`.
        theta: parameters of the transformer.
        count: number of style features, see `feature_count`.
        hidden: number of hidden units.
    """
    norms, _ = trees.partition(theta, transformer.adapted('norm'))
    kernel = jax.random.normal(rng, (count, hidden)) / count**0.5
    return Predictor(
        kernel,
        jnp.zeros((hidden,)),
        {name: jnp.zeros((hidden, *leaf.shape)) for name, leaf in norms.items()},
    )


def predict_offsets(predictor: Predictor, grams: tuple[Array, ...]) -> dict[str, Array]:
    """Predicts the offsets that are added to the instance norms of θ, for one style or several.

    Args:
        predictor: φ.
        grams: L arrays `[..., C, C]`, Gram matrices of the styles.

    Returns:
        Name of a scale or bias -> `[..., C]`.
    """
    sums = style_features(grams) @ predictor.kernel
    hidden = jax.nn.relu(sums + jnp.broadcast_to(predictor.bias, sums.shape))
    return {name: hidden @ leaf for name, leaf in predictor.out.items()}


@jax.jit
def predicted_theta(theta: Params, predictor: Predictor | None, grams: tuple[Array, ...]) -> Params:
    """Returns θ with the instance norms that are predicted for one style.

    Args:
        theta: parameters of the transformer.
        predictor: φ; None returns θ unchanged.
        grams: L arrays `[C, C]`, Gram matrices of the style.
    """
    if predictor is None:
        return theta
    norms, rest = trees.partition(theta, transformer.adapted('norm'))
    offsets = predict_offsets(predictor, grams)
    return trees.combine(theta, {name: norms[name] + offsets[name] for name in norms}, rest)


def center(theta: Params, predictor: Predictor, mean: dict[str, Array]) -> tuple[Params, Predictor]:
    """Moves the mean of the offsets from the predictor into θ.

    Predictions stay the same for every style. Training keeps only the sum of θ's norms and the
    offsets near useful values, so θ's own norms may be far from those of any style. After centring
    they are the mean over styles, so θ without the predictor is also a good start for adaptation,
    and can be blended with styles.

    Args:
        theta: parameters of the transformer.
        predictor: φ.
        mean: mean of `predict_offsets` over some styles, name -> `[C]`.

    Returns:
        The new θ, and the new predictor with one more hidden unit.
    """
    norms, rest = trees.partition(theta, transformer.adapted('norm'))
    moved = {name: leaf + mean[name] for name, leaf in norms.items()}
    # The last layer has no bias. The new unit has no inputs and the bias 1, so it is 1 for every
    # style, and its outgoing weights subtract the mean.
    centered = Predictor(
        jnp.pad(predictor.kernel, ((0, 0), (0, 1))),
        jnp.pad(predictor.bias, (0, 1), constant_values=1.0),
        {name: jnp.concatenate([leaf, -mean[name][None]]) for name, leaf in predictor.out.items()},
    )
    return trees.combine(theta, moved, rest), centered


def init_training(predictor: Predictor) -> PredictorTraining:
    """Returns the training state of a predictor before its first step."""
    import optax  # training alone needs it, and stylizing a picture should not wait for it

    return PredictorTraining(predictor, optax.adam(1.0).init(predictor))


def offsets_and_pull_back(
    predictor: Predictor, grams: tuple[Array, ...]
) -> tuple[dict[str, Array], Callable[[dict[str, Array]], Predictor]]:
    """Predicts the offsets of S styles, and returns the map from their gradients to that of φ.

    Args:
        predictor: φ.
        grams: L arrays `[S, C, C]`, Gram matrices of the styles.

    Returns:
        The offsets, name -> `[S, C]`; and a function that takes the gradient of each style's loss
        with respect to this style's offsets, name -> `[S, C]`, and returns the gradient of the mean
        loss with respect to φ.
    """
    offsets, transpose = jax.vjp(lambda params: predict_offsets(params, grams), predictor)
    count = len(grams[0])
    return offsets, lambda own: transpose(jax.tree.map(lambda leaf: leaf / count, own))[0]


def update(training: PredictorTraining, gradient: Predictor, *, rate: Any) -> PredictorTraining:
    """Takes one step of Adam.

    Args:
        training: training state before the step.
        gradient: gradient of the loss with respect to φ.
        rate: learning rate, a number or a scalar array.
    """
    import optax

    updates, state = optax.adam(rate).update(gradient, training.adam)
    return PredictorTraining(optax.apply_updates(training.params, updates), state)
