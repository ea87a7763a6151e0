"""The worker process of one system, size and side: `python -m benchmarks.poster.worker JOB`.

JOB is JSON. The worker prepares the system, answers with one line of JSON, and then answers each
line that it reads from its standard input:

    {"do": "style"}     -> {"seconds": 0.12}    of encoding the style image
    {"do": "picture"}   -> {"seconds": 0.34}    of stylizing one picture in that style
"""

import json
import sys
import time
from typing import Any, NamedTuple

import numpy as np

from benchmarks import inputs, worker

SIDES = ('ours', 'torch')
ALPHA = 1.0
# WCT divides by roots of eigenvalues, down to a millionth of the largest one, five times in a row.
# In float32 this amplifies rounding to several percent, so its pictures are compared in float64.
IN_FLOAT64 = ('wct',)


class SideJob(NamedTuple):
    """The work of a worker process.

    Attributes:
        side: one of `SIDES`.
        system: name of the system.
        size: height and width of the content and of the style image.
        weights: file of weights; our side writes it.
        answer: file for the picture, in which both sides must agree.
        encoder: encoder of the system.
        width: channels of its first convolution.
        precision: precision of float32 products, 'highest' or 'tf32'.
    """

    side: str
    system: str
    size: int
    weights: str
    answer: str
    encoder: str = 'vgg19'
    width: int = 64
    precision: str = 'highest'


def pictures(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the style image `[1, H, W, 3]` and the content of the same shape, in 0..1."""
    style, content = (inputs.images(1, size, seed=seed).astype(np.float32) / 255 for seed in (3, 0))
    return style, content


class Ours:
    """A system of this package.

    Args:
        job: the work.
    """

    def __init__(self, job: SideJob) -> None:
        import jax

        from benchmarks import ours
        from metastyle_jax.baselines import systems
        from metastyle_jax.storage import tensor_files

        ours.set_precision(job.precision)
        self._system = system = systems.get(job.system, encoder=job.encoder, width=job.width)
        self._wait = jax.block_until_ready
        self._params = vivid(jax.jit(system.init)(jax.random.key(0)))
        np.savez(job.weights, **tensor_files.flatten(self._params))  # type: ignore[arg-type]
        style, content = pictures(job.size)
        self._image, self._content = jax.device_put((style[0], content))
        self._encode = jax.jit(system.encode_style).lower(self._params, self._image).compile()
        self.style()
        args = self._params, self._style, self._content, ALPHA
        self._apply = jax.jit(system.apply).lower(*args).compile()
        used = [x.memory_analysis() for x in (self._encode, self._apply)]
        self.temporary = max((x.temp_size_in_bytes for x in used if x), default=None)

    def style(self) -> None:
        """Encodes the style image."""
        self._style = self._wait(self._encode(self._params, self._image))

    def picture(self) -> np.ndarray:
        """Stylizes the content; returns `[1, H, W, 3]`."""
        return np.asarray(self._apply(self._params, self._style, self._content, ALPHA))

    def picture_in_float64(self) -> np.ndarray:
        """Does the same in float64, by programs of its own."""
        import jax

        with jax.enable_x64(True):
            args = jax.tree.map(
                lambda x: np.asarray(x, np.float64), (self._params, self._image, self._content)
            )
            style = jax.jit(self._system.encode_style)(*args[:2])
            return np.asarray(jax.jit(self._system.apply)(args[0], style, args[2], ALPHA))


def vivid(params: Any) -> Any:
    """Makes the pictures of random decoders vivid.

    Fresh decoders paint almost grey pictures, so that any two implementations would seem to agree.

    Args:
        params: random parameters of a system.

    Returns:
        The same, with a 50 times larger kernel in the last convolution of each decoder.
    """
    decoders = {'': params['decoder']} if 'decoder' in params else params.get('decoders', {})
    for decoder in decoders.values():
        last = decoder['out' if 'out' in decoder else 'conv1_1']
        last['kernel'] = 50 * last['kernel']
    return params


class Torch:
    """The peer in PyTorch.

    Args:
        job: the work.
    """

    temporary = None

    def __init__(self, job: SideJob) -> None:
        import torch

        from benchmarks.poster import peer

        torch.backends.cuda.matmul.allow_tf32 = job.precision == 'tf32'
        torch.backends.cudnn.allow_tf32 = job.precision == 'tf32'
        device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
        self._wait = torch.cuda.synchronize if device.type == 'cuda' else lambda: None
        self._inference = torch.inference_mode
        self._peer = peer.PEERS[job.system]
        with np.load(job.weights) as arrays:
            self._params = peer.from_arrays(_nest(dict(arrays)), device)
        self._image, self._content = (
            torch.tensor(x.transpose(0, 3, 1, 2).copy(), device=device) for x in pictures(job.size)
        )
        self.style()

    def style(self) -> None:
        """Encodes the style image."""
        with self._inference():
            self._style = self._peer.encode_style(self._params, self._image)
            self._wait()

    def picture(self) -> np.ndarray:
        """Stylizes the content; returns `[1, H, W, 3]`."""
        with self._inference():
            found = self._peer.apply(self._params, self._style, self._content, ALPHA)
            return found.cpu().numpy().transpose(0, 2, 3, 1)

    def picture_in_float64(self) -> np.ndarray:
        """Does the same in float64."""
        kept = self._params, self._image, self._content
        self._params, self._image, self._content = _as_double(kept)
        self.style()
        found = self.picture()
        self._params, self._image, self._content = kept
        self.style()
        return found


def _as_double(tree: Any) -> Any:
    """Converts the tensors of dicts and tuples to float64."""
    if isinstance(tree, dict):
        return {name: _as_double(part) for name, part in tree.items()}
    return tuple(map(_as_double, tree)) if isinstance(tree, tuple) else tree.double()


def _nest(flat: dict[str, np.ndarray]) -> dict[str, Any]:
    """Turns names such as 'encoder/conv1_1/kernel' into a dict of dicts."""
    tree: dict[str, Any] = {}
    for name, array in flat.items():
        *scopes, leaf = name.split('/')
        module = tree
        for scope in scopes:
            module = module.setdefault(scope, {})
        module[leaf] = array
    return tree


def main() -> None:
    """Answers requests until the standard input ends."""
    job = SideJob(**json.loads(sys.argv[1]))
    sides: list[Ours | Torch] = []

    def prepare() -> dict[str, Any]:
        before = worker.resident('VmRSS')
        side = Ours(job) if job.side == 'ours' else Torch(job)
        sides.append(side)
        found = side.picture()
        exact = job.system in IN_FLOAT64
        np.save(job.answer, side.picture_in_float64() if exact else found)
        worker.reset_resident()
        side.style()
        side.picture()
        peak = worker.resident('VmHWM')
        return {'resident': peak, 'working': peak - before, 'temporary': side.temporary}

    def respond(command: dict[str, Any]) -> dict[str, Any]:
        act = {'style': sides[0].style, 'picture': sides[0].picture}[command['do']]
        begun = time.perf_counter()
        act()
        return {'seconds': time.perf_counter() - begun}

    worker.serve(prepare, respond)


if __name__ == '__main__':
    main()
