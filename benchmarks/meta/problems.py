"""The problems: the same parameters, batches and losses for JAX and for PyTorch.

A loss is written once. It gets the array library, `JaxOps` or `TorchOps`, as its first argument.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Task(NamedTuple):
    """A bilevel problem.

    Attributes:
        name: name of the problem, with T.
        loss: `(ops, params, batch) -> scalar`.
        theta: dict of float32 arrays.
        inner: inner batches, leaves `[T, ...]`; `[S, T, ...]` with S tasks.
        outer: outer batch; leaves `[S, ...]` with S tasks.
        optimizer: 'sgd' or 'adam'.
        rate: learning rate of the inner optimizer.
        tasks: S, or 0 for a single task without such an axis.
    """

    name: str
    loss: Callable[..., Any]
    theta: dict[str, np.ndarray]
    inner: Any
    outer: Any
    optimizer: str
    rate: float
    tasks: int = 0


class JaxOps:
    """Operations that JAX and PyTorch spell differently, for JAX."""

    tanh, mean, gelu = jnp.tanh, jnp.mean, jax.nn.gelu
    softmax, log_softmax = jax.nn.softmax, jax.nn.log_softmax
    swap = staticmethod(lambda x: jnp.swapaxes(x, -1, -2))
    heads = staticmethod(lambda x, n: x.reshape(*x.shape[:2], n, -1).transpose(0, 2, 1, 3))
    join = staticmethod(lambda x: x.transpose(0, 2, 1, 3).reshape(x.shape[0], x.shape[2], -1))
    pick = staticmethod(lambda x, i: jnp.take_along_axis(x, i[..., None], -1))
    embed = staticmethod(lambda table, i: table[i])
    mask = staticmethod(lambda x: jnp.where(np.tril(np.ones(x.shape[-2:], bool)), x, -1e9))

    @staticmethod
    def convolve(x: Any, kernel: Any) -> Any:
        """A 3×3 convolution with stride 2; x is NHWC, the kernel HWIO."""
        return jax.lax.conv_general_dilated(
            x, kernel, (2, 2), ((1, 1), (1, 1)), dimension_numbers=('NHWC', 'HWIO', 'NHWC')
        )


def dense(ops: Any, params: dict[str, Any], batch: Any) -> Any:
    """Mean squared error of a network with tanh."""
    x, y = batch
    layers = sum(name.startswith('w') for name in params)
    for i in range(layers):
        x = x @ params[f'w{i}'] + params[f'b{i}']
        x = ops.tanh(x) if i < layers - 1 else x
    return ops.mean((x - y) ** 2)


def convolutional(ops: Any, params: dict[str, Any], batch: Any) -> Any:
    """Cross-entropy of a network of convolutions with batch statistics, for few-shot learning."""
    x, labels = batch
    for i in range(4):
        x = ops.convolve(x, params[f'k{i}'])
        mean = x.mean((0, 1, 2))
        x = (x - mean) / (((x - mean) ** 2).mean((0, 1, 2)) + 1e-3) ** 0.5
        x = ops.tanh(x * params[f's{i}'] + params[f'b{i}'])
    logits = ops.log_softmax(x.mean((1, 2)) @ params['w'], -1)
    return -ops.mean(ops.pick(logits, labels))


def language(ops: Any, params: dict[str, Any], tokens: Any) -> Any:
    """Cross-entropy of a transformer language model with two layers and four heads."""
    x = ops.embed(params['embedding'], tokens[:, :-1]) + params['position']

    def norm(x, scale):
        x = x - x.mean(-1)[..., None]
        return x / ((x**2).mean(-1)[..., None] + 1e-5) ** 0.5 * scale

    for i in range(2):
        h = norm(x, params[f'n{i}'])
        q, k, v = (ops.heads(h @ params[f'{name}{i}'], 4) for name in 'qkv')
        scores = ops.mask(q @ ops.swap(k) / q.shape[-1] ** 0.5)
        weights = ops.softmax(scores, -1)
        x = x + ops.join(weights @ v) @ params[f'o{i}']
        x = x + ops.gelu(norm(x, params[f'm{i}']) @ params[f'u{i}']) @ params[f'd{i}']
    logits = ops.log_softmax(x @ params['out'], -1)
    return -ops.mean(ops.pick(logits, tokens[:, 1:]))


def _normal(seed: int, *shape: int, scale: float = 1.0) -> np.ndarray:
    return (scale * np.random.default_rng(seed).normal(size=shape)).astype(np.float32)


def _dense_theta(sizes: tuple[int, ...]) -> dict[str, np.ndarray]:
    pairs = list(zip(sizes, sizes[1:], strict=False))
    kernels = {f'w{i}': _normal(i, a, b, scale=a**-0.5) for i, (a, b) in enumerate(pairs)}
    return kernels | {f'b{i}': np.zeros((1, b), np.float32) for i, (_, b) in enumerate(pairs)}


def sinusoid(steps: int) -> Task:
    """MAML on sinusoids: 25 tasks of 10 points, a network 1-40-40-1."""
    inner = _normal(1, 25, steps, 10, 1), _normal(2, 25, steps, 10, 1)
    outer = _normal(3, 25, 10, 1), _normal(4, 25, 10, 1)
    theta = _dense_theta((1, 40, 40, 1))
    return Task(f'sinusoid, T = {steps}', dense, theta, inner, outer, 'sgd', 0.01, 25)


def mlp(steps: int) -> Task:
    """A network 784-256-256-10, batches of 32."""
    inner = _normal(1, steps, 32, 784), _normal(2, steps, 32, 10)
    outer = _normal(3, 32, 784), _normal(4, 32, 10)
    theta = _dense_theta((784, 256, 256, 10))
    return Task(f'MLP, T = {steps}', dense, theta, inner, outer, 'sgd', 0.01)


def few_shot(steps: int) -> Task:
    """5-way 5-shot classification of images of 28², four convolutions of 32 channels."""
    labels = np.random.default_rng(0).integers(0, 5, (steps + 1, 25))
    images = _normal(1, steps + 1, 25, 28, 28, 1)
    theta = {'w': _normal(2, 32, 5, scale=0.2)}
    for i in range(4):
        channels = 32 if i else 1
        theta[f'k{i}'] = _normal(3 + i, 3, 3, channels, 32, scale=(9 * channels) ** -0.5)
        theta |= {f's{i}': np.ones(32, np.float32), f'b{i}': np.zeros(32, np.float32)}
    inner, outer = (images[:-1], labels[:-1]), (images[-1], labels[-1])
    return Task(f'few-shot, T = {steps}', convolutional, theta, inner, outer, 'sgd', 0.1)


def language_model(steps: int) -> Task:
    """A transformer of width 128 on 8 texts of 64 tokens, with Adam as the inner optimizer."""
    width, words = 128, 256
    theta = {
        'embedding': _normal(0, words, width, scale=0.1),
        'position': _normal(1, 64, width, scale=0.1),
        'out': _normal(2, width, words, scale=width**-0.5),
    }
    for i in range(2):
        theta |= {f'n{i}': np.ones(width, np.float32), f'm{i}': np.ones(width, np.float32)}
        for j, name in enumerate('qkvo'):
            theta[f'{name}{i}'] = _normal(10 * i + j, width, width, scale=width**-0.5)
        theta[f'u{i}'] = _normal(30 + i, width, 4 * width, scale=width**-0.5)
        theta[f'd{i}'] = _normal(40 + i, 4 * width, width, scale=(4 * width) ** -0.5)
    tokens = np.random.default_rng(0).integers(0, words, (steps + 1, 8, 65))
    return Task(
        f'language model, T = {steps}', language, theta, tokens[:-1], tokens[-1], 'adam', 1e-3
    )


def all_tasks() -> Iterator[Task]:
    """Every problem, small ones first."""
    yield from map(sinusoid, (1, 5))
    yield few_shot(5)
    yield from map(language_model, (2, 4, 8))
    yield from map(mlp, (20, 100))
