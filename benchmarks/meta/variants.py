"""How each peer computes the meta-gradient of a problem."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.meta import problems
from metastyle_jax import meta

EPS_ROOT = 1e-8


class Runner(NamedTuple):
    """A prepared variant.

    Attributes:
        run: computes the meta-gradient, `() -> dict of arrays`, and waits for it.
        bytes: temporary memory of the compiled program, or None.
    """

    run: Callable[[], dict[str, Any]]
    bytes: int | None


def _optimizer(task: problems.Task) -> optax.GradientTransformation:
    if task.optimizer == 'adam':
        return optax.adam(task.rate, eps_root=EPS_ROOT)
    return optax.sgd(task.rate)


def _plain(task: problems.Task, checkpoint: bool) -> Callable[..., Any]:
    """`jax.grad` through a `lax.scan`, as one would write it by hand."""
    loss, optimizer = functools.partial(task.loss, problems.JaxOps), _optimizer(task)

    def step(carry, batch):
        params, state = carry
        updates, state = optimizer.update(jax.grad(loss)(params, batch), state, params)
        return (optax.apply_updates(params, updates), state), None

    def objective(theta, inner, outer):
        body = jax.checkpoint(step) if checkpoint else step
        (params, _), _ = jax.lax.scan(body, (theta, optimizer.init(theta)), inner)
        return loss(params, outer)

    return jax.grad(objective)


def _ours(task: problems.Task, **options: Any) -> Callable[..., Any]:
    loss = functools.partial(task.loss, problems.JaxOps)
    return lambda theta, inner, outer: (
        meta.meta_gradient(
            meta.Meta(theta), inner, outer, inner_loss=loss, optimizer=_optimizer(task), **options
        ).gradient.theta
    )


JAX: dict[str, Callable[[problems.Task], Callable[..., Any]]] = {
    'plain JAX': functools.partial(_plain, checkpoint=False),
    'plain JAX, checkpoint': functools.partial(_plain, checkpoint=True),
    'ours': _ours,
    'ours, mixed': functools.partial(_ours, mode='mixed'),
    'ours, remat': functools.partial(_ours, remat=True),
    'ours, mixed, remat': functools.partial(_ours, mode='mixed', remat=True),
    'ours, remat, unroll=1': functools.partial(_ours, remat=True, unroll=1),
    'ours, mixed, remat, unroll=1': functools.partial(_ours, mode='mixed', remat=True, unroll=1),
}
TORCH = ('torch.func', 'TorchOpt')


def prepare(name: str, task: problems.Task) -> Runner:
    """Compiles a variant.

    Args:
        name: of `JAX` or `TORCH`.
        task: the problem.

    Raises:
        ImportError: PyTorch or TorchOpt is not installed.
    """
    if name in TORCH:
        return _prepare_torch(name, task)
    one = JAX[name](task)

    def gradient(theta, inner, outer):
        if not task.tasks:
            return one(theta, inner, outer)
        each = jax.vmap(one, (None, 0, 0))(theta, inner, outer)
        return jax.tree.map(lambda x: jnp.mean(x, axis=0), each)

    given = jax.tree.map(jnp.asarray, (task.theta, task.inner, task.outer))
    compiled = jax.jit(gradient).lower(*given).compile()
    memory = compiled.memory_analysis()
    size = getattr(memory, 'temp_size_in_bytes', None)
    return Runner(lambda: jax.block_until_ready(compiled(*given)), size)


def _prepare_torch(name: str, task: problems.Task) -> Runner:
    import torch

    ops = _torch_ops()
    tensor = lambda x: torch.from_numpy(np.array(x))
    theta, inner, outer = jax.tree.map(tensor, (task.theta, task.inner, task.outer))
    loss = functools.partial(task.loss, ops)
    objective = {'torch.func': _torch_func, 'TorchOpt': _torchopt}[name](task, loss)

    def run():
        at = {key: x.clone().requires_grad_() for key, x in theta.items()}
        if task.tasks:
            pick = lambda i: jax.tree.map(lambda x: x[i], (inner, outer))
            value = sum(objective(at, *pick(i)) for i in range(task.tasks)) / task.tasks
        else:
            value = objective(at, inner, outer)
        grads = torch.autograd.grad(value, list(at.values()))
        return {key: g.numpy() for key, g in zip(at, grads, strict=True)}

    return Runner(run, None)


def _torch_ops() -> Any:
    """The operations of `problems.JaxOps`, for PyTorch."""
    import torch

    class TorchOps:
        tanh, mean = torch.tanh, torch.mean
        softmax, log_softmax = torch.softmax, torch.log_softmax
        gelu = staticmethod(lambda x: torch.nn.functional.gelu(x, approximate='tanh'))
        swap = staticmethod(lambda x: x.transpose(-1, -2))
        heads = staticmethod(lambda x, n: x.reshape(*x.shape[:2], n, -1).transpose(1, 2))
        join = staticmethod(lambda x: x.transpose(1, 2).reshape(x.shape[0], x.shape[2], -1))
        pick = staticmethod(lambda x, i: torch.gather(x, -1, i[..., None]))
        embed = staticmethod(lambda table, i: torch.nn.functional.embedding(i, table))
        mask = staticmethod(lambda x: x.masked_fill(torch.ones(x.shape[-2:]).tril() == 0, -1e9))
        convolve = staticmethod(
            lambda x, k: torch.nn.functional.conv2d(
                x.permute(0, 3, 1, 2), k.permute(3, 2, 0, 1), stride=2, padding=1
            ).permute(0, 2, 3, 1)
        )

    return TorchOps


def _torch_func(task: problems.Task, loss: Callable[..., Any]) -> Callable[..., Any]:
    """The inner gradients by `torch.func.grad`, the updates by hand."""
    import torch

    def objective(params, inner, outer):
        mu = {key: torch.zeros_like(x) for key, x in params.items()}
        nu = dict(mu)
        for t in range(len(jax.tree.leaves(inner)[0])):
            batch = jax.tree.map(lambda x, t=t: x[t], inner)
            grads = torch.func.grad(loss)(params, batch)
            if task.optimizer == 'adam':
                mu = {key: 0.9 * mu[key] + 0.1 * g for key, g in grads.items()}
                nu = {key: 0.999 * nu[key] + 0.001 * g**2 for key, g in grads.items()}
                first, second = 1 - 0.9 ** (t + 1), 1 - 0.999 ** (t + 1)
                grads = {
                    key: mu[key] / first / ((nu[key] / second + EPS_ROOT) ** 0.5 + 1e-8)
                    for key in grads
                }
            params = {key: x - task.rate * grads[key] for key, x in params.items()}
        return loss(params, outer)

    return objective


def _torchopt(task: problems.Task, loss: Callable[..., Any]) -> Callable[..., Any]:
    """The functional optimizers of TorchOpt, with `torch.autograd.grad(create_graph=True)`."""
    import torch
    import torchopt

    make = {
        'sgd': lambda: torchopt.sgd(task.rate),
        'adam': lambda: torchopt.adam(task.rate, eps_root=EPS_ROOT),
    }[task.optimizer]

    def objective(params, inner, outer):
        optimizer = make()
        state = optimizer.init(params)
        for t in range(len(jax.tree.leaves(inner)[0])):
            batch = jax.tree.map(lambda x, t=t: x[t], inner)
            value = loss(params, batch)
            found = torch.autograd.grad(value, list(params.values()), create_graph=True)
            grads = dict(zip(params, found, strict=True))
            updates, state = optimizer.update(grads, state, params=params, inplace=False)
            params = torchopt.apply_updates(params, updates, inplace=False)
        return loss(params, outer)

    return objective
