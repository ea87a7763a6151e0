"""Our side: the functions that the commands of this package call, ready to be timed.

Each class is a `worker.Runner`.
"""

import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import inputs, tasks
from metastyle_jax import meta
from metastyle_jax.adaptation.adaptation_step import StepScalars, adapt_step, start
from metastyle_jax.core import loss_weights, trees
from metastyle_jax.core.devices import sharding
from metastyle_jax.core.types import Params, PyTree
from metastyle_jax.data import batching
from metastyle_jax.models import gram, transformer, vgg
from metastyle_jax.training import optimizers, outer_step, training_state
from metastyle_jax.training.configuration import values
from metastyle_jax.training.configuration.schema import TrainConfig

ADAM = 0.9  # b1 of Adam: after one step the first moment is (1 - b1) times the gradient
_PRECISION = {'highest': 'highest', 'tf32': 'tensorfloat32'}


def set_precision(precision: str) -> None:
    """Sets how float32 products are computed: 'highest' or 'tf32'."""
    jax.config.update('jax_default_matmul_precision', _PRECISION[precision])


def initial_weights(network: tasks.Network) -> tuple[inputs.Arrays, inputs.Arrays]:
    """Returns a random θ and the loss network, as arrays by name."""
    theta = transformer.init(jax.random.key(0), width=network.width, blocks=network.blocks)
    if network.vgg_width:
        loss_network = vgg.random(jax.random.key(1), width=network.vgg_width)
    else:
        loss_network = vgg.load()
    return by_name(theta), by_name(loss_network)


def by_name(tree: PyTree) -> inputs.Arrays:
    """Returns the leaves of a pytree by name, as float32."""
    leaves = (np.asarray(leaf).astype(np.float32) for leaf in jax.tree.leaves(tree))
    return dict(zip(trees.names(tree), leaves, strict=True))


def from_names(arrays: inputs.Arrays) -> Params:
    """Builds nested dicts from arrays by name; the inverse of `by_name`."""
    tree: dict[str, Any] = {}
    for name, array in arrays.items():
        *folders, last = name.split('/')
        functools.reduce(lambda node, part: node.setdefault(part, {}), folders, tree)[last] = (
            jnp.asarray(array)
        )
    return tree


class Stylize:
    """Runs `jax.jit(transformer.apply)` on images that are already on the device."""

    def __init__(self, task: tasks.Task, theta: Params, loss_network: Params) -> None:
        del loss_network
        cast = functools.partial(jax.tree.map, lambda leaf: leaf.astype(task.dtype))
        pixels = inputs.images(task.batch, task.size, seed=0)
        self._args = cast(theta), cast(jnp.asarray(batching.as_float(pixels)))
        self._step = jax.jit(transformer.apply)
        self._images: Any = None

    def call(self) -> None:
        """Starts one run."""
        self._images = self._step(*self._args)

    def wait(self) -> None:
        """Blocks until all runs are done."""
        jax.block_until_ready(self._images)

    def answer(self) -> inputs.Arrays:
        """Returns the stylized images."""
        return {'images': np.asarray(self._images).astype(np.float32)}

    def temporary(self) -> int | None:
        """Returns the temporary bytes of the compiled program; None if unknown."""
        return _temporary(self._step.lower, *self._args)


class Adapt:
    """`adaptation_step.adapt_step`, from the bytes of a batch on."""

    def __init__(self, task: tasks.Task, theta: Params, loss_network: Params) -> None:
        style = batching.as_float(inputs.images(1, task.size, seed=3))
        grams = jax.jit(gram.of_image)(loss_network, style[0])
        self._state, fixed, self._plan = start(theta, 'all', schedule='constant')
        self._pixels = inputs.images(task.batch, task.size, seed=0)
        weights = StepScalars(1e-3, loss_weights.CONTENT_WEIGHT, loss_weights.STYLE_WEIGHT)
        self._rest = fixed, loss_network, grams, weights

    def _args(self) -> tuple:
        fixed, loss_network, grams, weights = self._rest
        return self._state, fixed, loss_network, jnp.asarray(self._pixels), grams, weights

    def call(self) -> None:
        """Starts one run."""
        self._state, _ = adapt_step(*self._args(), plan=self._plan)

    def wait(self) -> None:
        """Blocks until all runs are done."""
        jax.block_until_ready(self._state)

    def answer(self) -> inputs.Arrays:
        """Returns the gradient of the first step."""
        moments = optax.tree.get(self._state.adam.others, 'mu')
        return {name: np.asarray(mu) / (1 - ADAM) for name, mu in moments.items()}

    def temporary(self) -> int | None:
        """Returns the temporary bytes of the compiled program; None if unknown."""
        lower = functools.partial(adapt_step.lower, plan=self._plan)
        return _temporary(lower, *self._args())


class MetaStep:
    """Runs `outer_step.train_step` by `sharding.spread` on one device, from a batch of bytes.

    Args:
        task: the meta-step.
        theta: parameters of the transformer.
        loss_network: weights of the loss network.
        variant: 'ours', or a variant that computes the same gradient in another way.
    """

    def __init__(
        self, task: tasks.Task, theta: Params, loss_network: Params, variant: str = 'ours'
    ) -> None:
        config = meta_config(task, variant)
        optimizer = optimizers.outer_optimizer(config)
        zero = jnp.zeros((), jnp.int32)
        opt_state = optimizer.init(meta.Meta(theta))
        state = training_state.TrainingState(zero, theta, None, opt_state, jax.random.key(0))
        self._state, self._vgg = sharding.replicate((state, loss_network), 1)
        step = functools.partial(outer_step.train_step, config=config)
        self._run = sharding.spread(step, shared=2, devices=1)
        self.batch = _meta_batch(task)
        self._metrics: Any = None

    def call(self, batch: batching.MetaBatch | None = None) -> None:
        """Starts a step on the batch of the task, or on a given batch of the same shapes."""
        batch = self.batch if batch is None else batch
        self._state, self._metrics = self._run(self._state, self._vgg, batch)

    def wait(self) -> None:
        """Blocks until all runs are done."""
        jax.block_until_ready((self._state, self._metrics))

    def metrics(self) -> outer_step.StepMetrics:
        """Returns the metrics of the last step, on the host."""
        return jax.device_get(self._metrics)

    def answer(self) -> inputs.Arrays:
        """Returns the meta-gradient of the first step."""
        moments = optax.tree.get(self._state.opt_state, 'mu')
        return {name: mu / (1 - ADAM) for name, mu in by_name(moments.theta).items()}

    def temporary(self) -> int | None:
        """Returns the temporary bytes of the compiled program; None if unknown."""
        lower = getattr(self._run, 'lower', None)
        return lower and _temporary(lower, self._state, self._vgg, self.batch)


def build(
    task: tasks.Task, variant: str, theta: inputs.Arrays, loss_network: inputs.Arrays
) -> Stylize | Adapt | MetaStep:
    """Builds the runner of a task on our side."""
    params, vgg_params = from_names(theta), from_names(loss_network)
    if task.work == 'stylize':
        return Stylize(task, params, vgg_params)
    if task.work == 'adapt':
        return Adapt(task, params, vgg_params)
    return MetaStep(task, params, vgg_params, variant)


def meta_config(task: tasks.Task, variant: str = 'ours') -> TrainConfig:
    """Returns the paper's configuration with the sizes and the rate of a task.

    Rates do not decay and gradients are not clipped, so that the answer is the meta-gradient.
    """
    variants: dict[str, dict[str, Any]] = {
        'reverse': {'inner.mode': 'reverse'},
        'kept': {'inner.remat': False},
        'rolled': {'inner.unroll': 1},
        # With T = 1, unroll=1 would leave a loop of one iteration.
        'unrolled': {'inner.unroll': max(2, task.steps)},
    }
    order = 'first' if task.work == 'first' else 'exact'
    settings = {
        'model': {'width': task.network.width, 'blocks': task.network.blocks},
        'data': {'size': task.size, 'style_size': task.size},
        'inner': {'steps': task.steps, 'rate': task.rate, 'params': task.params, 'order': order},
        'outer': {
            'devices': 1, 'styles': task.styles, 'contents': task.batch, 'decay': 0.0, 'clip': 0.0,
        },
    }  # fmt: skip
    return values.complete(settings, variants.get(variant))


def matrix_rate(size: int, dtype: str) -> Callable[[], float]:
    """Returns a function that times a square matrix product, as a measure of the machine.

    Args:
        size: number of rows and columns.
        dtype: type of the factors.

    Returns:
        A function that computes one product and returns its seconds.
    """
    factor = jax.random.normal(jax.random.key(0), (size, size), jnp.dtype(dtype))
    product = jax.jit(jnp.matmul)
    jax.block_until_ready(product(factor, factor))

    def measure() -> float:
        begun = time.perf_counter()
        jax.block_until_ready(product(factor, factor))
        return time.perf_counter() - begun

    return measure


def device_peak() -> int | None:
    """Returns the peak of bytes in use on the device; None if the device does not tell."""
    return (jax.devices()[0].memory_stats() or {}).get('peak_bytes_in_use')


def _meta_batch(task: tasks.Task) -> batching.MetaBatch:
    """Returns the batch of a meta-step."""
    inner, outer, style = inputs.meta_batch(task)
    first, second, third = (np.zeros(a.shape[:-3], np.int32) for a in (inner, outer, style))
    return batching.MetaBatch(inner, outer, style, first, second, third)


def _temporary(lower: Callable[..., Any], *args: PyTree) -> int | None:
    """Returns the temporary bytes of a function that was compiled before."""
    analysis = lower(*args).compile().memory_analysis()
    return None if analysis is None else int(analysis.temp_size_in_bytes)
