"""Trees, pictures and weights that several test files use."""

import importlib
import os
import pathlib
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from PIL import Image

from metastyle_jax import __main__
from metastyle_jax.core import types
from metastyle_jax.models import vgg_weights

ROOT = pathlib.Path(types.__file__).parents[2]


def make_params(seed=0):
    keys = jax.random.split(jax.random.key(seed), 3)
    return {
        'conv': {'kernel': jax.random.normal(keys[0], (3, 3, 2, 4))},
        'norm': {
            'scale': jax.random.normal(keys[1], (4,)),
            'bias': jax.random.normal(keys[2], (4,)),
        },
    }


def assert_identical(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert type(x) is type(y)
        if hasattr(y, 'dtype') and jnp.issubdtype(y.dtype, jax.dtypes.prng_key):
            assert x.dtype == y.dtype
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        assert np.asarray(x).dtype == np.asarray(y).dtype
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


def run_python(code, *args, **options):
    """Runs code in a process of its own, on one device unless `xla_flags` say otherwise."""
    paths = os.pathsep.join(map(str, (ROOT, pathlib.Path(__file__).parent)))
    env = os.environ | {'JAX_PLATFORMS': 'cpu', 'PYTHONPATH': paths}
    env['XLA_FLAGS'] = options.pop('xla_flags', '--xla_force_host_platform_device_count=1')
    command = [sys.executable, '-c', textwrap.dedent(code), *map(str, args)]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


def ramp(height=24, width=40):
    """Red rises to the right and green downwards, so that a pixel tells where it came from."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = np.linspace(0, 255, width)
    image[..., 1] = np.linspace(0, 255, height)[:, np.newaxis]
    return image


def write_image(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(ramp()).save(path)


def write_images(folder, count, *, start=0):
    for i in range(start, start + count):
        write_image(folder / f'{i:02d}.png')
    return folder


def torch_arrays(seed=2):
    """The numbers in tests/data, under torchvision's names; conv4_2 and conv4_3 are float16."""
    rng = np.random.default_rng(seed)
    arrays, channels = {}, 3
    for name, (index, _) in vgg_weights.LAYERS.items():
        width = {'conv1': 2, 'conv2': 4, 'conv3': 8, 'conv4': 16}[name[:5]]
        dtype = np.float16 if name in ('conv4_2', 'conv4_3') else np.float32
        kernel = rng.standard_normal((width, channels, 3, 3), np.float32)
        arrays[f'features.{index}.weight'] = kernel.astype(dtype)
        arrays[f'features.{index}.bias'] = rng.standard_normal(width, np.float32).astype(dtype)
        channels = width
    return arrays


def own_arrays(params):
    return {
        f'{name}/{part}': np.asarray(array)
        for name, layer in params.items()
        for part, array in layer.items()
    }


def save_arrays(file, arrays):
    if file.suffix == '.npz':
        np.savez(file, **arrays)
    else:
        arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        safetensors.numpy.save_file(arrays, file)


def run_command(name):
    """Runs a command with the words of `sys.argv`: 'adapt', 'gatys'. Returns its exit code."""
    return getattr(command_module(name), f'run_{name.replace("-", "_")}')()


def command_module(name):
    """The module behind a command: 'adapt', 'gatys'."""
    return importlib.import_module(f'metastyle_jax.{__main__.COMMANDS[name][0]}')


class Exploit:
    """An object whose pickle calls `os.mkdir` when it is loaded."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)
