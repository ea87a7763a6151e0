"""Input of both sides: deterministic images, and the file of weights that both load."""

import pathlib

import numpy as np
from PIL import Image

from benchmarks import tasks

Arrays = dict[str, np.ndarray]


def images(count: int, size: int, *, seed: int) -> np.ndarray:
    """Smooth random images with a little noise.

    Args:
        count: number of images, N.
        size: height and width, H and W.
        seed: seed of the random numbers.

    Returns:
        `[N, H, W, 3] uint8`.
    """
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, 8, 8, 3), np.uint8)
    smooth = [
        np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC))
        for image in coarse
    ]
    noisy = np.stack(smooth) + rng.normal(0, 6, (count, size, size, 3))
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def meta_batch(task: tasks.Task) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the images of a meta-step.

    Returns:
        `inner [S, T, N, H, W, 3]`, `outer [S, N, H, W, 3]` and `style [S, H, W, 3]`, uint8.
    """
    S, T, N, side = task.styles, task.steps, task.batch, task.size
    shape = (side, side, 3)
    inner = images(S * T * N, side, seed=1).reshape(S, T, N, *shape)
    outer = images(S * N, side, seed=2).reshape(S, N, *shape)
    return inner, outer, images(S, side, seed=3)


def write_weights(file: pathlib.Path, theta: Arrays, vgg: Arrays) -> None:
    """Writes θ and the loss network as arrays by name, such as 'down1/conv/kernel' (HWIO)."""
    parts = {'theta': theta, 'vgg': vgg}
    flat = {f'{part}/{name}': a for part, arrays in parts.items() for name, a in arrays.items()}
    np.savez(file, **flat)  # type: ignore[arg-type]


def read_weights(file: pathlib.Path) -> tuple[Arrays, Arrays]:
    """Reads θ and the loss network as arrays by name."""
    with np.load(file) as opened:
        flat = dict(opened)
    return _part(flat, 'theta/'), _part(flat, 'vgg/')


def _part(flat: Arrays, prefix: str) -> Arrays:
    """Returns the arrays whose names begin with a prefix, and removes it from the names."""
    return {name.removeprefix(prefix): a for name, a in flat.items() if name.startswith(prefix)}
