"""PyTorch's side of each task, in the variants that PyTorch offers.

eager          autograd, with `create_graph=True` in the inner steps for the exact meta-gradient
malloc         eager, but the process keeps freed memory, as the commands of this package do
channels_last  eager, with kernels and images in channels-last memory
compile        `torch.compile` of the network or of the loss
func           nested `torch.func.grad`
compile_func   `torch.compile` of nested `torch.func.grad`
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch

from benchmarks import inputs, peer, tasks

RATE = 1e-3  # of Adam
ADAM = 0.9  # b1 of Adam: after one step the first moment is (1 - b1) times the gradient
Loss = Callable[..., peer.Tensor]


class Goal(NamedTuple):
    """A content batch of one style, `[N, 3, H, W]`, and the targets of its loss."""

    contents: peer.Tensor
    content: peer.Tensor
    grams: Sequence[peer.Tensor]


def set_precision(precision: str) -> None:
    """Sets the precision of float32 products, and lets cuDNN choose the fastest algorithm."""
    torch.set_float32_matmul_precision('high' if precision == 'tf32' else 'highest')
    torch.backends.cudnn.allow_tf32 = precision == 'tf32'
    torch.backends.cudnn.benchmark = True


class Side:
    """Base of all tasks: device, memory format and weights.

    Args:
        task: the task.
        variant: one of the variants above.
        theta: parameters of the transformer by name.
        loss_network: weights of the loss network by name.
    """

    def __init__(
        self, task: tasks.Task, variant: str, theta: inputs.Arrays, loss_network: inputs.Arrays
    ) -> None:
        self.device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
        self.layout = torch.channels_last if variant == 'channels_last' else torch.contiguous_format
        self.params = self._laid_out(peer.from_arrays(theta, self.device))
        self.vgg = self._laid_out(peer.from_arrays(loss_network, self.device))

    def _laid_out(self, params: peer.Params) -> peer.Params:
        """Converts kernels to the memory format of this variant."""
        return {
            name: p.contiguous(memory_format=self.layout) if p.ndim == 4 else p
            for name, p in params.items()
        }

    def images(self, pixels: np.ndarray) -> peer.Tensor:
        """Converts images `[N, 3, H, W] uint8` on the host to floats in 0..1 on the device."""
        tensor = torch.from_numpy(pixels).to(self.device)
        return (tensor.float() / 255).contiguous(memory_format=self.layout)

    def wait(self) -> None:
        """Blocks until all runs are done."""
        if self.device.type == 'cuda':
            torch.cuda.synchronize()

    def release(self) -> None:
        """Returns unused memory of this process to the device, for the other workers."""
        if self.device.type == 'cuda':
            torch.cuda.empty_cache()

    def temporary(self) -> None:
        """Returns None, because PyTorch does not tell."""


class Stylize(Side):
    """Applies the transformer without gradients to images that are already on the device."""

    def __init__(
        self, task: tasks.Task, variant: str, theta: inputs.Arrays, loss_network: inputs.Arrays
    ) -> None:
        super().__init__(task, variant, theta, loss_network)
        dtype = getattr(torch, task.dtype)
        self._params = {name: p.to(dtype) for name, p in self.params.items()}
        pixels = channels_first(inputs.images(task.batch, task.size, seed=0))
        self._input = self.images(pixels).to(dtype)
        self._step = torch.compile(peer.stylize) if variant == 'compile' else peer.stylize
        self._output = self._input

    def call(self) -> None:
        """Starts one run."""
        with torch.inference_mode():
            self._output = self._step(self._params, self._input)

    def answer(self) -> inputs.Arrays:
        """Returns the stylized images."""
        return {'images': self._output.float().cpu().numpy().transpose(0, 2, 3, 1)}


class Learner(Side):
    """Base of the tasks that end with a step of Adam."""

    def __init__(
        self, task: tasks.Task, variant: str, theta: inputs.Arrays, loss_network: inputs.Arrays
    ) -> None:
        super().__init__(task, variant, theta, loss_network)
        for p in self.params.values():
            p.requires_grad_()
        self.optimizer = torch.optim.Adam(self.params.values(), lr=RATE)
        self.loss: Loss = torch.compile(peer.loss) if variant == 'compile' else peer.loss
        self.functional = variant in ('func', 'compile_func')

    def step(self, gradients: peer.Params) -> None:
        """One step of Adam."""
        for name, p in self.params.items():
            p.grad = gradients[name]
        self.optimizer.step()

    def answer(self) -> inputs.Arrays:
        """Returns the gradient of the first step."""
        moments = {name: self.optimizer.state[p]['exp_avg'] for name, p in self.params.items()}
        return {name: mu / (1 - ADAM) for name, mu in peer.to_arrays(moments).items()}

    def frozen(self) -> peer.Params:
        """Returns θ without autograd graph, for `torch.func`."""
        return {name: p.detach() for name, p in self.params.items()}


class Adapt(Learner):
    """One step of Adam on one batch of one style."""

    def __init__(
        self, task: tasks.Task, variant: str, theta: inputs.Arrays, loss_network: inputs.Arrays
    ) -> None:
        super().__init__(task, variant, theta, loss_network)
        self._pixels = channels_first(inputs.images(task.batch, task.size, seed=0))
        style = self.images(channels_first(inputs.images(1, task.size, seed=3)))
        with torch.no_grad():
            self._grams = [peer.gram(maps)[0] for maps in peer.features(self.vgg, style)]

    def call(self) -> None:
        """Starts one run."""
        contents = self.images(self._pixels)
        with torch.no_grad():
            content = peer.content_features(self.vgg, contents)
        goal = Goal(contents, content, self._grams)
        if self.functional:
            self.step(torch.func.grad(self.loss)(self.frozen(), self.vgg, *goal))
        else:
            gradients = torch.autograd.grad(
                self.loss(self.params, self.vgg, *goal), tuple(self.params.values())
            )
            self.step(dict(zip(self.params, gradients, strict=True)))


class MetaStep(Learner):
    """One meta-step: targets, T inner steps of SGD, outer gradient, mean over styles, Adam."""

    def __init__(
        self, task: tasks.Task, variant: str, theta: inputs.Arrays, loss_network: inputs.Arrays
    ) -> None:
        super().__init__(task, variant, theta, loss_network)
        inner, outer, style = inputs.meta_batch(task)
        # All contents of each style, `[S, T + 1, N, 3, H, W]`; the outer batch is the last one.
        self._contents = channels_first(np.concatenate([inner, outer[:, None]], axis=1))
        self._styles = channels_first(style)
        self._fast = [n for n in self.params if task.params == 'all' or 'norm' in n.split('/')]
        self._rate = task.rate
        self._exact = task.work == 'exact'
        gradient = self._by_func if self.functional else self._by_autograd
        self._gradient = torch.compile(gradient) if variant == 'compile_func' else gradient

    def call(self) -> None:
        """Starts one run."""
        total: peer.Params = {}
        for pixels, style in zip(self._contents, self._styles, strict=True):
            found = self._gradient(self._goals(pixels, style))
            total = {n: total[n] + found[n] for n in found} if total else found
        self.step({name: g / len(self._styles) for name, g in total.items()})

    def _goals(self, pixels: np.ndarray, style: np.ndarray) -> list[Goal]:
        """Returns the batches of the T inner steps and of the outer loss, with their targets."""
        steps, count = pixels.shape[:2]
        flat = self.images(pixels.reshape(-1, *pixels.shape[2:]))
        with torch.no_grad():
            content = peer.content_features(self.vgg, flat)
            maps = peer.features(self.vgg, self.images(style[None]))
            grams = [peer.gram(layer)[0] for layer in maps]
        pairs = zip(flat.split(count), content.split(count), strict=True)
        return [Goal(contents, features, grams) for contents, features in pairs]

    def _by_autograd(self, goals: list[Goal]) -> peer.Params:
        """Computes the meta-gradient by double backward, through the inner gradients."""
        params = dict(self.params)
        for goal in goals[:-1]:
            moving = [params[name] for name in self._fast]
            if not self._exact:
                # First order: the inner gradient is a constant for the outer derivative.
                moving = [p.detach().requires_grad_() for p in moving]
            inside = params | dict(zip(self._fast, moving, strict=True))
            value = self.loss(inside, self.vgg, *goal)
            gradients = torch.autograd.grad(value, moving, create_graph=self._exact)
            for name, g in zip(self._fast, gradients, strict=True):
                params[name] = params[name] - self._rate * g
        value = self.loss(params, self.vgg, *goals[-1])
        gradients = torch.autograd.grad(value, tuple(self.params.values()))
        return dict(zip(self.params, gradients, strict=True))

    def _by_func(self, goals: list[Goal]) -> peer.Params:
        """Computes the meta-gradient by nested `torch.func.grad`."""

        def outer(theta: peer.Params) -> peer.Tensor:
            params = dict(theta)
            for goal in goals[:-1]:
                slow = {n: p for n, p in params.items() if n not in self._fast}
                fast = {name: params[name] for name in self._fast}
                gradients = torch.func.grad(inner)(fast, slow, goal)
                for name, g in gradients.items():
                    params[name] = fast[name] - self._rate * (g if self._exact else g.detach())
            return self.loss(params, self.vgg, *goals[-1])

        def inner(fast: peer.Params, slow: peer.Params, goal: Goal) -> peer.Tensor:
            return self.loss(fast | slow, self.vgg, *goal)

        return torch.func.grad(outer)(self.frozen())


def build(
    task: tasks.Task, variant: str, theta: inputs.Arrays, loss_network: inputs.Arrays
) -> Side:
    """Builds the runner of a task on PyTorch's side."""
    kinds = {'stylize': Stylize, 'adapt': Adapt}
    return kinds.get(task.work, MetaStep)(task, variant, theta, loss_network)


def channels_first(pixels: np.ndarray) -> np.ndarray:
    """Moves the channels of `[..., H, W, 3]` to `[..., 3, H, W]`."""
    return np.ascontiguousarray(np.moveaxis(pixels, -1, -3))


def device_peak() -> int | None:
    """Returns the peak of bytes in use on the GPU since `reset_peak`; None without GPU."""
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None


def reset_peak() -> None:
    """Resets the peak of bytes in use on the GPU."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
