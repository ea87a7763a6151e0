"""The computations of this package as pure functions, in any precision.

The commands compute in float32. Here, parameters stay in float32, or float64 for the reference; in
bfloat16 both networks, their images and activations are bfloat16. So gradients and inner steps have
the precision that mixed-precision training has.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import inputs, ours, tasks
from metastyle_jax import meta
from metastyle_jax.core.types import Array, Params, PyTree
from metastyle_jax.models import gram, perceptual_loss, transformer
from metastyle_jax.training import objective


class Program(NamedTuple):
    """A function, and the arguments that it is measured with."""

    function: Callable[..., PyTree]
    arguments: tuple[PyTree, ...]


def build(
    task: tasks.Task,
    theta: inputs.Arrays,
    vgg: inputs.Arrays,
    precision: str = 'highest',
    variant: str = 'ours',
) -> Program:
    """Makes the function of a task: stylized images, or the gradient of θ.

    Args:
        task: 'stylize', 'adapt', 'exact' or 'first'.
        theta: parameters of the transformer by name.
        vgg: weights of the loss network by name.
        precision: 'highest', 'tf32', 'bfloat16', or 'float64' within `jax.enable_x64`.
        variant: variant of `tasks.OURS` by which inner steps are computed.
    """
    dtype = 'bfloat16' if precision == 'bfloat16' else 'float32'
    dtype = 'float64' if precision == 'float64' else dtype
    kept = 'float64' if precision == 'float64' else 'float32'
    params, network = cast(ours.from_names(theta), kept), cast(ours.from_names(vgg), dtype)
    if task.work == 'stylize':
        pixels = _images(inputs.images(task.batch, task.size, seed=0), dtype)
        return Program(transformer.apply, (cast(params, dtype), pixels))
    if task.work == 'adapt':
        style = _images(inputs.images(1, task.size, seed=3), dtype)
        grams = jax.jit(gram.of_image)(network, style[0])
        contents = _images(inputs.images(task.batch, task.size, seed=0), dtype)
        return Program(_adaptation_gradient(dtype), (params, network, contents, grams))
    images = tuple(_images(pixels, dtype) for pixels in inputs.meta_batch(task))
    return Program(_meta_gradient(task, dtype, variant), (params, network, *images))


def cast(tree: PyTree, dtype: str) -> PyTree:
    """Converts all leaves of a pytree."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf).astype(dtype), tree)


def set_precision(precision: str) -> None:
    """Sets the precision of float32 products; products of other types have their own."""
    ours.set_precision('tf32' if precision == 'tf32' else 'highest')


def _images(pixels: np.ndarray, dtype: str) -> Array:
    """Converts bytes to images in 0..1."""
    return jnp.asarray(pixels).astype(dtype) / np.array(255, dtype)


def _loss(vgg: Params, dtype: str) -> Callable[[Params, objective.StyleTask], Array]:
    """Returns the total loss with all networks in `dtype`, as a function of kept parameters."""

    def evaluate(params: Params, task: objective.StyleTask) -> Array:
        found = perceptual_loss.of_network(cast(params, dtype), vgg, task.contents, task.targets)
        return found.total

    return evaluate


def _adaptation_gradient(dtype: str) -> Callable[..., Params]:
    def gradient(
        theta: Params, vgg: Params, contents: Array, grams: tuple[Array, ...]
    ) -> dict[str, Any]:
        targets = perceptual_loss.compute_targets(vgg, contents, grams)
        return jax.grad(_loss(vgg, dtype))(theta, objective.StyleTask(contents, targets))

    return gradient


def _meta_gradient(task: tasks.Task, dtype: str, variant: str) -> Callable[..., Params]:
    config = ours.meta_config(task, variant)
    step = jnp.zeros((), jnp.int32)

    def gradient(
        theta: Params, vgg: Params, inner: Array, outer: Array, style: Array
    ) -> dict[str, Any]:
        evaluate = _loss(vgg, dtype)

        def of_one_style(inner_contents, outer_contents_and_grams):
            outer_contents, grams = outer_contents_and_grams
            contents = jnp.concatenate([inner_contents, outer_contents[None]])
            every = objective.make_tasks(vgg, contents, grams)
            return meta.meta_gradient(
                meta.Meta(theta),
                jax.tree.map(lambda leaf: leaf[:-1], every),
                jax.tree.map(lambda leaf: leaf[-1], every),
                inner_loss=evaluate,
                **objective.inner_options(config, step),
            )

        grams = gram.of_images(vgg, style)
        return meta.mean_over_tasks(of_one_style, inner, (outer, grams)).gradient.theta

    return gradient
